"""Factors of the Clebsch-Gordan coupling in CP format: shipped where exact, else fitted."""

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
# paths. The trivial decomposition has one term per pair of inputs, (l_max + 1)⁴.
EXACT_RANKS = {
    True: {0: 1, 1: 8, 2: 30, 3: 90},
    False: {0: 1, 1: 6, 2: 18, 3: 52},
}
_SHIPPED = Path(__file__).with_name("factors") / "clebsch_gordan.safetensors"
_RESTARTED = 3  # highest degree at which a low rank is fitted from more than one start


def factors(
    l_max: int, rank: int | None = None, tolerance: float = 1e-12, *, odd_paths: bool = True
) -> CP:
    """Give factors of the bare coupling, float64: those shipped, or fitted at a lower rank.

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
    trivial = dim(l_max) ** 2
    exact = EXACT_RANKS[odd_paths].get(l_max, trivial)
    if rank is not None and rank < exact:
        return _fitted(l_max, rank, odd_paths)
    target = _target(l_max, odd_paths)
    if exact == trivial:
        return _trivial(target)
    known = CP(tuple(_shipped()[_key(l_max, odd_paths)]))
    error = float((known.to_dense() - target).norm() / target.norm())
    if error > tolerance:
        raise RuntimeError(
            f"`factors(tolerance=...)` must be reachable: rank {exact} has a relative error of "
            f"{error:.1e}, above {tolerance:.1e}."
        )
    return known


def write_factors(path: str | Path, degrees: tuple[int, ...] | None = None) -> dict[str, float]:
    """Compute the factors of exact rank anew, and write them as they are shipped.

    The same machine gives the same numbers. Another one may give other factors, as exact.

    Args:
        path: File to write, in safetensors format: one tensor (3, d, r) per degree and parity.
        degrees: Values of `l_max`. By default all that are shipped; seconds up to two, about two
            minutes at three, longer above.

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
            best = _best(_target(l_max, odd_paths), rank, l_max)
            found[key] = torch.stack(best.value.factors).contiguous()
            errors[key] = best.relative_error
    save_file(found, path)
    return errors


def _best(target: Tensor, rank: int, l_max: int) -> Decomposition[CP]:
    """The first fit to round-off, from one seed after the other."""
    method, steps = ("auto", 3000) if l_max <= _RESTARTED else ("als", 20000)
    best = cp(target, rank, method=method, tolerance=1e-14, max_iterations=steps, seed=0)
    for seed in range(1, 10):
        if best.relative_error <= 1e-13:
            break
        other = cp(target, rank, method=method, tolerance=1e-14, max_iterations=steps, seed=seed)
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


def _trivial(target: Tensor) -> CP:
    """One term per pair of inputs: exact for any tensor."""
    d1, d2, d3 = target.shape
    first = torch.eye(d1, dtype=target.dtype).repeat_interleave(d2, dim=1)
    second = torch.eye(d2, dtype=target.dtype).repeat(1, d1)
    return CP((first, second, target.reshape(d1 * d2, d3).mT))
