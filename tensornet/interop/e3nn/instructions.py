"""Instructions of a product of irreps, checked, with the factors e3nn gives them."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from e3nn import o3

from tensornet.interop.e3nn.coupling import Degrees, flipped

Irrep, Irreps = o3.Irrep, o3.Irreps

MODES = ("uvw", "uvu", "uvv", "uuw", "uuu", "uvuv", "uvu<v", "u<vw")
_EQUAL = {  # multiplicities that must be equal: 1, 2 and o, or what they make
    "uvw": (),
    "uvu": (("in1", "out"),),
    "uvv": (("in2", "out"),),
    "uuw": (("in1", "in2"),),
    "uuu": (("in1", "in2"), ("in1", "out")),
    "uvuv": (("in1 x in2", "out"),),
    "uvu<v": (("in1", "in2"), ("pairs of in1", "out")),
    "u<vw": (("in1", "in2"),),
}


class ProductError(ValueError, AssertionError):
    """A product that cannot be: a `ValueError`, and an `AssertionError` as e3nn raises."""


class Instruction(NamedTuple):
    """One path of a product, as e3nn stores it.

    Args:
        i_in1: Block of the first input.
        i_in2: Block of the second input.
        i_out: Block of the output.
        connection_mode: How multiplicities meet, as ``"uvu"``.
        has_weight: Whether the path has weights.
        path_weight: Factor of the path, normalisation included.
        path_shape: Shape of the weights.
    """

    i_in1: int
    i_in2: int
    i_out: int
    connection_mode: str
    has_weight: bool
    path_weight: float
    path_shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """What a product computes: irreps on three sides and instructions.

    Args:
        irreps_in1: Irreps of the first input.
        irreps_in2: Irreps of the second input.
        irreps_out: Irreps of the output.
        instructions: Paths, with their final factors.
        flipped: Degrees whose coupling has another sign than in the e3nn that is installed.
    """

    irreps_in1: Any
    irreps_in2: Any
    irreps_out: Any
    instructions: tuple[Instruction, ...]
    flipped: frozenset[Degrees] = frozenset()

    @property
    def dims(self) -> tuple[int, int, int]:
        """Numbers in a row of the two inputs and the output."""
        one, two, three = (int(s.dim) for s in (self.irreps_in1, self.irreps_in2, self.irreps_out))
        return one, two, three

    @property
    def weight_numel(self) -> int:
        """Number of weights."""
        return sum(math.prod(ins.path_shape) for ins in self.instructions if ins.has_weight)

    def offsets(self) -> list[int]:
        """Place of the first weight of each instruction."""
        places, at = [], 0
        for ins in self.instructions:
            places.append(at)
            at += math.prod(ins.path_shape) if ins.has_weight else 0
        return places

    def degrees(self, ins: Instruction) -> Degrees:
        """Degrees of the two inputs and the output of an instruction."""
        blocks = self.irreps_in1[ins.i_in1], self.irreps_in2[ins.i_in2], self.irreps_out[ins.i_out]
        one, two, three = (block.ir.l for block in blocks)
        return one, two, three


def program(
    where: str,
    irreps_in1: Any,
    irreps_in2: Any,
    irreps_out: Any,
    instructions: Iterable[Sequence[Any]],
    in1_var: Sequence[float] | torch.Tensor | None = None,
    in2_var: Sequence[float] | torch.Tensor | None = None,
    out_var: Sequence[float] | torch.Tensor | None = None,
    irrep_normalization: str | None = None,
    path_normalization: str | None = None,
    normalization: str | None = None,
) -> Program:
    """Check a product and give its paths their factors, as e3nn does.

    Args:
        where: Name of the public call, for messages; the other arguments are those of
            `TensorProduct`.
        irreps_in1: Irreps of the first input.
        irreps_in2: Irreps of the second input.
        irreps_out: Irreps of the output.
        instructions: Tuples ``(i_1, i_2, i_out, mode, train[, path_weight])``.
        in1_var: Variance of each block of the first input.
        in2_var: Variance of each block of the second input.
        out_var: Variance wanted of each block of the output.
        irrep_normalization: ``"component"``, ``"norm"`` or ``"none"``.
        path_normalization: ``"element"``, ``"path"`` or ``"none"``.
        normalization: Old name of `irrep_normalization`.

    Raises:
        ProductError: If a normalisation, variance or instruction is wrong.
        IndexError: If an instruction names a block that is not there.
    """
    if normalization is not None:
        warnings.warn(
            f"`{where}(normalization=...)` is now called `irrep_normalization`.",
            DeprecationWarning,
            stacklevel=4,
        )
        irrep_normalization = normalization
    irrep_normalization = irrep_normalization or "component"
    path_normalization = path_normalization or "element"
    _one_of(where, "irrep_normalization", irrep_normalization, ("component", "norm", "none"))
    _one_of(where, "path_normalization", path_normalization, ("element", "path", "none"))
    irreps = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
    read = [_read(where, n, ins, irreps) for n, ins in enumerate(instructions)]
    variances = [
        _variances(where, name, given, side)
        for name, given, side in zip(
            ("in1_var", "in2_var", "out_var"), (in1_var, in2_var, out_var), irreps, strict=True
        )
    ]

    def fan_in(ins: Instruction) -> float:
        return variances[0][ins.i_in1] * variances[1][ins.i_in2] * _elements(ins, irreps)

    done = []
    for ins in read:
        one, two, three = irreps[0][ins.i_in1], irreps[1][ins.i_in2], irreps[2][ins.i_out]
        square = {"component": three.ir.dim, "norm": one.ir.dim * two.ir.dim, "none": 1}
        alpha = float(square[irrep_normalization])
        peers = [other for other in read if other.i_out == ins.i_out]
        divisor = {
            "element": sum(fan_in(other) for other in peers),
            "path": fan_in(ins) * len(peers),
            "none": 1.0,
        }[path_normalization]
        alpha = alpha / divisor if divisor > 0 else alpha
        alpha *= variances[2][ins.i_out] * ins.path_weight
        if not 0 <= alpha < math.inf:
            raise ProductError(
                f"`{where}(instructions=...)` must have path weights that are finite and not "
                f"negative. Got {tuple(ins)[:6]}."
            )
        done.append(ins._replace(path_weight=math.sqrt(alpha)))
    return Program(*irreps, tuple(done))


def _one_of(where: str, name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ProductError(
            f"`{where}({name}=...)` must be one of {', '.join(allowed)}. Got {value!r}."
        )


def of_module(product: Any) -> Program:
    """Read a product of e3nn, or of ours, with the factors and signs it already has.

    Args:
        product: An `e3nn.o3.TensorProduct`, or what has its irreps and instructions.

    Raises:
        TypeError: If it is none.
    """
    needed = ("irreps_in1", "irreps_in2", "irreps_out", "instructions", "state_dict")
    if not all(hasattr(product, name) for name in needed):
        raise TypeError(
            "`from_product(product=...)` must be an e3nn.o3.TensorProduct. "
            f"Got {type(product).__name__}."
        )
    read = (Instruction(*tuple(ins)) for ins in product.instructions)
    return Program(
        Irreps(product.irreps_in1),
        Irreps(product.irreps_in2),
        Irreps(product.irreps_out),
        tuple(ins._replace(path_shape=tuple(ins.path_shape)) for ins in read),
        getattr(product, "flipped", flipped(product.state_dict())),
    )


def _read(where: str, n: int, given: Sequence[Any], irreps: tuple[Any, Any, Any]) -> Instruction:
    """Check one instruction; its path weight is still as given."""

    def refuse(must: str) -> ProductError:
        return ProductError(
            f"`{where}(instructions=...)` must {must}. Got {tuple(given)} at place {n} of "
            f"{irreps[0]} x {irreps[1]} -> {irreps[2]}."
        )

    given = tuple(given)
    if len(given) not in (5, 6):
        raise refuse("be (i_1, i_2, i_out, mode, train[, path_weight])")
    i_1, i_2, i_out, mode, train = given[:5]
    for i, side in zip((i_1, i_2, i_out), irreps, strict=True):
        if not -len(side) <= i < len(side):
            raise IndexError(str(refuse(f"name blocks that are there, fewer than {len(side)}")))
    if mode not in MODES:
        raise refuse(f"have a mode of {', '.join(MODES)}")
    i_1, i_2, i_out = (int(i) % len(s) for i, s in zip((i_1, i_2, i_out), irreps, strict=True))
    (mul_1, one), (mul_2, two), (mul_out, three) = irreps[0][i_1], irreps[1][i_2], irreps[2][i_out]
    if one.p * two.p != three.p:
        raise refuse(f"keep parity, which {one} x {two} -> {three} does not")
    if not abs(one.l - two.l) <= three.l <= one.l + two.l:
        raise refuse(f"keep the triangle rule, which {one} x {two} -> {three} does not")
    pairs = mul_1 * (mul_2 - 1) // 2
    sizes = {
        "in1": mul_1, "in2": mul_2, "out": mul_out, "in1 x in2": mul_1 * mul_2,
        "pairs of in1": pairs,
    }  # fmt: skip
    for a, b in _EQUAL[mode]:
        if sizes[a] != sizes[b]:
            raise refuse(f"have equal multiplicities of {a} and {b} for mode {mode}")
    if not train and (mode in ("uvw", "u<vw") or (mode == "uuw" and mul_out != 1)):
        raise refuse(f"have weights for mode {mode}")
    shape = {
        "uvw": (mul_1, mul_2, mul_out), "uvu": (mul_1, mul_2), "uvv": (mul_1, mul_2),
        "uuw": (mul_1, mul_out), "uuu": (mul_1,), "uvuv": (mul_1, mul_2),
        "uvu<v": (pairs,), "u<vw": (pairs, mul_out),
    }[mode]  # fmt: skip
    weight = float(given[5]) if len(given) == 6 else 1.0
    return Instruction(i_1, i_2, i_out, mode, bool(train), weight, shape)


def _elements(ins: Instruction, irreps: tuple[Any, Any, Any]) -> int:
    """How many products are summed into one number of the output."""
    mul_1, mul_2 = int(irreps[0][ins.i_in1].mul), int(irreps[1][ins.i_in2].mul)
    return {
        "uvw": mul_1 * mul_2, "uvu": mul_2, "uvv": mul_1, "uuw": mul_1, "uuu": 1, "uvuv": 1,
        "uvu<v": 1, "u<vw": mul_1 * (mul_2 - 1) // 2,
    }[ins.connection_mode]  # fmt: skip


def _variances(where: str, name: str, given: Any, irreps: Any) -> list[float]:
    if given is None:
        return [1.0] * len(irreps)
    values = [float(value) for value in given]
    if len(values) != len(irreps):
        raise ProductError(
            f"`{where}({name}=...)` must have one number per block of {irreps}, {len(irreps)}. "
            f"Got {len(values)}."
        )
    if not all(0 <= value < math.inf for value in values):
        raise ProductError(
            f"`{where}({name}=...)` must hold finite numbers of at least zero. Got {values}."
        )
    return values
