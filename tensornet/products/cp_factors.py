"""Factors of the Clebsch-Gordan coupling in CP format: shipped or made where exact, else fitted."""

import math
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tensornet import _check
from tensornet.formats import CP, Decomposition, cp
from tensornet.products.coupling import coupling, even_part
from tensornet.so3 import dim

# Smallest ranks at which `formats.cp` reached round-off, found by search, with and without odd
# paths, by degree. At higher degrees `_paired` makes exact factors directly, of a higher rank.
EXACT_RANKS = {
    True: {0: 1, 1: 8, 2: 30, 3: 90},
    False: {0: 1, 1: 6, 2: 18, 3: 52},
}
_SHIPPED = Path(__file__).with_name("factors") / "clebsch_gordan.safetensors"
_RESTARTED = 3  # highest degree at which a low rank is fitted from more than one start


def factors(
    l_max: int, rank: int | None = None, tolerance: float = 1e-12, *, odd_paths: bool = True
) -> CP:
    """Give factors of the bare coupling, float64: exact ones, or fitted ones of a lower rank.

    Args:
        l_max: Highest degree.
        rank: Most terms there may be. By default those of the smallest known exact rank.
        tolerance: Largest allowed relative error at an exact rank.
        odd_paths: Whether the coupling has paths of odd l1 + l2 + l3.

    Returns:
        Factors of shapes (i, r), (j, r) and (k, r). Below the exact rank they are the best of a few
        fits.

    Raises:
        ValueError: If `l_max` is negative, or `rank` below one.
        RuntimeError: If `tolerance` is not met at an exact rank.

    Examples:
        >>> factors(2).rank, factors(2, odd_paths=False).rank
        (30, 18)
    """
    _check.at_least("factors", 0, l_max=l_max)
    if rank is not None:
        _check.at_least("factors", 1, rank=rank)
    exact = exact_rank(l_max, odd_paths=odd_paths)
    if rank is not None and rank < exact:
        return _fitted(l_max, rank, odd_paths)
    target = _target(l_max, odd_paths)
    if l_max == 0:
        return CP((target[0], target[0], target[0]))  # one
    if l_max in EXACT_RANKS[odd_paths]:
        known = CP(tuple(_shipped()[_key(l_max, odd_paths)]))
    else:
        known = _paired(l_max, odd_paths)
    error = float((known.to_dense() - target).norm() / target.norm())
    if error > tolerance:
        raise RuntimeError(
            f"`factors(tolerance=...)` must be reachable: rank {exact} has a relative error of "
            f"{error:.1e}, above {tolerance:.1e}."
        )
    return known


