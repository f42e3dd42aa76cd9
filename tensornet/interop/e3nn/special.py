"""Products whose instructions follow from irreps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from tensornet.interop.e3nn.instructions import Irrep, Irreps, ProductError
from tensornet.interop.e3nn.product import TensorProduct, Weights

Given = tuple[int, int, int, str, bool, float]


class FullyConnectedTensorProduct(TensorProduct):
    """All paths with all multiplicities mixed: `e3nn.o3.FullyConnectedTensorProduct`.

    Args:
        irreps_in1: Irreps of the first input.
        irreps_in2: Irreps of the second input.
        irreps_out: Irreps of the output.
        irrep_normalization: As in `TensorProduct`.
        path_normalization: As in `TensorProduct`.
        kwargs: Other arguments of `TensorProduct`.

    Raises:
        ValueError: If a normalisation is unknown.

    Derivatives:
        Any order, in both inputs and the weights.

    Examples:
        >>> FullyConnectedTensorProduct("2x0e + 1o", "1o", "3x1o")
        FullyConnectedTensorProduct(2x0e+1x1o x 1x1o -> 3x1o | 6 paths | 6 weights)
    """

    def __init__(
        self,
        irreps_in1: Any,
        irreps_in2: Any,
        irreps_out: Any,
        irrep_normalization: str | None = None,
        path_normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        one, two, out = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
        instructions = [
            (i, j, k, "uvw", True, 1.0)
            for i, j in _pairs(one, two)
            for k, block in enumerate(out)
            if block.ir in one[i].ir * two[j].ir
        ]
        super().__init__(
            one, two, out, instructions,
            irrep_normalization=irrep_normalization, path_normalization=path_normalization,
            **kwargs,
        )  # fmt: skip


class ElementwiseTensorProduct(TensorProduct):
    """The u-th irrep of one input with the u-th of the other: `e3nn.o3.ElementwiseTensorProduct`.

    Args:
        irreps_in1: Irreps of the first input.
        irreps_in2: Irreps of the second input, as many.
        filter_ir_out: Irreps of the output that are kept; all by default.
        irrep_normalization: As in `TensorProduct`.
        kwargs: Other arguments of `TensorProduct`.

    Raises:
        ValueError: If the inputs have different numbers of irreps, or the filter holds no irreps.

    Derivatives:
        Any order, in both inputs.

    Examples:
        >>> ElementwiseTensorProduct("5x1o + 5x1e", "10x1e", ["0e", "0o"])
        ElementwiseTensorProduct(5x1o+5x1e x 10x1e -> 5x0o+5x0e | 10 paths | 0 weights)
    """

    def __init__(
        self,
        irreps_in1: Any,
        irreps_in2: Any,
        filter_ir_out: Iterable[Any] | None = None,
        irrep_normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        one, two = Irreps(irreps_in1).simplify(), Irreps(irreps_in2).simplify()
        kept = _kept("ElementwiseTensorProduct", filter_ir_out)
        if one.num_irreps != two.num_irreps:
            raise ProductError(
                "`ElementwiseTensorProduct(irreps_in2=...)` must have as many irreps as "
                f"`irreps_in1`, {one.num_irreps}. Got {two.num_irreps}."
            )
        ends = sorted({end for irreps in (one, two) for end in _ends(irreps)})
        cut_1, cut_2 = _cut(one, ends), _cut(two, ends)
        out: list[tuple[int, Any]] = []
        instructions: list[tuple[int, int, int, str, bool]] = []
        for n, ((mul, a), (_, b)) in enumerate(zip(cut_1, cut_2, strict=True)):
            for ir in a * b:
                if kept is None or ir in kept:
                    instructions.append((n, n, len(out), "uuu", False))
                    out.append((mul, ir))
        super().__init__(
            cut_1, cut_2, out, instructions, irrep_normalization=irrep_normalization, **kwargs
        )


class FullTensorProduct(TensorProduct):
    """Every irrep of one input with every one of the other: `e3nn.o3.FullTensorProduct`.

    Args:
        irreps_in1: Irreps of the first input.
        irreps_in2: Irreps of the second input.
        filter_ir_out: Irreps of the output that are kept; all by default.
        irrep_normalization: As in `TensorProduct`.
        kwargs: Other arguments of `TensorProduct`.

    Raises:
        ValueError: If the filter holds no irreps.

    Derivatives:
        Any order, in both inputs.

    Examples:
        >>> FullTensorProduct("2x0e + 1o", "1o")
        FullTensorProduct(2x0e+1x1o x 1x1o -> 1x0e+2x1o+1x1e+1x2e | 5 paths | 0 weights)
    """

    def __init__(
        self,
        irreps_in1: Any,
        irreps_in2: Any,
        filter_ir_out: Iterable[Any] | None = None,
        irrep_normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        one, two = Irreps(irreps_in1).simplify(), Irreps(irreps_in2).simplify()
        kept = _kept("FullTensorProduct", filter_ir_out)
        made = [
            (i, j, "uvuv", 1.0, (one[i].mul * two[j].mul, ir))
            for i, j in _pairs(one, two)
            for ir in one[i].ir * two[j].ir
            if kept is None or ir in kept
        ]
        out, instructions = _in_order(made)
        super().__init__(
            one, two, out, instructions, irrep_normalization=irrep_normalization, **kwargs
        )


class TensorSquare(TensorProduct):
    """The product of a tensor with itself, every pair once: `e3nn.o3.TensorSquare`.

    With `irreps_out` it is fully connected and has weights, else it has none.

    Args:
        irreps_in: Irreps of the input.
        irreps_out: Irreps of the output.
        filter_ir_out: Irreps of the output that are kept, where `irreps_out` is not given.
        irrep_normalization: As in `TensorProduct`.
        kwargs: Other arguments of `TensorProduct`.

    Raises:
        ValueError: If both `irreps_out` and `filter_ir_out` are given, or a normalisation is
            unknown.

    Derivatives:
        Any order, in the input and the weights.

    Examples:
        >>> TensorSquare("1o")
        TensorSquare(1x1o -> 1x0e+1x2e | 2 paths | 0 weights)
    """

    def __init__(
        self,
        irreps_in: Any,
        irreps_out: Any = None,
        filter_ir_out: Iterable[Any] | None = None,
        irrep_normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        name, normalization = "TensorSquare", irrep_normalization or "component"
        if normalization not in ("component", "norm", "none"):
            raise ProductError(
                f"`{name}(irrep_normalization=...)` must be one of component, norm, none. "
                f"Got {irrep_normalization!r}."
            )
        irreps, kept = Irreps(irreps_in).simplify(), _kept(name, filter_ir_out)
        if irreps_out is None:
            made = [
                (i, j, mode, factor, (mul, ir))
                for i, j in _pairs(irreps, irreps)
                for ir in irreps[i].ir * irreps[j].ir
                if kept is None or ir in kept
                for mode, mul, factor in _square(irreps, i, j, ir, normalization, mixed=False)
            ]
            out, instructions = _in_order(made)
        else:
            if kept is not None:
                raise ProductError(
                    f"`{name}(filter_ir_out=...)` must be none where `irreps_out` is given. "
                    f"Got {kept}."
                )
            out = Irreps(irreps_out).simplify()
            instructions = [
                (i, j, k, mode, True, factor)
                for i, j in _pairs(irreps, irreps)
                for k, block in enumerate(out)
                if block.ir in irreps[i].ir * irreps[j].ir
                for mode, _, factor in _square(irreps, i, j, block.ir, normalization, mixed=True)
            ]
        super().__init__(irreps, irreps, out, instructions, irrep_normalization="none", **kwargs)
        self.irreps_in = irreps

    def forward(  # type: ignore[override]
        self,
        x: Tensor,  # (..., dim)
        weight: Weights = None,  # (weight_numel,) or (..., weight_numel)
    ) -> Tensor:  # (..., dim_out)
        """Square."""
        return super().forward(x, x, weight)

    def __repr__(self) -> str:
        return super().__repr__().replace(f"{self.irreps_in.simplify()} x ", "", 1)


def _pairs(one: Any, two: Any) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(len(one)) for j in range(len(two)))


def _kept(where: str, given: Iterable[Any] | None) -> list[Any] | None:
    """Read a filter."""
    if given is None:
        return None
    try:
        return [Irrep(ir) for ir in given]
    except (ValueError, TypeError) as error:
        raise ProductError(
            f"`{where}(filter_ir_out=...)` must hold irreps. Got {given}."
        ) from error


def _ends(irreps: Any) -> Iterator[int]:
    end = 0
    for mul, _ in irreps:
        end += mul
        yield end


def _cut(irreps: Any, ends: list[int]) -> list[tuple[int, Any]]:
    """Cut blocks so that they end where `ends` says."""
    flat = [ir for mul, ir in irreps for _ in range(mul)]
    starts = [0, *ends[:-1]]
    return [(stop - start, flat[start]) for start, stop in zip(starts, ends, strict=True)]


def _in_order(
    made: list[tuple[int, int, str, float, tuple[int, Any]]],
) -> tuple[Any, list[Given]]:
    """Give every path a block of its own, blocks sorted by irrep."""
    out, places, _ = Irreps([block for *_, block in made]).sort()
    return out, [
        (i, j, places[n], mode, False, factor) for n, (i, j, mode, factor, _) in enumerate(made)
    ]


def _square(
    irreps: Any, i: int, j: int, ir: Any, normalization: str, *, mixed: bool
) -> Iterator[tuple[str, int, float]]:
    """Give the modes that square two blocks to `ir`: mode, multiplicity, factor of the variance.

    Of a block with itself, pairs u < v come once. For u = v the even degrees are left, whose
    components are squares of Gaussians and not products of independent ones.
    """
    (mul, a), (mul_2, b) = irreps[i], irreps[j]
    factor = {"component": ir.dim, "norm": a.dim * b.dim, "none": 1}[normalization]
    if i < j:
        yield "uvw" if mixed else "uvuv", mul * mul_2, factor
    if i != j:
        return
    if mul > 1:
        yield "u<vw" if mixed else "uvu<v", mul * (mul - 1) // 2, factor
    if ir.l % 2 == 0:
        scalar = ir.l == 0
        alone = {
            "component": ir.dim / (a.dim + 2) if scalar else ir.dim / 2,
            "norm": ir.dim * a.dim if scalar else a.dim * (a.dim + 2) / 2,
            "none": 1,
        }[normalization]
        yield "uuw" if mixed else "uuu", mul, alone
