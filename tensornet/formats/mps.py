"""Matrix-product states: tensor trains that know where their orthogonality centre is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats import mps_sandwich, train_sweeps
from tensornet.formats.decomposition import Decomposition
from tensornet.formats.format import HALF, check_kind, check_limits
from tensornet.formats.mps_checks import check_bond, check_gauge, refuse_zero, site_of
from tensornet.formats.mps_sample import drawn
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_matrix import TTMatrix
from tensornet.linalg.truncation import truncate


@dataclass(frozen=True, eq=False, repr=False, init=False)
class MPS(TensorTrain):
    """A tensor train read as the state of a chain of sites.

    With a `center`, the cores left of it are orthonormal from the left and those right of it
    from the right; all weight is in the core at the centre. Sums and products have none;
    `canonical` gives it.

    Args:
        cores: One core (r, d, r') per site; outer ranks are 1.
        center: Site of the centre, or ``None`` where nothing is known.
        log_scale: Logarithm of a common factor, (). By default zero.

    Raises:
        ValueError: If the cores are no train, or not orthonormal towards `center`.
        TypeError: If the cores differ in dtype.

    Derivatives:
        As those of `TensorTrain`; Schmidt values to the first order, also where they coincide.

    References:
        Schollwöck, Annals of Physics 326, 96 (2011), section 4.

    Examples:
        >>> up = torch.tensor([1.0, 0.0])
        >>> psi = MPS.product([up, up, up])
        >>> psi.center, float(psi.norm()), psi.sample(2, seed=0).tolist()
        (0, 1.0, [[0, 0, 0], [0, 0, 0]])
    """

    center: int | None = None

    def __init__(
        self, cores: Sequence[Tensor], center: int | None = None, log_scale: Tensor | None = None
    ) -> None:
        for name, part in (("cores", cores), ("center", center), ("log_scale", log_scale)):
            object.__setattr__(self, name, part)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.center is None:
            return
        k = site_of("MPS(center=...)", self.center, self.order)
        object.__setattr__(self, "center", k)
        check_gauge(self.cores, k)

    def _gauged(self, cores: Sequence[Tensor], log_scale: Tensor, center: int | None) -> Self:
        """Make a value without checks of all cores, which would cost more than a gate does."""
        new = object.__new__(type(self))
        for name, part in (("cores", tuple(cores)), ("log_scale", log_scale), ("center", center)):
            object.__setattr__(new, name, part)
        return new

    def settings(self) -> dict[str, Any]:
        """Return the centre."""
        return {"center": self.center}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the state of its parts again.

        Args:
            parts: As the method `parts` gives them.
            settings: As the method `settings` gives them.
        """
        center = settings.get("center")
        bare = super().from_parts(parts, {})
        if center is None:
            return bare
        try:
            return replace(bare, center=center)
        except ValueError:  # a change of dtype is no isometry to round-off
            return bare.canonical(center)

    @classmethod
    def product(
        cls,
        vectors: Sequence[Tensor],  # (d,) each
    ) -> Self:
        """Make a product state.

        Args:
            vectors: One per site, not zero.

        Returns:
            A state of ranks one whose norm is the product of the norms, its centre at site 0.

        Raises:
            ValueError: If there is none, or one is zero or no vector.
        """
        for k, vector in enumerate(vectors):
            _check.dense("MPS.product", f"vectors[{k}]", vector, order=1)
            if not bool(vector.detach().abs().sum() > 0):
                raise ValueError(f"`MPS.product(vectors[{k}]=...)` must not be zero. Got zeros.")
        norms = [torch.linalg.vector_norm(v) for v in vectors]
        cores = [(v / norm)[None, :, None] for v, norm in zip(vectors, norms, strict=True)]
        bare = cls(tuple(cores))
        return replace(bare, log_scale=bare.log_scale + sum(n.log() for n in norms), center=0)

    def canonical(self, center: int = 0) -> Self:
        """Give the same state with its centre at a site. A known centre is only moved there.

        Args:
            center: The site; negative ones count from the end.

        Returns:
            The state, the core at the centre of norm one (zero for the zero state).

        Raises:
            IndexError: If there is no such site.
        """
        k = site_of("MPS.canonical(center=...)", center, self.order)
        if self.dtype in HALF:
            single = self.to(torch.float32).canonical(k)
            cores = [core.to(self.dtype) for core in single.cores]
            return self._gauged(cores, single.log_scale.to(self.dtype), k)
        begin, end = 0, self.order - 1
        if self.center is not None:
            begin, end = min(self.center, k), max(self.center, k)
        window, e = train_sweeps.orthogonalize(self.cores[begin : end + 1], k - begin)
        cores = [*self.cores[:begin], *window, *self.cores[end + 1 :]]
        norm = torch.linalg.vector_norm(cores[k])
        zero = not bool(norm > 0)
        cores[k] = cores[k] / (1 if zero else norm)
        log = train_sweeps.log_of(e, self.log_scale) + (0 if zero else norm.log())
        return self._gauged(cores, log, k)

    def _norm(self) -> tuple[Tensor, Tensor]:
        if self.center is None or any(core.requires_grad for core in self.cores):
            return super()._norm()
        m, e = train_sweeps.split_scale(self.cores[self.center])
        return torch.linalg.vector_norm(m), e

    def conj(self) -> Self:
        """Return the state with every entry conjugated, its centre where it was."""
        new = super().conj()
        return self._gauged(new.cores, new.log_scale, self.center)

    def _scaled(self, factor: float | complex | Tensor) -> Self:
        new = super()._scaled(factor)
        size = abs(factor.detach().item() if isinstance(factor, Tensor) else factor)
        center = self.center if 0 < size < math.inf else None
        return self._gauged(new.cores, new.log_scale, center)

    def normalized(self) -> Self:
        """Return the state divided by its norm.

        Raises:
            ValueError: If the state is zero.
        """
        return self._gauged(self.cores, self.log_scale - self._log_size("normalized"), self.center)

    def _log_size(self, method: str) -> Tensor:
        """Logarithm of the norm, of a state that must not be zero."""
        size = self.log_norm()
        refuse_zero(method, size == -math.inf)
        return size

    def round(
        self, *, tolerance: float = 0.0, max_rank: int | None = None, method: str = "auto"
    ) -> Self:
        """Lower the ranks, with the centre beside every cut.

        Args:
            tolerance: Largest error, relative to the norm.
            max_rank: Largest rank to keep.
            method: As in `formats.round_train`.

        Returns:
            The state with its centre at the last site.

        Raises:
            ValueError: As `formats.round_train`.
        """
        rounded = super().round(tolerance=tolerance, max_rank=max_rank, method=method)
        return rounded.canonical(self.order - 1)

    def truncate_bond(
        self, bond: int, *, tolerance: float = 0.0, max_rank: int | None = None
    ) -> Decomposition[Self]:
        """Lower one rank, optimally: the error is the norm of the Schmidt values left out.

        Args:
            bond: Between sites `bond` and `bond` + 1.
            tolerance: Largest error, relative to the norm.
            max_rank: Largest rank to keep.

        Returns:
            The state with its centre at `bond` + 1, and the error.

        Raises:
            IndexError: If there is no such bond.
        """
        check_limits("MPS.truncate_bond", tolerance, max_rank)
        check_bond("truncate_bond", bond, self.order)
        left = self.canonical(bond)
        core = left.cores[bond]
        found = truncate(
            core.flatten(0, 1), rank=max_rank, tolerance=tolerance, scale=1.0, method="svd"
        )
        following = left.cores[bond + 1]
        return left._split(bond, found.left, found.right, following, found.weight, tolerance)

    def _split(
        self, k: int, basis: Tensor, rest: Tensor, core: Tensor, weight: float, tolerance: float
    ) -> Decomposition[Self]:
        """Put a truncated pair of cores in at a bond; this state has norm one before its scale."""
        cores = list(self.cores)
        cores[k] = basis.reshape(cores[k].shape[0], -1, basis.shape[1])
        cores[k + 1] = torch.tensordot(rest, core, 1)
        error = math.sqrt(weight)
        message = f"Rank {basis.shape[1]} at bond {k}, with a relative error of {error:.1e}."
        converged = error <= max(tolerance, 100 * torch.finfo(self.dtype).eps)
        value = self._gauged(cores, self.log_scale, k + 1)
        return Decomposition(value, error, converged, message, 1, 0)

    def apply_gate(
        self,
        gate: Tensor,  # (d1 d2, d1 d2) or (d1, d2, d1, d2)
        bond: int,
        *,
        tolerance: float = 0.0,
        max_rank: int | None = None,
    ) -> Decomposition[Self]:
        """Apply an operator to two neighbours and cut the rank between them: a step of TEBD.

        Args:
            gate: Operator on the two sites, not necessarily unitary.
            bond: Between sites `bond` and `bond` + 1.
            tolerance: Largest error, relative to the norm after the gate.
            max_rank: Largest rank to keep.

        Returns:
            The state with its centre at `bond` + 1, and the error relative to the uncut one.

        Raises:
            IndexError: If there is no such bond.
            ValueError: If the gate has another size, is not finite, or sends the state to zero.
            TypeError: If the dtypes differ.

        References:
            Vidal, Phys. Rev. Lett. 93, 040502 (2004).
        """
        check_limits("MPS.apply_gate", tolerance, max_rank)
        check_bond("apply_gate", bond, self.order)
        _check.one_kind("MPS.apply_gate", cores=self.cores[0], gate=gate)
        d1, d2 = self.shape[bond : bond + 2]
        if tuple(gate.shape) not in ((d1 * d2, d1 * d2), (d1, d2, d1, d2)):
            raise ValueError(
                f"`MPS.apply_gate(gate=...)` must have shape ({d1 * d2}, {d1 * d2}) or "
                f"({d1}, {d2}, {d1}, {d2}). Got {tuple(gate.shape)}."
            )
        _check.dense("MPS.apply_gate", "gate", gate)
        here = self.canonical(bond)
        pair = torch.tensordot(here.cores[bond], here.cores[bond + 1], 1)  # (a, d1, d2, b)
        a, _, _, b = pair.shape
        moved = gate.reshape(d1 * d2, d1 * d2) @ pair.reshape(a, d1 * d2, b)
        norm = torch.linalg.vector_norm(moved)
        if not bool(norm > 0):
            raise ValueError("`MPS.apply_gate(gate=...)` must not send the state to zero.")
        found = truncate(
            (moved / norm).reshape(a * d1, d2 * b),
            rank=max_rank, tolerance=tolerance, scale=1.0, method="svd",
        )  # fmt: skip
        scaled = self._gauged(here.cores, here.log_scale + norm.log(), None)
        eye = torch.eye(d2 * b, dtype=self.dtype, device=self.device).reshape(d2 * b, d2, b)
        return scaled._split(bond, found.left, found.right, eye, found.weight, tolerance)

    def schmidt_values(self) -> tuple[Tensor, ...]:  # (r_k,) each
        """Return the singular values of every cut in two, for the state of norm one."""
        state, found = self.canonical(0), []
        m = state.cores[0]
        for core in state.cores[1:]:
            matrix = m.flatten(0, 1)
            found.append(torch.linalg.svdvals(matrix))
            r = torch.linalg.qr(matrix).R
            m = torch.tensordot(r, core, 1)
        return tuple(found)

    def entropies(self) -> Tensor:  # (order - 1,)
        """Return the entanglement entropy of every cut, minus the sum of p ln p."""
        found = []
        for s in self.schmidt_values():
            p = s.square()
            found.append(-(torch.xlogy(p, p)).sum())
        return torch.stack(found) if found else self.cores[0].real.new_zeros(0)

    def sample(self, n: int, *, seed: int = 0) -> Tensor:  # (n, order), whole numbers
        """Draw configurations with the probability of their squared entries, independently.

        Args:
            n: How many.
            seed: Seed of the draws.

        Returns:
            The index of each site, one row per draw.

        Raises:
            ValueError: If the state is zero.

        References:
            Ferris & Vidal, Phys. Rev. B 85, 165146 (2012).
        """
        _check.at_least("MPS.sample", 1, n=n)
        generator = torch.Generator(device=self.device).manual_seed(seed)
        state = self.detach().canonical(0)
        state._log_size("sample")
        return drawn(state.cores, n, generator)

    def expectation(self, H: TTMatrix) -> Tensor:  # ()
        """Expectation of an operator, for the state divided by its norm.

        Args:
            H: Square in every mode, of this shape.

        Returns:
            A number; real for real states, and with an imaginary part of round-off for Hermitian
            operators and complex ones.

        Raises:
            ValueError: If the shapes do not fit, or the state is zero.
            TypeError: If `H` is no TT-matrix, or the dtypes differ.
        """
        check_kind("MPS.expectation", "H", H, TTMatrix)
        _check.one_kind("MPS.expectation", cores=self.cores[0], H=H.cores[0])
        sizes = [tuple(core.shape[1:3]) for core in H.cores]
        if sizes != [(d, d) for d in self.shape]:
            raise ValueError(
                f"`MPS.expectation(H=...)` must act on the shape {self.shape}. Got {sizes}."
            )
        m, e = mps_sandwich.operator(self.cores, H.cores)
        log = H.log_scale + 2 * (self.log_scale - self._log_size("expectation"))
        return train_sweeps.scale_back(m, e, log)

    def local_expectation(
        self,
        operators: Mapping[int, Tensor],  # (d, d) each
    ) -> Tensor:  # ()
        """Expectation of a product of operators on single sites: a density or a correlation.

        Args:
            operators: The operator of each site that has one.

        Returns:
            Its expectation for the state divided by its norm.

        Raises:
            IndexError: If there is no such site.
            ValueError: If there is no operator, one has another size than its site, or the state is
                zero.
            TypeError: If the dtypes differ.

        Examples:
            >>> z = torch.diag(torch.tensor([0.5, -0.5]))
            >>> psi = MPS.product([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
            >>> float(psi.local_expectation({0: z})), float(psi.local_expectation({0: z, 1: z}))
            (0.5, -0.25)
        """
        if not operators:
            raise ValueError("`MPS.local_expectation(operators=...)` must not be empty.")
        where = "MPS.local_expectation(operators=...)"
        sites = {site_of(where, k, self.order): op for k, op in operators.items()}
        for k, op in sites.items():
            _check.shapes(
                "MPS.local_expectation", **{f"operators[{k}]": (op, f"{self.shape[k]} " * 2)}
            )
            _check.one_kind("MPS.local_expectation", cores=self.cores[0], operator=op)
        first, last = min(sites), max(sites)
        state = self if self.center is not None and first <= self.center <= last else None
        state = state or self.canonical(first)
        inside = {k - first: op for k, op in sites.items()}
        m, e = mps_sandwich.sites(state.cores[first : last + 1], inside)
        square = state.cores[state.center or 0].abs().square().sum()
        refuse_zero("local_expectation", square == 0)
        return train_sweeps.scale_back(m, e, 0 * self.log_scale) / square