def exact_rank(l_max: int, *, odd_paths: bool = True) -> int:
    """Give the smallest rank at which exact factors of the bare coupling are at hand.

    Args:
        l_max: Highest degree.
        odd_paths: Whether the coupling has paths of odd l1 + l2 + l3.

    Returns:
        The rank of `factors`.

    Examples:
        >>> [exact_rank(l_max) for l_max in range(7)]
        [1, 8, 30, 90, 325, 684, 1225]
    """
    d = dim(l_max)
    return EXACT_RANKS[odd_paths].get(l_max, d + d * (d // 2))


def write_factors(path: str | Path, degrees: tuple[int, ...] | None = None) -> dict[str, float]:
    """Compute the factors of exact rank anew, and write them as they are shipped.

    The same machine gives the same numbers. Another one may give other factors, as exact.

    Args:
        path: File to write, in safetensors format: one tensor (3, d, r) per degree and parity.
        degrees: Values of `l_max`. By default all that are shipped. Up to two it takes seconds,
            at three about two minutes.

    Returns:
        The relative error of each.

    Raises:
        ValueError: If a degree has no rank that is known to be exact.
    """
    known = sorted(EXACT_RANKS[True].keys() - {0})
    found: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    for l_max in known if degrees is None else degrees:
        if l_max not in known:
            raise ValueError(
                f"`write_factors(degrees=...)` must be among {', '.join(map(str, known))}, whose "
                f"exact ranks are known. Got {l_max}."
            )
        for odd_paths in (True, False):
            key, rank = _key(l_max, odd_paths), EXACT_RANKS[odd_paths][l_max]
            best = _best(_target(l_max, odd_paths), rank)
            found[key] = torch.stack(best.value.factors).contiguous()
            errors[key] = best.relative_error
    save_file(found, path)
    return errors


def _best(target: Tensor, rank: int) -> Decomposition[CP]:
    """The first fit to round-off, from one seed after the other."""
    best = cp(target, rank, tolerance=1e-14, max_iterations=3000, seed=0)
    for seed in range(1, 10):
        if best.relative_error <= 1e-13:
            break
        other = cp(target, rank, tolerance=1e-14, max_iterations=3000, seed=seed)
        best = min(best, other, key=lambda result: result.relative_error)
    return best


@cache
def _fitted(l_max: int, rank: int, odd_paths: bool) -> CP:
    # Below the exact rank there are local minima, so the best of a few starts is taken; and the
    # last digits of the error would be bought with terms that grow and cancel, so ALS is enough.
    target = _target(l_max, odd_paths)
    starts = 4 if l_max <= _RESTARTED else 1
    fits = (
        cp(target, rank, method="als", tolerance=1e-14, max_iterations=1000, seed=seed)
        for seed in range(starts)
    )
    return min(fits, key=lambda result: result.relative_error).value


@cache
def _shipped() -> dict[str, Tensor]:
    return load_file(_SHIPPED)


def _key(l_max: int, odd_paths: bool) -> str:
    return f"{'all' if odd_paths else 'even'}_{l_max}"


@cache
def _target(l_max: int, odd_paths: bool) -> Tensor:
    whole = coupling("clebsch_gordan", l_max)
    return whole if odd_paths else even_part(whole)


@cache
def _paired(l_max: int, odd_paths: bool) -> CP:
    """Exact factors from pairs of slices along the first input: d terms for every two slices.

    Slice 0 is diagonal, and takes d terms. With other numbers of the first input the same terms
    give any diagonal matrix, so every other slice may be changed by a diagonal matrix for free. Two
    slices are changed to P and Q such that P has an inverse and P⁻¹ Q has real eigenvalues λ, with
    eigenvectors V. Then P = (P V) V⁻¹ and Q = (P V) diag(λ) V⁻¹ are made of the same d terms.
    """
    target = _target(l_max, odd_paths)
    d = dim(l_max)
    own = torch.zeros(d, d, dtype=torch.float64)  # what each slice has of the diagonal terms
    own[0] = target[0].diagonal()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for a in range(1, d, 2):
        b = a + 1
        weights = torch.zeros(d, d, dtype=torch.float64)
        weights[a] = 1
        if b == d:  # one is left
            parts.append((weights, torch.eye(d, dtype=torch.float64), target[a].mT))
            continue
        if odd_paths:
            shift, tilt, values, left, right = _real(target[a], target[b])
        else:
            shift, tilt, values, left, right = _symmetric(target[a], target[b])
        own[a], own[b] = -shift, -tilt
        weights[b] = values
        parts.append((weights, left, right))
    parts.append((own, *(torch.eye(d, dtype=torch.float64),) * 2))
    first, second, third = (torch.cat(factor, 1) for factor in zip(*parts, strict=True))
    return CP((first, second, third))


def _symmetric(S: Tensor, T: Tensor) -> tuple[float, Tensor, Tensor, Tensor, Tensor]:
    """Shift S until it is positive definite: then S and T are diagonal in one basis."""
    shift = 2 * float(torch.linalg.matrix_norm(S, 2))
    root = torch.linalg.cholesky(S + shift * torch.eye(len(S), dtype=S.dtype))
    half = torch.linalg.solve_triangular(root, T, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.mT, upper=False))
    left = root @ vectors
    return shift, torch.zeros(len(S), dtype=S.dtype), values, left, left


def _real(S: Tensor, T: Tensor) -> tuple[float, Tensor, Tensor, Tensor, Tensor]:
    """Add to S a multiple of one, to T distinct numbers, until eigenvalues are real.

    Of such shifts the one is taken whose terms are smallest, so that they cancel least.
    """
    eye, steps = torch.eye(len(S), dtype=S.dtype), torch.linspace(-1, 1, len(S), dtype=S.dtype)
    best, shift = math.inf, 0.25
    while True:
        P, tilt = S + shift * eye, shift * steps
        values, vectors = torch.linalg.eig(torch.linalg.solve(P, T + torch.diag(tilt)))
        if not values.imag.any():
            left, right = P @ vectors.real, torch.linalg.inv(vectors.real).mT
            size = float((left.norm(dim=0) * right.norm(dim=0)).norm())
            if size < best:
                best, found = size, (shift, tilt, values.real, left, right)
            elif size > 1.5 * best:
                return found
        shift *= 1.3
