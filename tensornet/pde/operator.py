"""Linear operators on the active cells of a domain, without a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet.kernels import _registry, stencil_faces, stencil_lines, stencil_sides
from tensornet.pde.domain import Domain

_KERNELS: dict[str, Any] = {
    "lines": stencil_lines,
    "faces": stencil_faces,
    "sides": stencil_sides,
}


class LinearOperator(ABC):
    """A square linear map of vectors, called as ``A(x)`` on ``(..., n)``.

    Give `_apply` on ``(b, n)``, and `transpose` where the map is not symmetric.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    symmetric: bool

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Apply the map to rows."""

    def __call__(self, x: Tensor) -> Tensor:  # (..., n) -> (..., n)
        """Apply the map.

        Args:
            x: Vectors of the dtype and device of the operator.

        Returns:
            Vectors of the same shape.

        Raises:
            TypeError: If it is no tensor of this dtype.
            ValueError: If the last axis has another size, or the device is another.

        Derivatives:
            Any order, in the vectors and in all that the operator is made of.
        """
        name, n = type(self).__name__, self.shape[1]
        if not isinstance(x, Tensor) or x.dtype != self.dtype:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"`{name}(x=...)` must be a tensor of {self.dtype}. Got {got}.")
        if x.ndim == 0 or x.shape[-1] != n:
            raise ValueError(f"`{name}(x=...)` must have shape (..., {n}). Got {tuple(x.shape)}.")
        if x.device != self.device:
            raise ValueError(f"`{name}(x=...)` must be on {self.device}. Got {x.device}.")
        return self._apply(x.reshape(prod(x.shape[:-1]), n)).reshape(x.shape)

    def transpose(self) -> LinearOperator:
        """Give the transposed operator."""
        if self.symmetric:
            return self
        raise NotImplementedError(f"`{type(self).__name__}.transpose` is not known.")

    def to_dense(self) -> Tensor:  # (n, n)
        """Give the matrix; for small operators.

        Derivatives:
            Any order, in what the operator is made of.
        """
        return self(torch.eye(self.shape[1], dtype=self.dtype, device=self.device)).mT

    def to_scipy(self) -> Any:
        """Give a `scipy.sparse.linalg.LinearOperator` that calls this one, on CPU arrays."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def caller(operator: LinearOperator) -> Any:
            def apply(x: Any) -> Any:
                rows = np.require(x.T, dtype, ["C", "W"])
                with torch.no_grad():
                    y = operator(torch.from_numpy(rows).to(self.device))
                return y.cpu().numpy().T

            return apply

        dtype = np.dtype(str(self.dtype).removeprefix("torch."))
        there, back = caller(self), caller(self.transpose())
        return ScipyOperator(
            self.shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=dtype
        )


class FixedOperator(LinearOperator):
    """A symmetric map that is made of what has no derivatives: it is its own derivative.

    Give `run` on ``(b, n)``.
    """

    symmetric = True

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:  # (b, n) -> (b, n)
        """Apply the map to rows, without derivatives.

        Args:
            x: Rows.
        """

    def _apply(self, x: Tensor) -> Tensor:
        found: Tensor = _Fixed.apply(self, x)  # type: ignore[no-untyped-call]
        return found


class _Fixed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, M: FixedOperator, x: Tensor) -> Tensor:
        context.M = M
        with torch.no_grad():
            return M.run(x)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Any:
        return None, _Fixed.apply(context.M, grads[0])  # type: ignore[no-untyped-call]


