"""The matrix form of the tensor train: linear maps between tensor trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import indexing, train_parts, train_sweeps
from tensornet.formats.format import Format, check_kind
from tensornet.formats.tensor_train import TensorTrain

if TYPE_CHECKING:
    from tensornet.formats.mps import MPS


@dataclass(frozen=True, eq=False, repr=False)
class TTMatrix(Format):
    """A linear map from trains of shape (i_1, ..., i_n) to trains of shape (o_1, ..., o_n).

    ``A[o1, ..., on, i1, ..., in] = exp(log_scale) * cores[0][:, o1, i1] @ cores[1][:, o2, i2] ...``

    As a tensor it has 2n modes, first those of the result, then those of the argument.

    Args:
        cores: One core (r, o, i, r') per mode; the first r and the last r' are 1, as in TensorLy.
        log_scale: Logarithm of a common factor, (). By default zero.
        squeezed: Modes of size one that `shape` leaves out; indexing makes such.

    Raises:
        ValueError: If there is no core, ranks of neighbours differ, or a mode or rank is empty.
        TypeError: If the cores differ in dtype, or `log_scale` is not of their real dtype.

    Derivatives:
        As those of `TensorTrain`.

    References:
        Oseledets, SIAM J. Matrix Anal. Appl. 31, 2130 (2010).

    Examples:
        >>> A = TTMatrix.identity((2, 3))
        >>> A.shape, A.ranks, float(A.trace())
        ((2, 3, 2, 3), (1, 1, 1), 6.0)
    """

    cores: tuple[Tensor, ...]
    log_scale: Tensor = None  # type: ignore[assignment]  # filled in below
    squeezed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cores", tuple(self.cores))
        train_parts.check_cores("TTMatrix", self.cores, "o i")
        scale = train_parts.check_scale("TTMatrix", self.cores, self.log_scale)
        object.__setattr__(self, "log_scale", scale)
        sizes = self._sizes
        object.__setattr__(self, "squeezed", tuple(sorted(set(self.squeezed))))
        if any(not 0 <= k < len(sizes) or sizes[k] != 1 for k in self.squeezed):
            raise ValueError(
                f"`TTMatrix(squeezed=...)` must name modes of size one of {sizes}. Got "
                f"{self.squeezed}."
            )

    def parts(self) -> dict[str, Tensor]:
        """Give the cores, in order, and the logarithm of the scale."""
        named = {f"core_{k}": core for k, core in enumerate(self.cores)}
        return {**named, "log_scale": self.log_scale}

    def settings(self) -> dict[str, Any]:
        """Give the modes that are squeezed."""
        return {"squeezed": list(self.squeezed)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the matrix of its parts again.

        Args:
            parts: As the method `parts` gives them.
            settings: As the method `settings` gives them.
        """
        cores = tuple(parts[f"core_{k}"] for k in range(len(parts) - 1))
        scale = parts["log_scale"]
        scale = scale.real if scale.is_complex() else scale
        return cls(cores, scale, tuple(settings.get("squeezed", ())))

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (*(c.shape[1] for c in self.cores), *(c.shape[2] for c in self.cores))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the modes of the result, then of those of the argument."""
        return tuple(d for k, d in enumerate(self._sizes) if k not in self.squeezed)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks between the cores, with the outer ones, which are 1."""
        return (1, *(core.shape[3] for core in self.cores))

    def to_train(self) -> TensorTrain:
        """Return the train whose modes are the pairs (o, i), flattened."""
        cores = [core.flatten(1, 2) for core in self.cores]
        return TensorTrain(tuple(cores), self.log_scale)

    def _like(self, train: TensorTrain) -> Self:
        """Take a train of pairs back, with the modes of this matrix."""
        pairs = zip(train.cores, self.cores, strict=True)
        cores = [new.reshape(new.shape[0], *old.shape[1:3], new.shape[2]) for new, old in pairs]
        return type(self)(tuple(cores), train.log_scale, self.squeezed)

    def to_dense(self) -> Tensor:  # (o_1, ..., o_n, i_1, ..., i_n)
        """Compute every entry."""
        n = len(self.cores)
        pairs = [d for core in self.cores for d in core.shape[1:3]]
        dense = self.to_train().to_dense().reshape(pairs)
        return dense.permute(*range(0, 2 * n, 2), *range(1, 2 * n, 2)).reshape(self.shape)

    def to_matrix(self) -> Tensor:  # (o_1 ... o_n, i_1 ... i_n)
        """Return every entry, as a matrix."""
        n, rows = len(self.cores), 1
        for d in self._sizes[:n]:
            rows *= d
        return self.to_dense().reshape(rows, -1)

    def __getitem__(self, index: Any) -> Any:
        """Entries or a smaller matrix; see `Format.__getitem__`."""
        found, shape = indexing.parse("TTMatrix", self.shape, index)
        n, rest = len(self.cores), iter(found)
        zero: Any = 0 if shape is None else torch.zeros_like(found[0])
        full = [zero if k in self.squeezed else next(rest) for k in range(2 * n)]
        if shape is not None:
            return self._entries(full).reshape(shape)
        if not any(isinstance(i, slice) for i in full):
            return self._entries([torch.tensor([i], device=self.device) for i in full]).reshape(())
        slices = [i if isinstance(i, slice) else slice(i, i + 1) for i in full]
        cores = [c[:, slices[k], slices[n + k]] for k, c in enumerate(self.cores)]
        gone = tuple(k for k, i in enumerate(full) if not isinstance(i, slice))
        return type(self)(tuple(cores), self.log_scale, gone)

    def _entries(self, full: list[Tensor]) -> Tensor:
        n = len(self.cores)
        pairs = [full[k] * c.shape[2] + full[n + k] for k, c in enumerate(self.cores)]
        return train_sweeps.entries(self.to_train().cores, pairs, self.log_scale)

    def inner(self, other: Self) -> Tensor:  # ()
        """Sum of the products of entries, the first conjugated.

        Args:
            other: A matrix of the same shape.
        """
        self._same(other, "inner")
        return self.to_train().inner(other.to_train())

    def norm(self) -> Tensor:  # ()
        """Frobenius norm."""
        return self.to_train().norm()

    def log_norm(self) -> Tensor:  # ()
        """Return the logarithm of the Frobenius norm."""
        return self.to_train().log_norm()

    def trace(self) -> Tensor:  # ()
        """Return the sum of the diagonal.

        Raises:
            ValueError: If the matrix is not square in every mode.
        """
        for k, core in enumerate(self.cores):
            if core.shape[1] != core.shape[2]:
                raise ValueError(
                    f"`TTMatrix.trace` must have equal sizes in every mode. Got {core.shape[1]} and"
                    f" {core.shape[2]} in mode {k}."
                )
        diagonals = [core.diagonal(dim1=1, dim2=2).sum(-1) for core in self.cores]
        (m,), e = train_sweeps.merge(diagonals)
        return train_sweeps.scale_back(m, e, self.log_scale)

    @property
    def mT(self) -> Self:  # noqa: N802  # as torch names it
        """The transpose."""
        n = len(self.cores)
        cores = [core.transpose(1, 2).contiguous() for core in self.cores]
        gone = tuple((k + n) % (2 * n) for k in self.squeezed)
        return type(self)(tuple(cores), self.log_scale, gone)

    def adjoint(self) -> Self:
        """Return the conjugate transpose."""
        turned = self.mT
        cores = [core.conj().resolve_conj() for core in turned.cores]
        return type(self)(tuple(cores), turned.log_scale, turned.squeezed)

    def __add__(self, other: Self) -> Self:
        self._same(other, "+")
        return self._like(self.to_train() + other.to_train())

    def _hadamard(self, other: Self) -> Self:
        return self._like(self.to_train() * other.to_train())

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        cores, scale = train_parts.scaled(self.cores, self.log_scale, factor)
        return type(self)(cores, scale, self.squeezed)

    def round(
        self, *, tolerance: float = 0.0, max_rank: int | None = None, method: str = "auto"
    ) -> Self:
        """Lower the ranks, in the Frobenius norm.

        Args:
            tolerance: Largest error, relative to the norm.
            max_rank: Largest rank to keep.
            method: As in `round_train`.

        Returns:
            A matrix of the same shape.
        """
        train = self.to_train().round(tolerance=tolerance, max_rank=max_rank, method=method)
        return self._like(train)

    def apply(
        self,
        x: TensorTrain,
        *,
        tolerance: float | None = None,
        max_rank: int | None = None,
        method: str = "direct",
    ) -> TensorTrain:
        """Multiply a train by this matrix. Without tolerance and rank exactly: ranks multiply.

        Args:
            x: A train of shape (i_1, ..., i_n).
            tolerance: Largest error, relative to the norm of the result.
            max_rank: Largest rank of the result.
            method: How to compress: ``"direct"`` rounds the exact product; ``"randomized"``
                sketches the product without forming it, several times faster at high ranks;
                ``"zipup"`` truncates core by core, where the error is not controlled but usually
                near the tolerance.

        Returns:
            A train of shape (o_1, ..., o_n).

        Raises:
            ValueError: If the shapes do not fit.
            TypeError: If the dtypes differ.

        References:
            Stoudenmire & White, New J. Phys. 12, 055026 (2010) for zip-up; Camaño, Epperly & Tropp,
            arXiv 2504.06475 for randomized compression.

        Examples:
            >>> x = TensorTrain((torch.ones(1, 2, 1), torch.ones(1, 3, 1)))
            >>> float(TTMatrix.identity((2, 3)).apply(x).norm() / x.norm())
            1.0
        """
        from tensornet.formats.train_product import compressed_product

        self._fits(x)
        if tolerance is None and max_rank is None:
            return self._product(x)
        return compressed_product(self, x, tolerance or 0.0, max_rank, method)

    def _fits(self, x: TensorTrain) -> None:
        check_kind("TTMatrix.apply", "x", x, TensorTrain)
        if x.shape != self._sizes[len(self.cores) :]:
            raise ValueError(
                f"`TTMatrix.apply(x=...)` must have shape {self._sizes[len(self.cores) :]}. Got "
                f"{x.shape}."
            )
        _check.one_kind("TTMatrix.apply", matrix=self.cores[0], x=x.cores[0])

    def _product(self, x: TensorTrain) -> TensorTrain:
        cores = [
            torch.einsum("aoib,cid->acobd", a, c).reshape(
                a.shape[0] * c.shape[0], a.shape[1], a.shape[3] * c.shape[2]
            )
            for a, c in zip(self.cores, x.cores, strict=True)
        ]
        return TensorTrain(tuple(cores), self.log_scale + x.log_scale)

    def state(self, cores: tuple[Tensor, ...], center: int) -> MPS:
        """Make a state that this operator acts on: `linalg.ground_state` returns its result so.

        Args:
            cores: Cores (r, i, r') that are orthonormal towards `center`.
            center: Site of the orthogonality centre.

        Returns:
            The state.
        """
        from tensornet.formats.mps import MPS

        return MPS(cores, center=center)

    @overload
    def __matmul__(self, other: TensorTrain) -> TensorTrain: ...

    @overload
    def __matmul__(self, other: TTMatrix) -> Self: ...

    def __matmul__(self, other: Any) -> Any:
        """Multiply exactly, with a train or another matrix; ranks multiply."""
        if isinstance(other, TensorTrain):
            return self.apply(other)
        if not isinstance(other, TTMatrix):
            return NotImplemented
        n = len(self.cores)
        if self._sizes[n:] != other._sizes[: len(other.cores)]:
            raise ValueError(
                f"`TTMatrix @ ...` must join equal modes. Got {self._sizes[n:]} and "
                f"{other._sizes[: len(other.cores)]}."
            )
        _check.one_kind("TTMatrix @", left=self.cores[0], right=other.cores[0])
        cores = [
            torch.einsum("aojb,cjid->acoibd", a, c).reshape(
                a.shape[0] * c.shape[0], a.shape[1], c.shape[2], a.shape[3] * c.shape[3]
            )
            for a, c in zip(self.cores, other.cores, strict=True)
        ]
        gone = [k for k in self.squeezed if k < n] + [k for k in other.squeezed if k >= n]
        return type(self)(tuple(cores), self.log_scale + other.log_scale, tuple(gone))

    @classmethod
    def identity(
        cls,
        sizes: Sequence[int],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Give the map that leaves every train as it is; all ranks are one.

        Args:
            sizes: Size of each mode.
            dtype: By default torch's.
            device: By default torch's.

        Returns:
            A square matrix.
        """
        eyes = [torch.eye(d, dtype=dtype, device=device) for d in sizes]
        return cls(tuple(eye[None, :, :, None] for eye in eyes))

    @classmethod
    def kronecker_sum(cls, matrices: Sequence[Tensor]) -> Self:
        """Give the sum of the maps that apply one matrix to one mode each; all ranks are two.

        With second differences in every mode this is the Laplacian.

        Args:
            matrices: One square matrix (d, d) per mode.

        Returns:
            A square matrix.

        Raises:
            ValueError: If one is not square.
        """
        cores = []
        for k, A in enumerate(matrices):
            _check.shapes("TTMatrix.kronecker_sum", **{f"matrices[{k}]": (A, "d d")})
            eye, zero = torch.eye(len(A), dtype=A.dtype, device=A.device), torch.zeros_like(A)
            core = torch.stack([torch.stack([eye, A], -1), torch.stack([zero, eye], -1)])
            core = core[:1] if k == 0 else core  # from the state "not yet" ...
            cores.append(core[..., 1:] if k == len(matrices) - 1 else core)  # ... to "done"
        return cls(tuple(cores))

    @classmethod
    def from_tensorly(cls, x: Any) -> Self:
        """Take over a matrix of TensorLy (PyTorch or NumPy), or a list of cores.

        Args:
            x: A TensorLy ``TTMatrix``, or its factors.

        Returns:
            The same matrix; arrays of NumPy become tensors that share their memory.
        """
        return cls(tuple(torch.as_tensor(core) for core in x))

    def to_tensorly(self) -> Any:
        """Return a TensorLy ``TTMatrix`` of torch tensors, the scale spread over the cores."""
        import tensorly
        from tensorly.tt_matrix import TTMatrix as Theirs

        factor = torch.exp(self.log_scale / len(self.cores))
        with tensorly.backend_context("pytorch", local_threadsafe=True):
            return Theirs([core * factor for core in self.cores])
