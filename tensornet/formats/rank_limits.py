"""The ranks that a caller asks for, against those that a tensor can have."""

from __future__ import annotations

from collections.abc import Sequence

from tensornet import _check


def rank_limits(
    where: str,
    ranks: int | Sequence[int] | None,
    most: Sequence[int],
    shape: Sequence[int],
) -> list[int]:
    """Check the ranks of a public call, and give the largest one of each mode or cut.

    Args:
        where: Name of the public call, for messages.
        ranks: One number for all, which stops at what each can have, or one for each, or none.
        most: Largest rank that each can have.
        shape: Shape of the tensor, for messages.

    Returns:
        One number for each.

    Raises:
        TypeError: If a rank is no whole number.
        ValueError: If there are too few or too many, or one is below one or larger than possible.

    Examples:
        >>> rank_limits("f", 3, (2, 4), (2, 3, 4))
        [2, 3]
    """
    possible = f"the largest possible for a tensor of shape {tuple(shape)}"
    if ranks is None:
        return list(most)
    if isinstance(ranks, int):
        _check.at_least(where, 1, ranks=ranks)
        top = max(most, default=1)
        if ranks > top:
            raise ValueError(
                f"`{where}(ranks=...)` must be at most {top}, {possible}. Got {ranks}."
            )
        return [min(ranks, m) for m in most]
    if len(ranks) != len(most):
        raise ValueError(
            f"`{where}(ranks=...)` must be one number, or {len(most)} of them. Got {tuple(ranks)}."
        )
    for k, (r, m) in enumerate(zip(ranks, most, strict=True)):
        _check.at_least(where, 1, **{f"ranks[{k}]": r})
        if r > m:
            raise ValueError(f"`{where}(ranks[{k}]=...)` must be at most {m}, {possible}. Got {r}.")
    return list(ranks)