class StencilOperator(LinearOperator):
    """A stencil of nearest neighbours on the active cells of a domain.

    Row p is ``diagonal[p] x[p] - sum over axes of (lower[p] x[p - 1] + upper[p] x[p + 1])``. Made
    by `poisson` and its relatives.

    Args:
        domain: Where it acts.
        kind: What the weights are: ``"lines"``, one per place along each axis ``(d,)``;
            ``"faces"``, one per face ``(*shape)``, coupling a cell and the next along the axis;
            ``"sides"``, the lower and the upper of each cell, axis by axis.
        anchor: What ties cells to held values, and reactions, ``(*shape)``: the row sums of a
            symmetric operator.
        weights: The weights.
        diagonal: The diagonal, ``(*shape)``; by default the anchor plus the weights of the
            neighbours.
        coefficient: Of the diffusion, for those who discretise again on other grids.
        shift: The part of the anchor that is a multiple of the identity, for the same.

    Attributes:
        domain: Where it acts: the grid, the mask and the boundary.
        anchor: As given.
        coefficient: As given.
        shift: As given.
    """

    def __init__(
        self,
        domain: Domain,
        kind: str,
        anchor: Tensor,
        weights: tuple[Tensor, ...],
        *,
        diagonal: Tensor | None = None,
        coefficient: float | Tensor = 1.0,
        shift: float = 0.0,
    ) -> None:
        self.domain, self.kind, self.anchor, self.weights = domain, kind, anchor, weights
        self.coefficient, self.shift = coefficient, shift
        self.shape = (domain.n, domain.n)
        self.dtype, self.device = anchor.dtype, anchor.device
        self.symmetric = kind != "sides"
        if diagonal is None:
            diagonal = anchor
            for axis, face in enumerate(self.faces()):
                diagonal = diagonal + face + face.roll(1, axis)
        self.field = diagonal
        grid, missing = domain.grid, 3 - domain.grid.dim
        self._shape = (1,) * missing + grid.shape
        empty = anchor.new_zeros(1 if kind == "lines" else self._shape)
        each = 2 if kind == "sides" else 1
        full = weights if kind == "lines" else tuple(w.reshape(self._shape) for w in weights)
        self._fields = (diagonal.reshape(self._shape), *(empty,) * (missing * each), *full)

    def __repr__(self) -> str:
        grid = " x ".join(map(str, self.domain.grid.shape))
        kind = "symmetric" if self.symmetric else "not symmetric"
        return (
            f"{type(self).__name__}({self.domain.n} unknowns on a grid of {grid}, {kind}, "
            f"{str(self.dtype).removeprefix('torch.')}, {self.device})"
        )

    @cached_property
    def _packed(self) -> FixedOperator | None:
        """The same on the cells of a mask alone, where no derivatives are due: it is faster."""
        made_of = (self.field, *self.weights)
        if self.kind != "lines" or self.domain.mask is None or self.device.type != "cpu":
            return None
        if any(part.requires_grad for part in made_of):
            return None
        from tensornet.pde.packed import PackedLines

        return PackedLines(self.domain, self.diagonal(), self.weights)

    def _apply(self, x: Tensor) -> Tensor:
        if _registry._forced in (None, "numba_cpu") and self._packed is not None:
            return self._packed._apply(x)
        field = self.domain.embed(x).reshape(len(x), *self._shape)
        out: Tensor = _KERNELS[self.kind](field, *self._fields)
        return self.domain.restrict(out.reshape(len(x), *self.domain.grid.shape))

    def faces(self) -> tuple[Tensor, ...]:  # each (*shape)
        """Weights of the faces between active cells: per axis, of a cell and the next.

        Raises:
            ValueError: If the operator is not symmetric, so that a face has two.
        """
        if self.kind == "sides":
            raise ValueError("`faces` must be asked of a symmetric operator. Got one that is not.")
        if self.kind == "faces":
            return self.weights
        found = []
        for axis, w in enumerate(self.weights):
            along = [1] * self.domain.grid.dim
            along[axis] = -1
            found.append(w.reshape(along) * self.domain.inner(axis, 1))
        return tuple(found)

    def diagonal(self) -> Tensor:  # (n,)
        """Give the diagonal of the matrix."""
        return self.domain.restrict(self.field)

    @cached_property
    def nullspace(self) -> Tensor:  # (k, n)
        """Orthonormal vectors that give zero: the constant on every part that nothing holds."""
        parts = self.domain.parts
        if self.symmetric:
            loose = self.domain.restrict(self.anchor.detach()) == 0
        else:
            ones = torch.ones(self.domain.n, dtype=self.dtype, device=self.device)
            rounding = 32 * torch.finfo(self.dtype).eps * self.diagonal().detach().abs()
            loose = self(ones).detach().abs() <= rounding
        count = int(parts.max()) + 1
        tied = torch.zeros(count, dtype=torch.int64, device=self.device)
        tied.index_add_(0, parts, (~loose).long())
        sizes = torch.bincount(parts, minlength=count).to(self.dtype)
        found = [(parts == c).to(self.dtype) / sizes[c].sqrt() for c in (tied == 0).nonzero()[:, 0]]
        empty = torch.zeros(0, self.domain.n, dtype=self.dtype, device=self.device)
        return torch.stack(found) if found else empty

    @cached_property
    def definite(self) -> bool:
        """Whether it is known to be symmetric positive definite."""
        if not self.symmetric or len(self.nullspace):
            return False
        fields = [self.domain.restrict(self.anchor), *self.weights]
        return all(float(w.detach().min()) >= 0 for w in fields)

    def project(self, x: Tensor) -> Tensor:  # (..., n) -> (..., n)
        """Take the part in the nullspace out of vectors.

        Args:
            x: Vectors.

        Returns:
            What is orthogonal to `nullspace`, (..., n).

        Derivatives:
            Any order.
        """
        basis = self.nullspace
        return x - (x @ basis.mT) @ basis if len(basis) else x

    def shifted(self, shift: float, scale: float = 1.0) -> StencilOperator:
        """Give ``shift x + scale A(x)``, as the steps of time integrators are.

        Args:
            shift: What the identity is multiplied by.
            scale: What this operator is multiplied by.

        Returns:
            A new operator.
        """
        on = self.domain.active.to(self.dtype)
        return StencilOperator(
            self.domain,
            self.kind,
            shift * on + scale * self.anchor,
            tuple(scale * w for w in self.weights),
            diagonal=shift * on + scale * self.field,
            coefficient=scale * self.coefficient,
            shift=shift + scale * self.shift,
        )

    def transpose(self) -> StencilOperator:
        """Give the transposed operator."""
        if self.symmetric:
            return self
        turned: list[Tensor] = []
        for axis, lower, upper in zip(
            range(self.domain.grid.dim), self.weights[::2], self.weights[1::2], strict=True
        ):
            turned += [upper.roll(1, axis), lower.roll(-1, axis)]
        return StencilOperator(
            self.domain, "sides", self.anchor, tuple(turned),
            diagonal=self.field, coefficient=self.coefficient, shift=self.shift,
        )  # fmt: skip

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> StencilOperator:
        """Give the operator in another dtype or on another device.

        Args:
            dtype: Of the numbers, or as it is.
            device: Where to put it, or where it is.

        Returns:
            A new operator.
        """
        dtype, device = dtype or self.dtype, torch.device(device or self.device)
        k = self.coefficient
        return StencilOperator(
            self.domain.to(device),
            self.kind,
            self.anchor.to(device, dtype),
            tuple(w.to(device, dtype) for w in self.weights),
            diagonal=self.field.to(device, dtype),
            coefficient=k.to(device, dtype) if isinstance(k, Tensor) else k,
            shift=self.shift,
        )

    def to_scipy_sparse(self) -> Any:
        """Give the matrix as a `scipy.sparse.csr_matrix` with sorted columns, zeros left out."""
        from scipy.sparse import coo_matrix

        domain, n = self.domain, self.domain.n
        number = torch.full((domain.grid.n_cells,), -1, device=self.device)
        number[domain.place] = torch.arange(n, device=self.device)
        number = number.reshape(domain.grid.shape)
        own = number[domain.active]
        rows, columns, values = [own], [own], [self.field.detach()[domain.active]]
        for axis in range(domain.grid.dim):
            if self.symmetric:
                upper = self.faces()[axis].detach()
                lower = upper.roll(1, axis)
            else:
                lower, upper = (self.weights[2 * axis + k].detach() for k in (0, 1))
            for weight, step in ((lower, -1), (upper, 1)):
                there = domain.inner(axis, step) & (weight != 0)
                rows.append(number[there])
                columns.append(number.roll(-step, axis)[there])
                values.append(-weight[there])
        i, j, v = (torch.cat(part).cpu().numpy() for part in (rows, columns, values))
        matrix = coo_matrix((v, (i, j)), (n, n)).tocsr()
        matrix.sort_indices()
        return matrix


def check_symmetric(where: str, A: StencilOperator) -> None:
    """Check that an operator is one of `pde`, and symmetric.

    Args:
        where: Name of the public call, for messages.
        A: The operator.

    Raises:
        TypeError: If it is no operator of `pde`.
        ValueError: If it is not symmetric.
    """
    if not isinstance(A, StencilOperator):
        raise TypeError(f"`{where}(A=...)` must be an operator of `pde`. Got {type(A).__name__}.")
    if not A.symmetric:
        raise ValueError(f"`{where}(A=...)` must be symmetric. Got one that is not.")


def check_weights(where: str, A: StencilOperator) -> None:
    """Check that sweeps make sense: no weight below zero, a positive diagonal.

    Args:
        where: Name of the public call, for messages.
        A: The operator.

    Raises:
        ValueError: If not.
    """
    least = min(float(part.detach().min()) for part in (A.anchor, *A.weights))
    if not least >= 0 or not float(A.diagonal().detach().min()) > 0:
        raise ValueError(
            f"`{where}(A=...)` must have weights and ties of at least zero and a positive "
            f"diagonal. Got a smallest weight or tie of {least:.3g}."
        )
