"""Split a data set, and find the same structure on both sides of a split."""

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensornet.datasets.read import Frames

if TYPE_CHECKING:
    import ase

SAME = 1e-6  # Å


def split(
    n: int,
    valid: int | float,
    seed: int = 0,
) -> tuple[list[int], list[int]]:
    """Split structures into a training and a validation set, at random.

    Args:
        n: Number of structures.
        valid: A fraction of them between 0 and 1, rounded, at least one structure; or how many,
            as an integer.
        seed: The same seed gives the same split.

    Returns:
        Sorted indices for training and for validation; together, each index once.

    Raises:
        ValueError: If a fraction is not in [0, 1), or nothing is left for training.
        TypeError: If `valid` is no number.

    Examples:
        >>> split(5, 0.4, seed=3)
        ([0, 1, 3], [2, 4])
    """
    if isinstance(valid, bool) or not isinstance(valid, int | float):
        raise TypeError(f"`split(valid=...)` must be a fraction or a count. Got {valid!r}.")
    if isinstance(valid, float) and not 0 <= valid < 1:
        raise ValueError(
            f"`split(valid=...)` must be a fraction in [0, 1), or a whole number. Got {valid}."
        )
    count = valid if isinstance(valid, int) else max(round(valid * n), 1 if valid else 0)
    if not 0 <= count < max(n, 1):
        raise ValueError(
            "`split(valid=...)` must leave at least one structure for training. Got "
            f"valid = {valid} of {n} structure(s). (Use more data, or a separate validation file.)"
        )
    order = np.random.default_rng(seed).permutation(n)
    return sorted(order[count:].tolist()), sorted(order[:count].tolist())


def duplicates(
    train_frames: Frames,
    test_frames: Frames,
) -> list[tuple[int, int]]:
    """Find structures that are in both sets.

    Two structures are the same when elements, periodicity, cell and positions are, in order,
    within 1e-6 Å; rotated or permuted copies are not looked for.

    Args:
        train_frames: One set.
        test_frames: The other.

    Returns:
        Pairs of an index into the first and an index into the second set, sorted.
    """
    groups: dict[bytes, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, frames in enumerate((train_frames, test_frames)):
        for k, atoms in enumerate(frames.structures):
            groups[atoms.numbers.tobytes() + atoms.pbc.tobytes()][side].append(k)
    pairs = []
    for left, right in groups.values():
        if left and right:
            a = np.stack([_coordinates(train_frames.structures[k]) for k in left])
            b = np.stack([_coordinates(test_frames.structures[k]) for k in right])
            pairs += [(left[i], right[j]) for i, j in _close(a, b)]
    return sorted(pairs)


def _coordinates(atoms: "ase.Atoms") -> NDArray[np.float64]:
    return np.concatenate((atoms.positions.ravel(), atoms.cell.array.ravel()))


def _close(
    a: NDArray[np.float64],  # (s, d)
    b: NDArray[np.float64],  # (s', d)
) -> list[tuple[int, int]]:
    # Close points have close projections on any direction: sort by one, compare within a window.
    direction = np.random.default_rng(7919).uniform(-1, 1, a.shape[1])
    width = SAME * np.abs(direction).sum()
    order = np.argsort(a @ direction)
    keys = (a @ direction)[order]
    targets = b @ direction
    first = np.searchsorted(keys, targets - width - 1e-9)
    last = np.searchsorted(keys, targets + width + 1e-9)
    return [
        (int(i), j)
        for j in range(len(b))
        for i in order[first[j] : last[j]]
        if np.abs(a[i] - b[j]).max() <= SAME
    ]
