"""Ground states of operators in train format, by the density-matrix renormalisation group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg.krylov import lowest
from tensornet.linalg.projection import (
    LocalOperator,
    Train,
    block,
    checked_cores,
    log_scale,
    mirrored,
    random_cores,
    shrink,
)
from tensornet.linalg.solution import Solution
from tensornet.linalg.truncation import n_kept

_LARGEST_LOG = 700.0  # logarithm of the largest factor of an operator

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)


class Operator(Protocol[State_co]):
    """What `ground_state` asks of an operator: cores (w, d_out, d_in, w') and its states."""

    @property
    def cores(self) -> Sequence[Tensor]:
        """Cores, in order."""

    @property
    def log_scale(self) -> Tensor | None:
        """Logarithm of a positive factor, or none."""

    def state(self, cores: tuple[Tensor, ...], center: int) -> State_co:
        """Make a vector of cores (r, d, r') that are orthonormal towards the centre."""


@dataclass(frozen=True)
class GroundState(Solution[State], Generic[State]):
    """The lowest eigenvector found, with its energy.

    The residuals are the changes of the energy from sweep to sweep, relative to the energy or the
    root mean square of all eigenvalues, whichever is larger.

    Args:
        energy: The expectation of the operator: an upper bound of the lowest eigenvalue.
        variance: Expectation of the square minus the square of the expectation: an eigenvalue
            lies within its square root of the energy.
        discarded_weight: Largest squared norm cut off at a bond in the last sweep.
    """

    energy: float
    variance: float
    discarded_weight: float


def ground_state(
    H: Operator[State],  # cores (w, d, d, w')
    *,
    max_rank: int = 256,
    tolerance: float = 1e-10,
    max_sweeps: int = 40,
    start: Train | None = None,
    seed: int = 0,
    n_sites: int = 2,
) -> GroundState[State]:
    """Find the lowest eigenvalue of a Hermitian operator and its eigenvector.

    Sweeps over pairs of neighbours: each pair is the lowest eigenvector of the operator seen from
    there, by Lanczos from what was there before, and is cut again by its Schmidt values. Ranks
    grow from sweep to sweep as far as the tolerance and `max_rank` ask.

    Args:
        H: Hermitian operator, as `formats.TTMatrix`. Computed in its dtype.
        max_rank: Largest rank of the state.
        tolerance: Change of the energy over a sweep at which to stop, relative to the energy or
            the root mean square of all eigenvalues, whichever is larger; a tenth of it is what
            may be cut off at a bond.
        max_sweeps: Sweeps from one end to the other, at most.
        start: State to begin with; by default a random one.
        seed: Seed of the random start.
        n_sites: 2, or 1 for sweeps over single cores, which keep the ranks of the start.

    Returns:
        The state as an MPS of norm one with its centre at an end, the energy, its variance, and
        the changes of the energy as residuals.

    Raises:
        TypeError: If an argument is no train, or `start` is of another dtype.
        ValueError: If the operator is not square, not Hermitian or too large for its energy to be a
            number, or shapes do not fit.

    References:
        Schollwöck, The density-matrix renormalization group in the age of matrix product
        states, Annals of Physics 326, 96 (2011), section 6.

    Examples:
        >>> from tensornet.formats import spin_chain
        >>> round(ground_state(spin_chain(4, xx=1.0, yy=1.0, zz=1.0)).energy, 3)
        -1.616
    """
    _check.at_least("ground_state", 1, max_rank=max_rank, max_sweeps=max_sweeps)
    _check.tolerance("ground_state", tolerance=tolerance)
    if n_sites not in (1, 2):
        raise ValueError(f"`ground_state(n_sites=...)` must be 1 or 2. Got {n_sites!r}.")
    with torch.no_grad():
        ops, spread = _operator_cores(H)
        dims = [core.shape[1] for core in ops]
        generator = torch.Generator().manual_seed(seed)
        if start is not None:
            cores = _start_cores(start, ops)
        else:
            cores = random_cores(dims, max_rank if n_sites == 1 else 4, ops[0], generator)
        chain = _Chain(ops, cores)
        n_sites = min(n_sites, len(ops))
        change, changes, energy = math.inf, list[float](), math.inf
        target = max(tolerance, 100 * torch.finfo(ops[0].dtype).eps)
        rank, settled = min(max_rank, max(16, *chain.ranks())), len(ops) <= 2
        for sweep in range(1, max_sweeps + 1):
            before = energy
            energy, weight, full = chain.sweep(
                n_sites, _cut(sweep, rank, target, max(abs(before), spread))
            )
            size = max(abs(energy), spread, 1e-300)
            change = abs(before - energy) / size if sweep > 1 else math.inf
            changes.append(change)
            if settled and change <= target:
                break
            settled = sweep >= 3 and not (full and rank < max_rank)
            rank = min(max_rank, 4 * rank) if full else rank
        state, center = chain.cores()
        factor = math.exp(log_scale(H))
        variance = _variance(ops, state) * factor * factor  # may be infinite
    converged = change <= target
    message = f"The energy changed by {change:.1e} of itself in sweep {sweep}" + (
        "."
        if converged
        else f", more than the tolerance {tolerance:.1e}: allow more sweeps or a higher rank."
    )
    if n_sites == 2 and weight > 10 * tolerance:
        message += f" At rank {max_rank}, a weight of {weight:.1e} was cut off."
    return GroundState(
        H.state(tuple(state), center), converged, message, tuple(changes), sweep,
        energy * factor, variance, weight,
    )  # fmt: skip


def _cut(sweep: int, rank: int, tolerance: float, energy: float) -> _Cut:
    if sweep <= 2 or math.isinf(energy):
        return _Cut(rank, max(math.sqrt(0.1 * tolerance), 1e-4), 0.0, 3)
    # the energy of a place is wrong by residual² / gap
    residual = 0.1 * math.sqrt(tolerance * energy)
    return _Cut(rank, math.sqrt(0.1 * tolerance), residual, 8)


def _operator_cores(H: Operator[State]) -> tuple[list[Tensor], float]:
    """Check the operator: its cores, and the root mean square of its eigenvalues."""
    cores = checked_cores("ground_state", "H", H, 4)
    if log_scale(H) > _LARGEST_LOG:
        raise ValueError(
            f"`ground_state(H=...)` must have a log_scale of at most {_LARGEST_LOG}, so that its "
            f"energy is a number. Got {log_scale(H)}."
        )
    for k, core in enumerate(cores):
        if core.shape[1] != core.shape[2]:
            raise ValueError(
                "`ground_state(H=...)` must be square in each mode. Got "
                f"{core.shape[1]} x {core.shape[2]} in mode {k}."
            )
    log_straight, straight = _trace_of_product(cores, [c.conj() for c in cores])
    log_crossed, crossed = _trace_of_product(cores, [c.transpose(1, 2) for c in cores])
    ratio = crossed / straight * math.exp(log_crossed - log_straight) if straight else 1.0
    # ‖H - H^†‖² = 2 (1 - ratio) ‖H‖²; round-off and float32 data leave this much
    slack = 1e-9 if torch.finfo(cores[0].dtype).eps < 1e-10 else 1e-4
    if abs(1 - ratio) > slack:
        raise ValueError(
            "`ground_state(H=...)` must be Hermitian. Got an operator that differs from its "
            f"adjoint by {math.sqrt(max(0.0, 2 * (1 - ratio))):.1e} of its norm."
        )
    n = sum(math.log(core.shape[1]) for core in cores)
    return cores, math.sqrt(straight) * math.exp(min(0.5 * (log_straight - n), 700.0))


def _trace_of_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[float, float]:
    """Sum of products of the entries of two operators: logarithm of a scale, and the rest."""
    environment = first[0].new_ones(1, 1)
    log = 0.0
    for a, b in zip(first, second, strict=True):
        step = torch.tensordot(environment, a, ([0], [0]))
        environment = torch.tensordot(step, b, ([0, 1, 2], [0, 1, 2]))
        size = float(torch.linalg.vector_norm(environment))
        if size == 0:
            return 0.0, 0.0
        environment, log = environment / size, log + math.log(size)
    return log, float(environment.real)


def _start_cores(start: Train, ops: Sequence[Tensor]) -> list[Tensor]:
    cores = checked_cores("ground_state", "start", start, 3)
    dims, want = [c.shape[1] for c in cores], [op.shape[2] for op in ops]
    if dims != want:
        raise ValueError(
            f"`ground_state(start=...)` must have the shape {tuple(want)} of the operator. Got "
            f"{tuple(dims)}."
        )
    _check.one_kind("ground_state", H=ops[0], start=cores[0])
    return cores


@dataclass(frozen=True)
class _Cut:
    """How hard to try in one sweep.

    Args:
        rank: Largest rank.
        norm: Norm that may be cut off at a bond.
        residual: Residual norm at which to stop Lanczos.
        n_vectors: Dimension of its Krylov space.
    """

    rank: int
    norm: float
    residual: float
    n_vectors: int


class _Chain:
    """The state during the sweeps: orthonormal cores on both sides of a place, outer end first."""

    def __init__(self, ops: Sequence[Tensor], cores: Sequence[Tensor]) -> None:
        self.near_ops = [op.contiguous() for op in ops]  # seen from the near end
        self.far_ops = [mirrored(op) for op in reversed(ops)]
        self.near: list[Tensor] = []
        self.far: list[Tensor] = []
        self.near_environments = [ops[0].new_ones(1, 1, 1)]
        self.far_environments = [ops[0].new_ones(1, 1, 1)]
        self.solved_here = self.reversed = False
        carry = ops[0].new_ones(1, 1)  # (outer bond, bond of the core)
        for k, core in enumerate(map(mirrored, reversed(cores))):
            core = torch.tensordot(carry, core, 1)
            if k == len(ops) - 1:
                norm = torch.linalg.vector_norm(core)
                if float(norm) == 0:
                    raise ValueError("`ground_state(start=...)` must not be zero. Got norm 0.")
                self.center = (core / norm)[:, :, 0].mT.contiguous()  # (d, outer)
                break
            q, carry = torch.linalg.qr(core.flatten(0, 1))
            carry = carry / torch.linalg.vector_norm(carry).clamp(min=1e-300)
            self._push_far(q, core.shape)

    def _push_far(self, q: Tensor, shape: Sequence[int]) -> None:
        joined = block(self.far_environments[-1], self.far_ops[len(self.far)])
        self.far_environments.append(shrink(q, joined, q))
        self.far.append(q.view(shape[0], shape[1], -1))

    def ranks(self) -> list[int]:
        """Ranks of the bonds."""
        return [1, *(core.shape[2] for core in self.near + self.far)]

    def cores(self) -> tuple[list[Tensor], int]:
        """Cores (r, d, r') in order and the place, which must be at an end."""
        ahead = [self.center[None], *map(mirrored, reversed(self.far))]
        if self.reversed:
            return [mirrored(core) for core in reversed(ahead)], len(ahead) - 1
        return ahead, 0

    def sweep(self, n_sites: int, cut: _Cut) -> tuple[float, float, bool]:
        """Go to the other end: the energy, the largest weight cut, whether the rank bound."""
        weights, full = [0.0], False
        if self.solved_here and self.far:
            self._move()
        for _ in range(len(self.far) + 2 - n_sites):
            weight, bound = self._step(n_sites, cut)
            weights.append(weight)
            full = full or bound
        self.solved_here = True
        self._turn()
        return self.energy(), max(weights), full

    def energy(self) -> float:
        """Expectation of the operator."""
        there = block(self.near_environments[-1], self.near_ops[len(self.near)])
        image = LocalOperator(there, self.far_environments[-1])(self.center)
        return float((self.center.conj() * image).sum().real)

    def _step(self, n_sites: int, cut: _Cut) -> tuple[float, bool]:
        """Solve here, and go on by one core."""
        near = block(self.near_environments[-1], self.near_ops[len(self.near)])
        if n_sites == 1:
            local = LocalOperator(near, self.far_environments[-1])
            self.center = lowest(local, self.center, cut.residual, cut.n_vectors)
            if self.far:
                self._move(near)
            return 0.0, False
        core = self.far.pop()
        self.far_environments.pop()
        far = block(self.far_environments[-1], self.far_ops[len(self.far)])
        pair = self.center @ core.flatten(0, 1).mT
        pair = lowest(LocalOperator(near, far), pair, cut.residual, cut.n_vectors)
        basis, weight, bound = _leading(pair, cut.rank, cut.norm)
        self._push_near(basis, near)
        rest = basis.mH @ pair
        rest = rest / torch.linalg.vector_norm(rest)
        o, d = core.shape[:2]
        self.center = rest.view(-1, o, d).transpose(1, 2).reshape(-1, o)
        return weight, bound

    def _move(self, near: Tensor | None = None) -> None:
        """Go on by one core without solving."""
        if near is None:
            near = block(self.near_environments[-1], self.near_ops[len(self.near)])
        q, rest = torch.linalg.qr(self.center)
        self._push_near(q, near)
        core = self.far.pop()
        self.far_environments.pop()
        o, d, _ = core.shape
        pair = rest @ core.flatten(0, 1).mT
        self.center = pair.view(-1, o, d).transpose(1, 2).reshape(-1, o)

    def _push_near(self, q: Tensor, near: Tensor) -> None:
        outer = self.near[-1].shape[2] if self.near else 1
        self.near.append(q.view(outer, -1, q.shape[1]))
        self.near_environments.append(shrink(q, near, q))

    def _turn(self) -> None:
        """At the far end: look at the train from there."""
        outer = self.near[-1].shape[2] if self.near else 1
        self.center = self.center.view(outer, -1).mT.contiguous()
        self.reversed = not self.reversed
        self.near, self.far = self.far, self.near
        self.near_ops, self.far_ops = self.far_ops, self.near_ops
        here, there = self.near_environments, self.far_environments
        self.near_environments, self.far_environments = there, here


def _leading(x: Tensor, rank: int, allowed: float) -> tuple[Tensor, float, bool]:
    """Basis of the leading left singular vectors, by the density matrix: sees weights to 1e-15."""
    m, n = x.shape
    values, vectors = torch.linalg.eigh(x @ x.mH if m <= n else x.mH @ x)
    values = values.flip(0).clamp(min=0)
    wanted = n_kept(values, None, allowed)
    r = min(rank, wanted)
    weight = float(values[r:].sum())
    basis: Tensor = vectors[:, -r:].flip(1)
    if m > n:
        basis = torch.linalg.qr(x @ basis).Q
    return basis.contiguous(), weight, wanted > rank


def _variance(ops: Sequence[Tensor], cores: Sequence[Tensor]) -> float:
    """Expectation of H² minus the square of that of H, at least zero."""
    square = ops[0].new_ones(1, 1, 1, 1)  # (state', H', H, state)
    plain = ops[0].new_ones(1, 1, 1)
    for op, core in zip(ops, cores, strict=True):
        x = torch.tensordot(square, core, ([3], [0]))  # (a', x, w, d, b)
        x = torch.tensordot(x, op, ([2, 3], [0, 2]))  # (a', x, b, d, v)
        x = torch.tensordot(x, op.conj(), ([1, 3], [0, 1]))  # (a', b, v, d, y)
        x = torch.tensordot(core.conj(), x, ([0, 1], [0, 3]))  # (b', b, v, y)
        square = x.permute(0, 3, 2, 1)
        x = torch.tensordot(plain, core, ([2], [0]))  # (a', w, d, b)
        x = torch.tensordot(x, op, ([1, 2], [0, 2]))  # (a', b, d, v)
        plain = torch.tensordot(core.conj(), x, ([0, 1], [0, 2])).transpose(1, 2)
    energy = float(plain.real)
    return max(0.0, float(square.real) - energy * energy)
