"""Which instructions of a product are computed together, and by which kernel."""

from __future__ import annotations

from tensornet.interop.e3nn.arrangement import Block
from tensornet.interop.e3nn.instructions import Program
from tensornet.interop.e3nn.mixed import Mixed
from tensornet.interop.e3nn.paths import Path, blocks, seen
from tensornet.interop.e3nn.weighted import OneToMany, OneToOne

Stage = OneToMany | OneToOne | Mixed


def stages(made: Program) -> list[tuple[bool, Stage]]:
    """Sort instructions by what computes them.

    Args:
        made: Irreps and instructions.

    Returns:
        What runs, and of each whether the inputs are exchanged.
    """
    one, two, out = (blocks(s) for s in (made.irreps_in1, made.irreps_in2, made.irreps_out))
    sorted_in: list[tuple[str, bool, dict[int, Block], list[Path]]] = []
    for n, (ins, offset) in enumerate(zip(made.instructions, made.offsets(), strict=True)):
        if 0 in ins.path_shape or out[ins.i_out][0] == 0:
            continue
        path = seen(made, n, offset)
        family = _FAMILY[ins.connection_mode]
        shape = (path.mul, path.others * out[ins.i_out][1]) if path.outer else out[ins.i_out]
        for kind, turned, shapes, paths in sorted_in:
            if (kind, turned) == (family, path.turned) and shapes.get(path.out, shape) == shape:
                shapes[path.out] = shape
                paths.append(path)
                break
        else:
            sorted_in.append((family, path.turned, {path.out: shape}, [path]))
    found: list[tuple[bool, Stage]] = []
    for family, turned, shapes, paths in sorted_in:
        sides = (two, one) if turned else (one, two)
        results = [shapes.get(block, shape) for block, shape in enumerate(out)]
        stage: Stage
        if family == "one to many":
            stage = OneToMany(paths, *sides, results)
        elif family.startswith("one to one"):
            stage = OneToOne(paths, *sides, results, pairs=family.endswith("pairs"))
        else:
            stage = Mixed(paths, *sides, results, family.removeprefix("mixed "))
        found.append((turned, stage))
    return found


_FAMILY = {
    "uvu": "one to many", "uvv": "one to many", "uvuv": "one to many",
    "uuu": "one to one", "uvu<v": "one to one pairs",
    "uvw": "mixed many", "uuw": "mixed one", "u<vw": "mixed pairs",
}  # fmt: skip
