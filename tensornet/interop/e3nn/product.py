"""e3nn's product of irreps with parametrised paths, run by kernels."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.interop.e3nn.arrangement import Permutation, split
from tensornet.interop.e3nn.coupling import flipped
from tensornet.interop.e3nn.instructions import (
    ProductError,
    Program,
    of_module,
    program,
)
from tensornet.interop.e3nn.mixed import Mixed
from tensornet.interop.e3nn.stages import stages

Weights = Tensor | Sequence[Tensor] | None


class TensorProduct(nn.Module):
    """A bilinear map of irreps with paths that may have weights: `e3nn.o3.TensorProduct`, faster.

    Signature, normalisations, order of weights, `state_dict` and results are e3nn's; what runs are
    our kernels. Paths where each channel of one side meets one number of the other (``uvu``,
    ``uvv``, ``uvuv``) and channelwise paths (``uuu``, ``uvu<v``) are one kernel each, weights
    included; where weights mix channels (``uvw``, ``uuw``, ``u<vw``) a kernel computes the paths
    and one matrix product per block of the output mixes them.

    Args:
        irreps_in1: Irreps of the first input, as e3nn's `Irreps` or a string.
        irreps_in2: Irreps of the second input.
        irreps_out: Irreps of the output.
        instructions: Tuples ``(i_1, i_2, i_out, mode, train[, path_weight])``: which blocks meet,
            how multiplicities do, whether the path has weights, and a factor of its variance.
        in1_var: Variance of each block of the first input, one by default.
        in2_var: Variance of each block of the second input.
        out_var: Variance wanted of each block of the output.
        irrep_normalization: ``"component"`` (the default), ``"norm"`` or ``"none"``.
        path_normalization: ``"element"`` (the default), ``"path"`` or ``"none"``.
        internal_weights: Whether the module holds its weights; by default where they are shared.
        shared_weights: Whether all rows have the same weights, the default.
        compile_left_right: Taken and not used: nothing is compiled per product.
        compile_right: Taken and not used: `right` is always there.
        normalization: Old name of `irrep_normalization`.
        _specialized_code: Taken and not used.
        _optimize_einsums: Taken and not used.

    Raises:
        ValueError: If an instruction breaks parity, the triangle rule or multiplicities, or a
            variance or normalisation is wrong; it is an `AssertionError` too, as in e3nn.
        IndexError: If an instruction names a block that is not there.

    Derivatives:
        Any order, in both inputs and the weights.

    References:
        Geiger & Smidt, e3nn: Euclidean neural networks (2022), section 3.4.

    Examples:
        >>> dot = TensorProduct("4x1o", "4x1o", "4x0e", [(0, 0, 0, "uuu", False)])
        >>> dot
        TensorProduct(4x1o x 4x1o -> 4x0e | 4 paths | 0 weights)
        >>> dot(torch.ones(12), torch.ones(12))  # over the square root of 3
        tensor([1.7321, 1.7321, 1.7321, 1.7321])
    """

    def __init__(
        self,
        irreps_in1: Any,
        irreps_in2: Any,
        irreps_out: Any,
        instructions: Iterable[Sequence[Any]],
        in1_var: Sequence[float] | Tensor | None = None,
        in2_var: Sequence[float] | Tensor | None = None,
        out_var: Sequence[float] | Tensor | None = None,
        irrep_normalization: str | None = None,
        path_normalization: str | None = None,
        internal_weights: bool | None = None,
        shared_weights: bool | None = None,
        compile_left_right: bool = True,
        compile_right: bool = False,
        normalization: str | None = None,
        _specialized_code: bool | None = None,
        _optimize_einsums: bool | None = None,
    ) -> None:
        super().__init__()
        made = program(
            type(self).__name__, irreps_in1, irreps_in2, irreps_out, instructions, in1_var,
            in2_var, out_var, irrep_normalization, path_normalization, normalization,
        )  # fmt: skip
        self._build(made, internal_weights, shared_weights)

    def _build(self, made: Program, internal: bool | None, shared: bool | None) -> None:
        name = type(self).__name__
        if shared is False and internal is None:
            internal = False
        shared = True if shared is None else shared
        if internal is None:
            internal = shared and any(ins.has_weight for ins in made.instructions)
        if internal and not shared:
            raise ProductError(
                f"`{name}(internal_weights=...)` must be False where `shared_weights` is. Got True."
            )
        self.irreps_in1, self.irreps_in2 = made.irreps_in1, made.irreps_in2
        self.irreps_out, self.instructions = made.irreps_out, list(made.instructions)
        self.dims = made.dims
        self.internal_weights, self.shared_weights = internal, shared
        self.weight_numel = made.weight_numel
        self._arrange(made)
        if internal and self.weight_numel > 0:
            self.register_parameter("weight", nn.Parameter(torch.randn(self.weight_numel)))
        else:
            self.register_buffer("weight", torch.empty(0))
        self.weight: Tensor
        reached = {
            ins.i_out
            for ins in made.instructions
            if ins.path_weight != 0 and 0 not in ins.path_shape
        }
        mask = [
            torch.full((mul * ir.dim,), float(i in reached))
            for i, (mul, ir) in enumerate(made.irreps_out)
        ]
        self.register_buffer("output_mask", torch.cat([*mask, torch.empty(0)]))
        self.output_mask: Tensor

    def _arrange(self, made: Program) -> None:
        """Make what runs."""
        self.flipped = made.flipped
        found = stages(made)
        self.turned = [turned for turned, _ in found]
        self.stages: Any = nn.ModuleList(stage for _, stage in found)
        places = [stage.take_order() for _, stage in found]
        self.arranged = Permutation(torch.cat([*places, torch.empty(0)]).long())
        self.sizes = [stage.n_weights for _, stage in found]
        for _, stage in found:
            if isinstance(stage, Mixed):
                stage.alone = len(found) == 1

    @classmethod
    def from_product(cls, product: Any) -> TensorProduct:
        """Make the same product from one of e3nn, weights included.

        Args:
            product: An `e3nn.o3.TensorProduct` or a class derived from it.

        Returns:
            A product with its irreps, paths, factors, weights, dtype and device.

        Raises:
            TypeError: If it is no such product.

        Examples:
            >>> from e3nn import o3
            >>> TensorProduct.from_product(o3.FullyConnectedTensorProduct("2x0e", "1o", "3x1o"))
            TensorProduct(2x0e x 1x1o -> 3x1o | 6 paths | 6 weights)
        """
        made = of_program(
            of_module(product), internal=product.internal_weights, shared=product.shared_weights
        )
        made.train(product.training)
        made.to(product.output_mask)
        if product.internal_weights and made.weight_numel:
            made.weight = nn.Parameter(
                product.weight.detach().clone(), requires_grad=product.weight.requires_grad
            )
        return made

    def forward(
        self,
        x: Tensor,  # (..., dim1)
        y: Tensor,  # (..., dim2)
        weight: Weights = None,  # (weight_numel,) or (..., weight_numel)
    ) -> Tensor:  # (..., dim_out)
        """Multiply.

        Args:
            x: First input; batches of all three are broadcast.
            y: Second input.
            weight: Weights, or a list of one tensor per instruction that has them; by default
                those of the module.

        Returns:
            The product.

        Raises:
            TypeError: If dtypes differ.
            ValueError: If a shape is wrong.
            RuntimeError: If weights are missing.
        """
        name = type(self).__name__
        given = self._weights(weight)
        _check.one_kind(name, x=x, y=y, **({"weight": given} if self.weight_numel else {}))
        if x.shape[-1:] != self.dims[:1] or y.shape[-1:] != self.dims[1:2]:
            _check.shapes(name, x=(x, f"... {self.dims[0]}"))
            _check.shapes(name, y=(y, f"... {self.dims[1]}"))
        own = self.weight_numel > 0 and not self.shared_weights
        batch = self._batch(x, y, *([given] if own else []))
        n = math.prod(batch)
        one, two = _rows(x, batch, n), _rows(y, batch, n)
        weights = _rows(given, batch, n) if own else given[None]
        total: Tensor | None = None
        parts = self._parts(weights)
        for stage, turned, w in zip(self.stages, self.turned, parts, strict=True):
            part = stage.rows(two, one, w) if turned else stage.rows(one, two, w)
            total = part if total is None else total + part
        if total is None:
            total = x.new_zeros(n, self.dims[2])
        return total.view(*batch, self.dims[2])

    def _parts(self, weights: Tensor) -> Sequence[Tensor]:  # (n, weights) or (1, weights)
        """Give each stage its weights."""
        mixed = [stage for stage in self.stages if isinstance(stage, Mixed)]
        if any(stage.takes_as_given(weights.shape[0]) for stage in mixed):
            return (weights,)
        return split(self.arranged(weights), self.sizes) if self.sizes else ()

    def _batch(self, *given: Tensor) -> tuple[int, ...]:
        """Broadcast batches."""
        batches = [tuple(t.shape[:-1]) for t in given]
        if len(set(batches)) == 1:
            return batches[0]
        try:
            return tuple(torch.broadcast_shapes(*batches))
        except RuntimeError as error:
            raise ProductError(
                f"`{type(self).__name__}(x, y, weight)` must have batches that broadcast. "
                f"Got {', '.join(str(batch) for batch in batches)}."
            ) from error

    def right(self, y: Tensor, weight: Weights = None) -> Tensor:  # (..., dim2)
        """Give the linear map of the first input to the product.

        Args:
            y: Second input.
            weight: As in `forward`.

        Returns:
            ``b (..., dim1, dim_out)``, so that the product is the sum over i of x_i b_ik.

        Raises:
            ValueError: If a shape is wrong.
            RuntimeError: If weights are missing.
        """
        _check.shapes(f"{type(self).__name__}.right", y=(y, f"... {self.dims[1]}"))
        given = self._weights(weight)
        if not self.shared_weights and self.weight_numel:
            given = given[..., None, :]
        basis = torch.eye(self.dims[0], dtype=y.dtype, device=y.device)
        out: Tensor = self(basis, y[..., None, :], given if self.weight_numel else None)
        return out

    def _weights(self, weight: Weights) -> Tensor:
        """Take weights in one tensor, or say what they must be."""
        name = type(self).__name__
        if weight is None:
            if self.weight_numel and not self.internal_weights:
                raise RuntimeError(
                    f"`{name}(weight=...)` must be given: the product has no weights of its own, "
                    f"and needs {self.weight_numel}. Got none."
                )
            return self.weight
        if not isinstance(weight, Tensor):
            shapes = [ins.path_shape for ins in self.instructions if ins.has_weight]
            flat = self._flat(weight, shapes)
            weight = torch.cat(flat, -1) if flat else self.weight
        n = self.weight_numel
        good = weight.shape == (n,) if self.shared_weights else weight.shape[-1:] == (n,)
        if n and (not good or (not self.shared_weights and weight.ndim < 2)):
            want = f"({n},)" if self.shared_weights else f"(..., {n}), with a batch"
            raise ProductError(
                f"`{name}(weight=...)` must have shape {want}. Got {tuple(weight.shape)}."
            )
        return weight if n else weight.flatten()[:0]

    def _flat(
        self, weights: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> list[Tensor]:  # (..., numbers) each
        """Take weights per instruction, each in the shape of its path or flat, to rows."""
        flat = []
        for given, shape in itertools.zip_longest(weights, shapes):
            fits = isinstance(given, Tensor) and shape is not None
            if fits and given.shape[-len(shape) :] == shape:
                flat.append(given.flatten(given.ndim - len(shape)))
            elif fits and given.shape[-1:] == (math.prod(shape),):
                flat.append(given)
            else:
                got = [tuple(w.shape) if isinstance(w, Tensor) else w for w in weights]
                raise ProductError(
                    f"`{type(self).__name__}(weight=...)` must be a tensor, or hold one tensor per "
                    f"instruction with weights, of shapes that end in {list(shapes)}. Got {got}."
                )
        return flat

    def weight_view_for_instruction(
        self, instruction: int, weight: Tensor | None = None
    ) -> Tensor:  # (..., *path_shape)
        """Give a view of the weights of one instruction.

        Args:
            instruction: Its number.
            weight: As in `forward`; by default those of the module.

        Returns:
            A view of the weights.

        Raises:
            ValueError: If the instruction has no weights.
        """
        for n, _, view in self.weight_views(weight, yield_instruction=True):
            if n == instruction:
                found: Tensor = view
                return found
        raise ValueError(
            f"`{type(self).__name__}.weight_view_for_instruction(instruction=...)` must name an "
            f"instruction with weights. Got {instruction}."
        )

    def weight_views(
        self, weight: Tensor | None = None, yield_instruction: bool = False
    ) -> Iterator[Any]:
        """Give a view of the weights of each instruction that has them.

        Args:
            weight: As in `forward`; by default those of the module.
            yield_instruction: Whether to give ``(number, instruction, view)``.

        Yields:
            Views, in the order of the instructions.
        """
        flat, at = self._weights(weight), 0
        for n, ins in enumerate(self.instructions):
            if ins.has_weight:
                size = math.prod(ins.path_shape)
                view = flat.narrow(-1, at, size).view(*flat.shape[:-1], *ins.path_shape)
                at += size
                yield (n, ins, view) if yield_instruction else view

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Leave out the couplings that e3nn stores with its code, but keep their signs."""
        mine = [key for key in state_dict if key.startswith(f"{prefix}_compiled_main")]
        stored = {key: state_dict.pop(key) for key in mine}  # type: ignore[attr-defined]
        if stored and flipped(stored) != self.flipped:
            self._arrange(dataclasses.replace(of_module(self), flipped=flipped(stored)))
            self.to(self.output_mask.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __repr__(self) -> str:
        n_paths = sum(math.prod(ins.path_shape) for ins in self.instructions)
        sides = (self.irreps_in1, self.irreps_in2, self.irreps_out)
        one, two, three = (side.simplify() for side in sides)
        name = type(self).__name__
        return f"{name}({one} x {two} -> {three} | {n_paths} paths | {self.weight_numel} weights)"


def _rows(x: Tensor, batch: tuple[int, ...], n: int) -> Tensor:  # (n, d)
    """Repeat along the batch and flatten it."""
    if x.shape[:-1] == batch and x.ndim == 2:
        return x
    return x.expand(*batch, x.shape[-1]).reshape(n, x.shape[-1])


def of_program(made: Program, *, internal: bool, shared: bool) -> TensorProduct:
    """Make a product whose paths already have their factors.

    Args:
        made: Irreps and instructions.
        internal: Whether the module holds its weights.
        shared: Whether all rows have the same weights.
    """
    product = TensorProduct.__new__(TensorProduct)
    nn.Module.__init__(product)
    product._build(made, internal, shared)
    return product
