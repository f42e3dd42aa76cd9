"""The trains of an AMEn solve during its sweeps: the unknown x, and z, which follows its residual.

Environments are kept at norm one with the logarithm of what was divided out, so that trains of
thousands of cores stay in range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tensornet.linalg.arnoldi import restarted
from tensornet.linalg.projection import (
    LocalOperator,
    Train,
    block,
    block_vector,
    log_scale,
    mirrored,
    random_cores,
    shrink,
    summed,
)

_LARGEST_DENSE = 300  # unknowns of a local system that is solved by LU


class _Stack:
    """Environments from the end to the place, each with the logarithm of its scale."""

    def __init__(self, first: Tensor) -> None:
        self.tensors, self.logs = [first], [0.0]

    def push(self, tensor: Tensor) -> None:
        size = float(torch.linalg.vector_norm(tensor))
        log = math.log(size) if size > 0 else 0.0
        self.tensors.append(tensor / size if size > 0 else tensor)
        self.logs.append(self.logs[-1] + log)

    def pop(self) -> None:
        self.tensors.pop()
        self.logs.pop()


class _Side:
    """What lies between one end and the place."""

    def __init__(self, ops: Sequence[Tensor], right: Sequence[Tensor]) -> None:
        self.ops, self.right = ops, right
        self.x: list[Tensor] = []
        self.z: list[Tensor] = []
        one = ops[0].new_ones(1, 1, 1)
        self.x_A_x, self.z_A_x = _Stack(one), _Stack(one)
        self.x_b, self.z_b = _Stack(one[0]), _Stack(one[0])

    def push(self, x: Tensor, z: Tensor) -> None:
        """Add cores (outer d, inner) of orthonormal columns."""
        k = len(self.x)
        op, right = self.ops[k], self.right[k]
        for stack, bra in ((self.x_A_x, x), (self.z_A_x, z)):
            stack.push(shrink(bra, block(stack.tensors[-1], op), x))
        for stack, bra in ((self.x_b, x), (self.z_b, z)):
            stack.push(bra.mH @ block_vector(stack.tensors[-1], right))
        for cores, new in ((self.x, x), (self.z, z)):
            outer = cores[-1].shape[2] if cores else 1
            cores.append(new.reshape(outer, -1, new.shape[1]))

    def pop(self) -> Tensor:
        """Take the last core of x (outer, d, inner) away."""
        for stack in (self.x_A_x, self.z_A_x, self.x_b, self.z_b):
            stack.pop()
        self.z.pop()
        return self.x.pop()


class Chain:
    """The unknown x = exp(log) times its cores, of norm one, orthonormal towards a place.

    Args:
        ops: Cores of the matrix.
        right: Cores of the right-hand side.
        start: First guess, or none.
        factor: Logarithm of the factor of the matrix over that of the right-hand side.
        log_norm: Logarithm of the norm of the cores of the right-hand side.
        generator: Where random starts come from.
    """

    def __init__(
        self,
        ops: Sequence[Tensor],
        right: Sequence[Tensor],
        start: Train | None,
        factor: float,
        log_norm: float,
        generator: torch.Generator,
    ) -> None:
        self.near = _Side(ops, right)
        back = [mirrored(op) for op in reversed(ops)], [mirrored(c) for c in reversed(right)]
        self.far = _Side(*back)
        self.factor, self.log_norm = factor, log_norm
        self.reversed = False
        self.singular: int | None = None
        dims = [op.shape[2] for op in ops]
        seen = _leading(right, 2)
        z = summed(random_cores(dims, 2, ops[0], generator), seen)
        cores, self.log = seen, -math.inf
        if start is not None:
            cores, self.log = [core.detach() for core in start.cores], log_scale(start)
        carry_x = carry_z = ops[0].new_ones(1, 1)
        for k in reversed(range(len(ops))):
            x_k = torch.tensordot(carry_x, mirrored(cores[k]), 1).flatten(0, 1)
            z_k = torch.tensordot(carry_z, mirrored(z[k]), 1).flatten(0, 1)
            if k == 0:
                break
            (q_x, carry_x), (q_z, carry_z) = torch.linalg.qr(x_k), torch.linalg.qr(z_k)
            carry_z = carry_z / torch.linalg.vector_norm(carry_z).clamp(min=1e-300)
            size = float(torch.linalg.vector_norm(carry_x))
            if size > 0:
                carry_x, self.log = carry_x / size, self.log + math.log(size)
            self.far.push(q_x, q_z)
        size = float(torch.linalg.vector_norm(x_k))
        self.log = self.log + math.log(size) if size > 0 else -math.inf
        self.center = (x_k / max(size, 1e-300)).view(-1, dims[0]).mT.contiguous()

    def cores(self) -> list[Tensor]:
        """Cores (r, d, r') in order, when the place is at an end."""
        ahead = [self.center[None], *map(mirrored, reversed(self.far.x))]
        return [mirrored(c) for c in reversed(ahead)] if self.reversed else ahead

    def sweep(self, goal: float, max_rank: int, *, enrich: bool) -> float:
        """Go to the other end.

        Args:
            goal: Residual relative to the right-hand side.
            max_rank: Largest rank.
            enrich: Whether to add directions of the residual.

        Returns:
            The largest relative residual of a core before it was solved for.
        """
        n = len(self.near.ops)
        share = goal / math.sqrt(n)  # of the residual, for each cut
        worst = 0.0
        while True:
            worst = max(worst, self._step(share, max_rank, enrich))
            if not self.far.x:
                break
            core = self.far.pop()
            o, d, _ = core.shape
            pair = self.center @ core.flatten(0, 1).mT
            self.center = pair.view(-1, o, d).transpose(1, 2).reshape(-1, o)
        outer = self.near.x[-1].shape[2] if self.near.x else 1
        self.center = self.center.view(outer, -1).mT.contiguous()
        self.near, self.far = self.far, self.near
        self.reversed = not self.reversed
        return worst

    def _step(self, share: float, max_rank: int, enrich: bool) -> float:
        """Solve here; leave the centre ready to be joined with the next core."""
        near, far, k = self.near, self.far, len(self.near.x)
        A_near = block(near.x_A_x.tensors[-1], near.ops[k])
        b_near = block_vector(near.x_b.tensors[-1], near.right[k])
        local = LocalOperator(A_near, far.x_A_x.tensors[-1])
        b = b_near @ far.x_b.tensors[-1].mT
        log_A = near.x_A_x.logs[-1] + far.x_A_x.logs[-1] + self.factor
        log_b = near.x_b.logs[-1] + far.x_b.logs[-1]
        # From units here to the norm of all b. The basis may see little of b at first, but
        # should see a thousandth in the end.
        seen = float(torch.linalg.vector_norm(b))
        unit = max(math.exp(log_b - self.log_norm), 1e-3 / seen if seen > 0 else 0.0)
        x = self.center * _exp(log_A + self.log - log_b)
        before = float(torch.linalg.vector_norm(local(x) - b)) * unit
        allowed = share / max(unit, 1e-300)
        if before > 0.1 * share:
            outer = near.x[-1].shape[2] if near.x else 1
            x = self._solve(local, b, x, 0.1 * allowed, outer)
        if not far.x:
            self._set(x, log_b - log_A)
            return before
        basis, x = _cut(local, b, x, allowed, max_rank)
        z = self._residual(near.z_A_x, near.z_b, x, log_b - log_A)
        if enrich:
            extra = self._residual(near.x_A_x, near.x_b, x, log_b - log_A)
            extra = extra - basis @ (basis.mH @ extra)
            norms = torch.linalg.vector_norm(extra, dim=0)
            extra = extra / norms.clamp(min=1e-300)
            basis = torch.linalg.qr(torch.cat([basis, extra[:, norms > 0]], 1)).Q
        self._set(basis.mH @ x, log_b - log_A)
        near.push(basis, torch.linalg.qr(z).Q)
        return before

    def _set(self, x: Tensor, log: float) -> None:
        """Take a solution of a local system as the centre."""
        size = float(torch.linalg.vector_norm(x))
        self.center = x / size if size > 0 else x
        self.log = log + math.log(size) if size > 0 else -math.inf

    def _residual(self, A_side: _Stack, b_side: _Stack, x: Tensor, log: float) -> Tensor:
        """The residual here, seen by z on the far side and by the given environments on the near.

        Args:
            A_side: Environments of the matrix.
            b_side: Environments of the right-hand side.
            x: The unknown here, in units of exp(log).
            log: See there.
        """
        k, far = len(self.near.x), self.far
        A_near = block(A_side.tensors[-1], self.near.ops[k])
        b_near = block_vector(b_side.tensors[-1], self.near.right[k])
        image = LocalOperator(A_near, far.z_A_x.tensors[-1])(x)
        log_A = A_side.logs[-1] + far.z_A_x.logs[-1] + self.factor + log
        log_b = b_side.logs[-1] + far.z_b.logs[-1]
        top = max(log_A, log_b)
        right = b_near @ far.z_b.tensors[-1].mT
        return right * _exp(log_b - top) - image * _exp(log_A - top)

    def _solve(
        self, local: LocalOperator, b: Tensor, start: Tensor, allowed: float, outer: int
    ) -> Tensor:
        if b.numel() <= _LARGEST_DENSE:
            matrix = local.dense()
            solution, info = torch.linalg.solve_ex(matrix, b.flatten())
            x: Tensor = solution.view(b.shape)
            if int(info) == 0 and bool(x.isfinite().all()):
                left_over = float(torch.linalg.vector_norm(local(x) - b))
                if left_over <= max(allowed, 1e-6 * float(torch.linalg.vector_norm(b))):
                    return x
            self.singular = len(self.near.ops) - 1 - len(self.far.x)
            return start
        found = restarted(
            lambda y: local(y.view(b.shape)).flatten(),
            b.flatten(),
            start.flatten(),
            tolerance=allowed,
            precondition=preconditioner(local, outer),
        )
        return found.view(b.shape)


def _leading(cores: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Cut a train to a small rank, without its scale: a start."""
    carry = cores[0].new_ones(1, 1)
    ahead = []
    for core in map(mirrored, reversed(cores)):
        q, carry = torch.linalg.qr(torch.tensordot(carry, core, 1).flatten(0, 1))
        ahead.append(q.view(-1, core.shape[1], q.shape[1]))
        carry = carry / torch.linalg.vector_norm(carry).clamp(min=1e-300)
    carry, found = carry[:1, :1], list[Tensor]()
    for k, core in enumerate(map(mirrored, reversed(ahead))):
        core = torch.tensordot(carry, core, 1)
        if k == len(cores) - 1:
            return [*found, core]
        U, s, Vh = torch.linalg.svd(core.flatten(0, 1), full_matrices=False)
        found.append(U[:, :rank].reshape(core.shape[0], core.shape[1], -1))
        carry = s[:rank, None] / s[0].clamp(min=1e-300) * Vh[:rank]
    raise AssertionError


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))


def _cut(
    local: LocalOperator, b: Tensor, x: Tensor, allowed: float, max_rank: int
) -> tuple[Tensor, Tensor]:
    """Lower the rank of x as far as the local residual allows: the basis, and x in it."""
    U, s, Vh = torch.linalg.svd(x, full_matrices=False)
    limit = max(allowed, 2 * float(torch.linalg.vector_norm(local(x) - b)))
    low, high = 1, min(len(s), max_rank)
    if len(s) <= max_rank and float(s[0]) > 0:
        high = max(1, int((s > 1e-15 * s[0]).sum()))
    while low < high:  # the residual falls with the rank, nearly
        r = (low + high) // 2
        trial = (U[:, :r] * s[:r]) @ Vh[:r]
        if float(torch.linalg.vector_norm(local(trial) - b)) <= limit:
            high = r
        else:
            low = r + 1
    return U[:, :high], (U[:, :high] * s[:high]) @ Vh[:high]


def preconditioner(local: LocalOperator, outer: int) -> Callable[[Tensor], Tensor]:
    """Invert the operator as if both bonds were diagonal, in bases where they nearly are.

    The bases are eigenvectors of one combination of the slices on each side. For a sum of
    operators that act on one mode each, the result is the exact inverse.

    Args:
        local: The operator on the unknown (outer d, n).
        outer: Size of the near bond.
    """
    m, v, _ = local.near.shape
    d = m // outer
    near = local.near.view(outer, d, v, outer, d)
    weights = torch.cos(torch.arange(1.0, 1.0 + v, dtype=torch.float64)).to(local.far)
    sites = torch.cos(torch.arange(1.0, 1.0 + d, dtype=torch.float64)).abs().to(local.far)
    U = _eigenbasis(torch.einsum("asvbs,v,s->ab", near, weights, sites))
    V = _eigenbasis(torch.einsum("avb,v->ab", local.far, weights))
    turned = torch.einsum("ax,asvbt,bx->xvst", U.conj(), near, U)
    diagonal = torch.einsum("ay,avb,by->yv", V.conj(), local.far, V)
    n = V.shape[0]
    blocks = (diagonal @ turned.reshape(outer, v, d * d)).view(outer * n, d, d)
    inverse, info = torch.linalg.inv_ex(blocks)
    if bool(info.any()) or not bool(inverse.isfinite().all()):
        return lambda y: y

    def apply(y: Tensor) -> Tensor:
        y = (U.mH @ y.view(outer, d * n)).view(outer * d, n) @ V.conj()
        y = y.view(outer, d, n).transpose(1, 2).reshape(outer * n, d, 1)
        y = (inverse @ y).view(outer, n, d).transpose(1, 2).reshape(outer * d, n)
        y = (U @ (y @ V.mT).view(outer, d * n)).flatten()
        return y

    return apply


def _eigenbasis(x: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh((x + x.mH) / 2).eigenvectors
    return vectors
