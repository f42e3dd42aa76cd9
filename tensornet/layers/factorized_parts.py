"""What factorised weights are made of: ranks from numbers or shares, shapes and sizes of parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check

Rank = int | float | Sequence[int]
KINDS = ("cp", "tucker", "tensor_train", "low_rank")
IMPLEMENTATIONS = ("auto", "factorized", "reconstructed")


def kind_of(where: str, factorization: str, allowed: Sequence[str] = KINDS) -> str:
    """Read the name of a factorisation as other libraries write it too: ``"TT"``, ``"Tucker"``.

    Args:
        where: Name of the public call, for the message.
        factorization: The name.
        allowed: The names to choose from.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is another.

    Examples:
        >>> kind_of("f", "TT")
        'tensor_train'
    """
    if not isinstance(factorization, str):
        raise TypeError(f"`{where}(factorization=...)` must be a string. Got {factorization!r}.")
    name = factorization.lower()
    name = "tensor_train" if name in ("tt", "tensortrain", "blocktt") else name
    _check.one_of(where, allowed, factorization=name)
    return name


def ranks_of(where: str, kind: str, shape: Sequence[int], rank: Rank) -> tuple[int, ...]:
    """Give the ranks of a factorisation.

    Args:
        where: Name of the public call, for the messages.
        kind: ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        shape: Size of each mode.
        rank: One number for all, cut to what a mode can have; a float, for about that share of the
            dense entries, as TensorLy counts; or every rank (of a train with or without the outer
            ones, which are 1).

    Returns:
        One number for CP, one per mode for Tucker, the inner ranks for a train.

    Raises:
        TypeError: If the rank is none of these.
        ValueError: If there are too many or too few, or one is out of range.

    Examples:
        >>> ranks_of("f", "tucker", (8, 8, 2), 4), ranks_of("f", "cp", (64, 64), 0.25)
        ((4, 4, 2), (8,))
        >>> ranks_of("f", "tensor_train", (8, 8, 8), (1, 4, 4, 1))
        (4, 4)
    """
    most = largest_ranks(kind, shape)
    if isinstance(rank, bool | str) or not isinstance(rank, int | float | Sequence):
        raise TypeError(
            f"`{where}(rank=...)` must be a whole number, a share of the dense entries, or a tuple."
            f" Got {rank!r}."
        )
    if isinstance(rank, float):
        if not 0 < rank < math.inf:
            raise ValueError(
                f"`{where}(rank=...)` must be above zero where it is a share of the dense entries. "
                f"Got {rank}."
            )
        return tuple(min(r, m) for r, m in zip(_share(kind, shape, rank), most, strict=True))
    if isinstance(rank, int):
        _check.at_least(where, 1, rank=rank)
        return tuple(min(rank, m) for m in most)
    given = tuple(rank)
    if kind == "tensor_train" and len(given) == len(most) + 2 and given[0] == given[-1] == 1:
        given = given[1:-1]
    if len(given) != len(most) or not all(
        isinstance(r, int) and 0 < r <= m for r, m in zip(given, most, strict=False)
    ):
        raise ValueError(
            f"`{where}(rank=...)` must hold {len(most)} whole numbers from 1 to {most} for a "
            f"{kind} of shape {tuple(shape)}. Got {tuple(rank)}."
        )
    return given


def largest_ranks(kind: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Give the ranks that are enough for any tensor.

    Args:
        kind: ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        shape: Size of each mode.

    Examples:
        >>> largest_ranks("tensor_train", (4, 5, 6)), largest_ranks("cp", (4, 5, 6))
        ((4, 6), (20,))
    """
    total = math.prod(shape)
    if kind == "cp":
        return (total // max(shape),)
    if kind == "tucker":
        return tuple(min(d, total // d) for d in shape)
    left = [math.prod(shape[:k]) for k in range(1, len(shape))]
    return tuple(min(n, total // n) for n in left)


def _share(kind: str, shape: Sequence[int], share: float) -> tuple[int, ...]:
    """Give ranks with about a share of the dense entries, the same as in neuraloperator."""
    from tensorly.cp_tensor import validate_cp_rank
    from tensorly.tt_tensor import validate_tt_rank
    from tensorly.tucker_tensor import validate_tucker_rank

    if kind == "cp":
        return (max(1, int(validate_cp_rank(tuple(shape), share))),)
    if kind == "tucker":
        return tuple(int(r) for r in validate_tucker_rank(tuple(shape), share))
    if len(shape) == 1:
        return ()
    return tuple(max(1, int(r)) for r in validate_tt_rank(tuple(shape), share)[1:-1])


def part_shapes(
    kind: str, shape: Sequence[int], ranks: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Give names and shapes of the parts, as the formats have them.

    Args:
        kind: ``"cp"``, ``"tucker"`` or ``"tensor_train"``.
        shape: Size of each mode.
        ranks: As `ranks_of` gives them.

    Examples:
        >>> part_shapes("tensor_train", (4, 5), (3,))
        {'core_0': (1, 4, 3), 'core_1': (3, 5, 1)}
    """
    if kind == "cp":
        return {f"factor_{k}": (d, ranks[0]) for k, d in enumerate(shape)}
    if kind == "tucker":
        factors = {f"factor_{k}": (d, r) for k, (d, r) in enumerate(zip(shape, ranks, strict=True))}
        return {"core": tuple(ranks), **factors}
    around = (1, *ranks, 1)
    return {f"core_{k}": (around[k], d, around[k + 1]) for k, d in enumerate(shape)}


def random_parts(
    shapes: dict[str, tuple[int, ...]],
    ranks: Sequence[int],
    std: float,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """Draw normal parts such that every entry of the tensor has a given standard deviation.

    Args:
        shapes: Shape of each part.
        ranks: An entry is the sum of as many products as their product.
        std: Standard deviation of an entry.
        dtype: Real or complex; by default torch's.
        device: By default torch's.
    """
    each = (std / math.sqrt(math.prod(ranks))) ** (1 / len(shapes))
    return {
        name: each * torch.randn(size, dtype=dtype, device=device) for name, size in shapes.items()
    }


def balanced_shape(n: int, order: int) -> tuple[int, ...]:
    """Write a number as a product of factors that are as equal as its primes allow, sorted.

    Args:
        n: The number.
        order: Number of factors.

    Examples:
        >>> balanced_shape(784, 3), balanced_shape(1024, 3), balanced_shape(7, 2)
        ((7, 8, 14), (8, 8, 16), (1, 7))
    """
    primes, rest, p = [], n, 2
    while rest > 1:
        while rest % p == 0:
            primes.append(p)
            rest //= p
        p = p + 1 if p * p <= rest else max(rest, 2)
    sizes = [1] * order
    for prime in reversed(primes):
        sizes[sizes.index(min(sizes))] *= prime
    return tuple(sorted(sizes))
