"""Whatever acts as a matrix, as one function on the rows of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tensornet import _check

Rows = Callable[[Tensor], Tensor]
"""A function of rows ``(k, n)``."""

Operator = Any
"""A function or module on tensors ``(..., n)``, a matrix of torch, NumPy or SciPy, or a SciPy
`LinearOperator`."""


class LinearMap:
    """A square matrix, or what acts as one, on rows ``(k, n)``.

    What is no tensor (SciPy, NumPy) is called with arrays in memory of the CPU. `nullspace` is what
    it says it maps to zero, `unreachable` the same for its adjoint.

    Args:
        where: Name of the public call, for messages.
        name: Name of the argument, for messages.
        source: The matrix.
        like: A right-hand side ``(..., n)``; a function sees ``(n,)`` where this has one axis.
        convert: Whether the source may compute in another dtype than `like`, as preconditioners.

    Raises:
        TypeError: If the source is no operator, or differs in dtype and may not.
        ValueError: If its shape does not fit, or it is on another device.
    """

    def __init__(
        self, where: str, name: str, source: Operator, like: Tensor, *, convert: bool = False
    ) -> None:
        self.argument = f"`{where}({name}=...)`"
        self._checked = self._watching = False
        self._leaves: list[Tensor] = []
        n = like.shape[-1]
        shape = getattr(source, "shape", None)
        if shape is not None and tuple(shape) != (n, n):
            raise ValueError(
                f"{self.argument} must have shape ({n}, {n}), as `b` has {n} unknowns. "
                f"Got {tuple(shape)}."
            )
        self.nullspace = self.unreachable = _nullspace(self.argument, source, like)
        if getattr(source, "symmetric", None) is False:
            self.unreachable = _nullspace(self.argument, _transposed(source), like)
        if isinstance(source, np.ndarray):
            _no_complex(self.argument, source.dtype, like)
            source = torch.from_numpy(np.array(source)).to(like)
        if isinstance(source, Tensor):
            if source.is_complex() and not like.is_complex():
                raise TypeError(_real(self.argument, source.dtype))
            if convert:
                source = source.to(like)
            _check.one_kind(where, b=like, **{name: source})
        self.source, self._convert = source, convert
        self._apply, self._adjoint = self._functions(source, like)

    @property
    def is_matrix(self) -> bool:
        """Whether the entries are known."""
        return isinstance(self.source, Tensor) or hasattr(self.source, "tocsr")

    def __call__(self, x: Tensor) -> Tensor:  # (k, n) -> (k, n)
        """Apply the matrix to rows."""
        if not self._watching:
            return self._valid(self._apply(x), x)
        self._watching = False
        with torch.enable_grad():
            y = self._valid(self._apply(x.detach()), x)
        self._leaves = _leaves(y)
        return y.detach()

    def adjoint(self) -> LinearMap:
        """The conjugate transpose."""
        other = object.__new__(LinearMap)
        other.__dict__.update(self.__dict__)
        other._apply, other._adjoint = self._adjoint, self._apply
        other.nullspace, other.unreachable = self.unreachable, self.nullspace
        return other

    def watch(self) -> None:
        """Look at the next product, outside of any graph, for what the matrix is made of."""
        self._leaves = []
        if isinstance(self.source, Tensor):
            self._leaves = [self.source] if self.source.requires_grad else []
        else:
            self._watching = callable(self.source)

    def leaves(self, x: Tensor) -> list[Tensor]:  # (k, n)
        """The tensors with gradients, outside any graph, that the matrix is made of.

        Args:
            x: Something to apply it to, if that has not happened since `watch`.
        """
        if self._watching:
            self(x)
        return self._leaves

    def _functions(self, source: Operator, like: Tensor) -> tuple[Rows, Rows]:
        """The matrix and its adjoint."""
        if isinstance(source, Tensor) and source.layout == torch.strided:
            return lambda x: x @ source.mT, lambda x: x @ source.conj()
        if isinstance(source, Tensor):
            return self._torch(lambda x: (source @ x.mT).mT, None, None)
        if hasattr(source, "tocsr"):
            _no_complex(self.argument, source.dtype, like)
            rows = source.tocsr()
            columns = rows.conj().T.tocsr()
            return _on_arrays(_by_sparse(rows)), _on_arrays(_by_sparse(columns))
        if hasattr(source, "matvec") and (hasattr(source, "rmatvec") or not callable(source)):
            _no_complex(self.argument, getattr(source, "dtype", None), like)
            return _on_arrays(_by_row(source.matvec)), _on_arrays(
                _by_row(lambda x: source.rmatvec(x))
            )
        if not callable(source):
            raise TypeError(
                f"{self.argument} must be a function on tensors, a matrix or a SciPy operator. "
                f"Got {type(source).__name__}."
            )
        dtype = _own_dtype(source) if self._convert else None
        return self._torch(source, like, dtype)

    def _torch(
        self, source: Rows, like: Tensor | None, dtype: torch.dtype | None
    ) -> tuple[Rows, Rows]:
        def run(function: Rows, x: Tensor) -> Tensor:
            given = x if dtype is None else x.to(dtype)
            if like is None or like.ndim > 1:
                return function(given)
            y = function(given[0])
            return y[None] if isinstance(y, Tensor) else y

        def adjoint(v: Tensor) -> Tensor:
            turned = _transposed(source)
            if turned is not None and not v.is_complex():
                return run(turned, v)
            keep = torch.is_grad_enabled()
            with torch.enable_grad():
                x = torch.zeros_like(v, requires_grad=True)
                y = self._valid(run(source, x), x)
            if not y.requires_grad:
                raise TypeError(
                    f"{self.argument} must be made of differentiable functions of torch for a "
                    "gradient by the adjoint. Got a result without a graph."
                )
            found: Tensor = torch.autograd.grad(y, x, v, create_graph=keep)[0]
            return found

        return lambda x: run(source, x), adjoint

    def _valid(self, y: Tensor, x: Tensor) -> Tensor:
        if self._checked and y.shape == x.shape and y.dtype == x.dtype:
            return y
        if not isinstance(y, Tensor):
            raise TypeError(
                f"{self.argument} must give a torch.Tensor. Got {type(y).__name__}. (Wrap a "
                "function of NumPy arrays in scipy.sparse.linalg.LinearOperator.)"
            )
        if y.shape != x.shape:
            raise ValueError(
                f"{self.argument} must keep the shape of its input, {tuple(x.shape)}. "
                f"Got {tuple(y.shape)}."
            )
        if y.dtype != x.dtype:
            if not self._convert or (y.is_complex() and not x.is_complex()):
                raise TypeError(
                    f"{self.argument} must keep the dtype of `b`, {x.dtype}. Got {y.dtype}."
                )
            y = y.to(x.dtype)
        if y.device != x.device:
            raise ValueError(f"{self.argument} must stay on {x.device}. Got {y.device}.")
        self._checked = True
        return y


def _on_arrays(function: Callable[[Any], Any]) -> Rows:
    def apply(x: Tensor) -> Tensor:
        y = np.require(function(x.detach().cpu().numpy()), requirements=["C", "W"])
        return torch.from_numpy(y).to(x)

    return apply


def _by_row(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: np.stack([np.asarray(function(row)).reshape(-1) for row in x])


def _leaves(y: Tensor) -> list[Tensor]:
    """Tensors at the start of a graph."""
    nodes, seen, found = [y.grad_fn], set[Any](), dict[int, Tensor]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        nodes.extend(after for after, _ in node.next_functions)
    return list(found.values())


def _transposed(source: Any) -> Any:
    """The transpose of an operator that knows it."""
    try:
        return source.transpose()
    except (AttributeError, NotImplementedError):
        return None


def _by_sparse(matrix: Any) -> Callable[[Any], Any]:
    return lambda x: (matrix @ x[0])[None] if len(x) == 1 else (matrix @ x.T).T


def _own_dtype(source: Operator) -> torch.dtype | None:
    """Dtype of the weights of a network, where it has weights."""
    if isinstance(source, torch.nn.Module):
        return next((p.dtype for p in source.parameters() if p.is_floating_point()), None)
    return None


def _no_complex(argument: str, dtype: Any, like: Tensor) -> None:
    if np.dtype(dtype).kind == "c" and not like.is_complex():
        raise TypeError(_real(argument, dtype))


def _real(argument: str, dtype: Any) -> str:
    return f"{argument} must be real, as `b` is. Got {dtype}. (Make `b` complex.)"


def _nullspace(argument: str, source: Operator, like: Tensor) -> Tensor | None:  # (m, n)
    """Orthonormal rows that the source says it maps to zero."""
    if isinstance(source, Tensor | np.ndarray):
        return None
    given = getattr(source, "nullspace", None)
    given = given() if callable(given) else given
    if given is None:
        return None
    rows = torch.atleast_2d(torch.as_tensor(given).detach().to(like))
    if rows.shape[-1] != like.shape[-1] or not bool(rows.isfinite().all()):
        raise ValueError(
            f"{argument} must have a finite `nullspace` of shape (m, {like.shape[-1]}). "
            f"Got {tuple(rows.shape)}."
        )
    return torch.linalg.qr(rows.mT)[0].mT.contiguous() if len(rows) else None
