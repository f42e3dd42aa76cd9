"""The tensor-train (TT) format: a chain of third-order cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import indexing, train_parts, train_sweeps
from tensornet.formats.cp import CP
from tensornet.formats.format import HALF, Format, check_kind
from tensornet.formats.tucker import Tucker
from tensornet.linalg.projection import summed


@dataclass(frozen=True, eq=False, repr=False)
class TensorTrain(Format):
    """A tensor whose entries are products of matrices, one matrix per mode.

    ``x[i, j, ...] = exp(log_scale) * cores[0][:, i] @ cores[1][:, j] @ ...``, a 1 x 1 matrix. The
    logarithm keeps trains of thousands of modes, and their norms and inner products, in range.

    Args:
        cores: One core (r, d, r') per mode; the first r and the last r' are 1, as in TensorLy.
        log_scale: Logarithm of a common factor, (). By default zero.

    Raises:
        ValueError: If there is no core, ranks of neighbours differ, or a mode or rank is empty.
        TypeError: If the cores differ in dtype, or `log_scale` is not of their real dtype.

    Derivatives:
        Of every operation, in the cores and in `log_scale`, of any order; of `round` first order.

    References:
        Oseledets, SIAM J. Sci. Comput. 33, 2295 (2011).

    Examples:
        >>> x = TensorTrain((torch.ones(1, 2, 3), torch.ones(3, 4, 1)))
        >>> x.shape, x.ranks, float(x[0, 0])
        ((2, 4), (1, 3, 1), 3.0)
        >>> float((x - 3 * x).norm() / x.norm())
        2.0
    """

    cores: tuple[Tensor, ...]
    log_scale: Tensor = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        object.__setattr__(self, "cores", tuple(self.cores))
        train_parts.check_cores("TensorTrain", self.cores, "d")
        object.__setattr__(
            self, "log_scale", train_parts.check_scale("TensorTrain", self.cores, self.log_scale)
        )

    def parts(self) -> dict[str, Tensor]:
        """Give the cores, in order, and the logarithm of the scale."""
        named = {f"core_{k}": core for k, core in enumerate(self.cores)}
        return {**named, "log_scale": self.log_scale}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the train of its parts again.

        Args:
            parts: As the method `parts` gives them.
            settings: None are needed.
        """
        cores = tuple(parts[f"core_{k}"] for k in range(len(parts) - 1))
        scale = parts["log_scale"]
        return cls(cores, log_scale=scale.real if scale.is_complex() else scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each mode."""
        return tuple(core.shape[1] for core in self.cores)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks between the cores, with the outer ones, which are 1."""
        return (1, *(core.shape[2] for core in self.cores))

    def to_dense(self) -> Tensor:  # (d_1, ..., d_n)
        """Multiply the cores out."""
        return train_sweeps.dense(self.cores, self.log_scale)

    def __getitem__(self, index: Any) -> Any:
        """Entries or a smaller train; see `Format.__getitem__`."""
        found, shape = indexing.parse(type(self).__name__, self.shape, index)
        if shape is not None:
            return train_sweeps.entries(self.cores, found, self.log_scale).reshape(shape)
        return self._merged([core[:, i] for core, i in zip(self.cores, found, strict=True)])

    def evaluate(
        self,
        indices: Tensor,  # (..., order), whole numbers
    ) -> Tensor:  # (...)
        """Give many entries at once.

        Args:
            indices: One row of indices per entry; negative ones count from the end.

        Returns:
            The entries.

        Raises:
            ValueError: If the last axis is not the order of the train.
            IndexError: If an index is out of range.
        """
        _check.shapes("TensorTrain.evaluate", indices=(indices, f"... {self.order}"))
        rows = indices.reshape(-1, self.order)
        values: Tensor = self[tuple(rows.unbind(1))]
        return values.reshape(indices.shape[:-1])

    def sum(self, modes: Sequence[int] | int | None = None) -> Any:
        """Sum over modes, all by default.

        Args:
            modes: Which; negative ones count from the end.

        Returns:
            A train of the other modes, or a tensor without axes if none is left.

        Raises:
            IndexError: If there is no such mode.
        """
        modes = range(self.order) if modes is None else modes
        chosen = [modes] if isinstance(modes, int) else list(modes)
        for k in chosen:
            if not -self.order <= k < self.order:
                raise IndexError(
                    f"`TensorTrain.sum(modes=...)` must be modes of a train of order {self.order}. "
                    f"Got {k}."
                )
        gone = {k % self.order for k in chosen}
        return self._merged([c.sum(1) if k in gone else c for k, c in enumerate(self.cores)])

    def _merged(self, pieces: list[Tensor]) -> Any:
        cores, e = train_sweeps.merge(pieces)
        if cores[0].ndim == 0:
            return train_sweeps.scale_back(cores[0], e, self.log_scale)
        return type(self)(tuple(cores), log_scale=train_sweeps.log_of(e, self.log_scale))

    def inner(self, other: Self | Tensor) -> Tensor:  # ()
        """Sum of the products of entries, the first conjugated.

        Args:
            other: A train of the same shape, or a dense tensor of it.

        Returns:
            A tensor without axes.
        """
        if isinstance(other, Tensor):
            return self._inner_dense(other)
        self._same(other, "inner")
        m, e = train_sweeps.inner(self.cores, other.cores)
        return train_sweeps.scale_back(m, e, self.log_scale + other.log_scale)

    def log_inner(self, other: Self) -> tuple[Tensor, Tensor]:  # (), ()
        """Give the inner product as a sign (or phase) and the logarithm of its absolute value.

        Args:
            other: A train of the same shape.

        Returns:
            The number of absolute value one (zero if the product is zero), and the logarithm.
        """
        self._same(other, "log_inner")
        m, e = train_sweeps.inner(self.cores, other.cores)
        logarithm = train_sweeps.log_of(e, self.log_scale + other.log_scale) + m.abs().log()
        return torch.sgn(m), logarithm

    def _inner_dense(self, x: Tensor) -> Tensor:
        if tuple(x.shape) != self.shape:
            raise ValueError(
                f"`TensorTrain.inner(other=...)` must have shape {self.shape}. Got "
                f"{tuple(x.shape)}."
            )
        _check.one_kind("TensorTrain.inner", cores=self.cores[0], other=x)
        m, e = x.reshape(1, -1), torch.zeros((), dtype=torch.int64, device=x.device)
        for core in self.cores:
            matrix, more = train_sweeps.split_scale(core.reshape(-1, core.shape[2]))
            m, e = matrix.mH @ m.reshape(matrix.shape[0], -1), e + more
        return train_sweeps.scale_back(m.reshape(()), e, self.log_scale)

    def norm(self) -> Tensor:  # ()
        """Return the Frobenius norm, by orthogonalization: accurate for small differences too."""
        m, e = self._norm()
        return train_sweeps.scale_back(m, e, self.log_scale)

    def log_norm(self) -> Tensor:  # ()
        """Return the logarithm of the norm, in range where the norm itself is not."""
        m, e = self._norm()
        return train_sweeps.log_of(e, self.log_scale) + m.log()

    def _norm(self) -> tuple[Tensor, Tensor]:
        if self.dtype in HALF:
            m, e = self.to(torch.float32)._norm()
            return m.to(self.dtype), e
        m, e = train_sweeps.norm(self.cores)
        if not any(core.requires_grad for core in self.cores):
            return m, e
        if not bool(m > 0):  # the norm has no derivative at zero; like torch, give zero
            return m + sum(0 * core.real.sum() for core in self.cores), e
        # The value is from QR; the derivatives are those of the root of the inner product.
        square, twice = train_sweeps.inner(self.cores, self.cores)
        square = square.real * torch.exp2((twice - 2 * e).to(m.dtype)) / m.square()
        return m * (1 + square - square.detach()).sqrt(), e

    def __add__(self, other: Self) -> Self:
        self._same(other, "+")
        top = torch.maximum(self.log_scale, other.log_scale).detach()
        left = train_parts.spread(self.cores, self.log_scale - top)
        right = train_parts.spread(other.cores, other.log_scale - top)
        return type(self)(tuple(summed(left, right)), log_scale=top)

    def _hadamard(self, other: Self) -> Self:
        cores = [
            torch.einsum("adb,cde->acdbe", a, b).reshape(
                a.shape[0] * b.shape[0], a.shape[1], a.shape[2] * b.shape[2]
            )
            for a, b in zip(self.cores, other.cores, strict=True)
        ]
        return type(self)(tuple(cores), log_scale=self.log_scale + other.log_scale)

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        cores, scale = train_parts.scaled(self.cores, self.log_scale, factor)
        return type(self)(cores, log_scale=scale)

    def conj(self) -> Self:
        """Return the train with every entry conjugated."""
        cores = tuple(core.conj().resolve_conj() for core in self.cores)
        return type(self)(cores, log_scale=self.log_scale)

    def reverse(self) -> Self:
        """Return the train with the modes in the opposite order."""
        cores = [core.permute(2, 1, 0).contiguous() for core in reversed(self.cores)]
        return type(self)(tuple(cores), log_scale=self.log_scale)

    def orthogonalize(self, center: int = -1) -> Self:
        """Give the same tensor with orthonormal cores on both sides of one.

        Args:
            center: The mode whose core then has the norm of the tensor, up to `log_scale`;
                negative ones count from the end.

        Returns:
            A train of the same or lower ranks.

        Raises:
            IndexError: If there is no such mode.
        """
        if not -self.order <= center < self.order:
            raise IndexError(
                f"`TensorTrain.orthogonalize(center=...)` must be a mode of a train of order "
                f"{self.order}. Got {center}."
            )
        if self.dtype in HALF:
            return self.to(torch.float32).orthogonalize(center).to(self.dtype)
        cores, e = train_sweeps.orthogonalize(self.cores, center % self.order)
        return type(self)(tuple(cores), log_scale=train_sweeps.log_of(e, self.log_scale))

    def round(
        self, *, tolerance: float = 0.0, max_rank: int | None = None, method: str = "auto"
    ) -> Self:
        """Lower the ranks; `formats.round_train` gives the error too.

        Args:
            tolerance: Largest error, relative to the norm.
            max_rank: Largest rank to keep.
            method: ``"svd"``, ``"gram"``, ``"randomized"`` or ``"auto"``, as in `round_train`.

        Returns:
            A train of the same shape.

        Raises:
            ValueError: If a core is not finite, or an argument is out of range.

        Derivatives:
            First order, see `round_train`.
        """
        from tensornet.formats.train_rounding import round_train

        value = round_train(self, tolerance=tolerance, max_rank=max_rank, method=method).value
        return type(self)(value.cores, log_scale=value.log_scale)

    @classmethod
    def from_cp(cls, x: CP) -> Self:
        """Store a canonical (CP) tensor as a train, exactly.

        Args:
            x: The tensor.

        Returns:
            A train whose inner ranks are all the rank of `x`.

        Raises:
            TypeError: If `x` is something else.
        """
        check_kind("TensorTrain.from_cp", "x", x, CP)
        factors = [f.clone() for f in x.factors]
        if x.weights is not None:
            factors[0] = factors[0] * x.weights
        if len(factors) == 1:
            return cls((factors[0].sum(1)[None, :, None],))
        middle = [torch.diag_embed(f).movedim(0, 1) for f in factors[1:-1]]
        return cls((factors[0][None], *middle, factors[-1].mT[:, :, None]))

    @classmethod
    def from_tucker(cls, x: Tucker) -> Self:
        """Store a Tucker tensor as a train: its core becomes a train, exactly to round-off.

        Args:
            x: The tensor.

        Returns:
            A train with the ranks of that of the core.

        Raises:
            TypeError: If `x` is something else.
            ValueError: If the core is not finite.

        Derivatives:
            First order, as those of `tensor_train`.
        """
        from tensornet.formats.train_svd import tensor_train

        check_kind("TensorTrain.from_tucker", "x", x, Tucker)
        train = tensor_train(x.core).value
        pairs = zip(train.cores, x.factors, strict=True)
        cores = tuple(torch.einsum("aib,di->adb", c, f) for c, f in pairs)
        return cls(cores, log_scale=train.log_scale)

    @classmethod
    def from_tensorly(cls, x: Any) -> Self:
        """Take over a train of TensorLy (PyTorch or NumPy), or a list of cores.

        Args:
            x: A ``TTTensor``, or its factors.

        Returns:
            The same tensor; arrays of NumPy become tensors that share their memory.
        """
        return cls(tuple(torch.as_tensor(core) for core in x))

    def to_tensorly(self) -> Any:
        """Return a ``TTTensor`` of torch tensors, the scale spread over the cores."""
        import tensorly
        from tensorly.tt_tensor import TTTensor

        factor = torch.exp(self.log_scale / self.order)
        with tensorly.backend_context("pytorch", local_threadsafe=True):
            return TTTensor([core * factor for core in self.cores])
