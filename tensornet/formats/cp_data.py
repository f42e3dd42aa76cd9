r"""What a sum of outer products is fitted to: a whole tensor, or its known entries.

Both give what the iterations need. With p the entries of all factors A_k, in the order k i r, J
the derivative of the tensor by them, and Γ the entrywise product of the Gram matrices A_kᵀ A_k
(indices leave modes out), for a whole tensor

    (Jᵀ J)[k i r, k j s] = δ_ij Γ_k[r, s],
    (Jᵀ J)[k i r, l j s] = Γ_kl[r, s] A_k[i, s] A_l[j, r],
    J Jᵀ = sum over k of δ(i_k, i'_k) (sum over r of the other factors, multiplied out).

For known entries the same sums run over these entries only.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from tensornet.formats.cp_terms import (
    contract,
    contract_all,
    contract_last,
    distance,
    gram_product,
    khatri_rao,
    residual,
    tail,
)

# Below this error the Gram formula of the error has lost too many digits.
EXPLICIT = 1e-4
# Numbers in the largest temporary array of sums over known entries.
_BLOCK = 1 << 22


class Whole:
    """All entries of a tensor.

    Args:
        x: Tensor of two modes or more.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.squared = float(x.flatten().dot(x.flatten()))

    def error(self, factors: list[Tensor]) -> float:
        """Norm of the residual."""
        return distance(self.x, factors)

    def residual(self, factors: list[Tensor]) -> Tensor:
        """Tensor less the sum of the terms."""
        return residual(self.x, factors)

    def pulled(self, rho: Tensor, factors: list[Tensor]) -> list[Tensor]:
        """Jᵀ times a residual."""
        return contract_all(rho, factors)

    def size(self, rank: int) -> int:
        """Unknowns of the smaller of the two systems."""
        return min(self.x.numel(), rank * sum(self.x.shape))

    def wide(self, rank: int) -> bool:
        """Whether that is J Jᵀ."""
        return self.x.numel() < rank * sum(self.x.shape)

    def sweep(self, factors: list[Tensor], pull: float, ridge: float) -> tuple[float, list[Tensor]]:
        """Solve for one factor after the other."""
        n, factors = len(factors), list(factors)
        grams = [f.mT @ f for f in factors]
        partial = tail(self.x, factors)
        for k in range(n):
            right = contract(partial, factors, k) if k < n - 1 else contract_last(self.x, factors)
            factors[k] = solve(gram_product(grams, k), right, factors[k], pull, ridge)
            grams[k] = factors[k].mT @ factors[k]
        both = float((right * factors[-1]).sum())
        error = math.sqrt(max(self.squared - 2 * both + float(gram_product(grams).sum()), 0.0))
        return (error if error > EXPLICIT else self.error(factors)), factors

    def normal(self, factors: list[Tensor]) -> Tensor:
        """Lower triangle of Jᵀ J."""
        rank = factors[0].shape[1]
        at = _slices(factors)
        system = factors[0].new_zeros(at[-1].stop, at[-1].stop)
        grams = [f.mT @ f for f in factors]
        for k, A in enumerate(factors):
            block = system[at[k], at[k]].view(len(A), rank, len(A), rank)
            block.diagonal(dim1=0, dim2=2).copy_(gram_product(grams, k)[..., None])
            for l in range(k + 1, len(factors)):
                B = factors[l]
                block = system[at[l], at[k]].view(len(B), rank, len(A), rank)  # j s i r
                both = A.mT[:, :, None] * gram_product(grams, k, l)[:, None, :]  # s i r
                torch.mul(B[:, None, None, :], both, out=block)
        return system

    def outer(self, factors: list[Tensor]) -> Tensor:
        """J Jᵀ."""
        shape, n = [len(f) for f in factors], len(factors)
        system = factors[0].new_zeros(*shape, *shape)
        for k in range(n):
            others = khatri_rao([f for l, f in enumerate(factors) if l != k])
            rest = [d for l, d in enumerate(shape) if l != k]
            system.diagonal(dim1=k, dim2=n + k).add_((others @ others.mT).view(*rest, *rest, 1))
        return system.view(math.prod(shape), -1)


class Known:
    """Some entries of a tensor.

    Args:
        x: Tensor; entries that are not known may be anything.
        mask: Whether an entry is known, as `x`.
    """

    def __init__(self, x: Tensor, mask: Tensor) -> None:
        self.shape = x.shape
        self.indices = mask.nonzero(as_tuple=True)
        self.values = x[mask]

    def error(self, factors: list[Tensor]) -> float:
        """Norm of the residual."""
        return float(self.residual(factors).norm())

    def residual(self, factors: list[Tensor]) -> Tensor:  # (n,)
        """Known entries less those of the sum of the terms."""
        return self.values - self._others(factors).sum(1)

    def pulled(self, rho: Tensor, factors: list[Tensor]) -> list[Tensor]:
        """Jᵀ times a residual."""
        return [
            torch.zeros_like(f).index_add_(
                0, self.indices[k], self._others(factors, k) * rho[:, None]
            )
            for k, f in enumerate(factors)
        ]

    def size(self, rank: int) -> int:
        """Unknowns of the system Jᵀ J."""
        return rank * sum(self.shape)

    def wide(self, rank: int) -> bool:
        """Whether J Jᵀ is used instead: never."""
        return False

    def sweep(self, factors: list[Tensor], pull: float, ridge: float) -> tuple[float, list[Tensor]]:
        """Solve for one factor after the other, row by row."""
        factors = list(factors)
        for k, old in enumerate(factors):
            others, index = self._others(factors, k), self.indices[k]
            right = torch.zeros_like(old).index_add_(0, index, others * self.values[:, None])
            gram = self._sum(others, others, index, len(old))
            factors[k] = solve(gram, right, old, pull, ridge)
        return self.error(factors), factors

    def normal(self, factors: list[Tensor]) -> Tensor:
        """Lower triangle of Jᵀ J."""
        rank = factors[0].shape[1]
        at = _slices(factors)
        system = factors[0].new_zeros(at[-1].stop, at[-1].stop)
        others = [self._others(factors, k) for k in range(len(factors))]
        for k, i in enumerate(self.indices):
            d = self.shape[k]
            blocks = self._sum(others[k], others[k], i, d)
            system[at[k], at[k]] = torch.block_diag(*blocks)
            for l in range(k + 1, len(factors)):
                j, e = self.indices[l], self.shape[l]
                block = self._sum(others[k], others[l], i * e + j, d * e).view(d, e, rank, rank)
                system[at[l], at[k]] = block.permute(1, 3, 0, 2).reshape(e * rank, d * rank)
        return system

    def outer(self, factors: list[Tensor]) -> Tensor:
        """Not used."""
        raise AssertionError

    def _others(self, factors: list[Tensor], skip: int = -1) -> Tensor:  # (n, r)
        """Entries of the terms, without one mode."""
        pairs = zip(factors, self.indices, strict=True)
        rows = [f[i] for k, (f, i) in enumerate(pairs) if k != skip]
        return math.prod(rows[1:], start=rows[0])

    @staticmethod
    def _sum(left: Tensor, right: Tensor, index: Tensor, size: int) -> Tensor:  # (size, r, r)
        """Add outer products of rows up by an index."""
        rank = left.shape[1]
        total = left.new_zeros(size, rank, rank)
        length = max(1, _BLOCK // rank**2)
        for a, b, i in zip(*(t.split(length) for t in (left, right, index)), strict=True):
            total.index_add_(0, i, a[:, :, None] * b[:, None, :])
        return total


def _slices(factors: list[Tensor]) -> list[slice]:
    ends = [0]
    for f in factors:
        ends.append(ends[-1] + f.numel())
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def solve(gram: Tensor, right: Tensor, old: Tensor, pull: float, ridge: float) -> Tensor:
    """Minimise over one factor: A (Γ + pull + ridge) = right + pull · old.

    Args:
        gram: Γ, (r, r), or a batch (d, r, r), one per row.
        right: Contraction of the tensor, (d, r).
        old: Last value, (d, r).
        pull: Weight of the distance from the last value.
        ridge: Weight of the squared entries.
    """
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    left = gram + (pull + ridge) * eye
    right = right + pull * old
    right = right[..., None] if gram.ndim == 3 else right.mT
    triangle, failed = torch.linalg.cholesky_ex(left)
    if bool(failed.any()):
        solution: Tensor = torch.linalg.pinv(left, hermitian=True) @ right
    else:
        solution = torch.cholesky_solve(right, triangle)
    return solution[..., 0] if gram.ndim == 3 else solution.mT
