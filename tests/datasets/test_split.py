"""Splits are partitions, the same for the same seed; duplicates are found."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from tensornet.datasets import Frames, Labels, duplicates, split


@pytest.mark.parametrize(
    ("n", "valid", "count"),
    [
        (10, 0.1, 1),
        (500, 0.1, 50),
        (500, 50, 50),
        (7, 0.01, 1),
        (7, 0, 0),
        (7, 0.0, 0),
        (2, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
    ],
)
def test_a_split_is_a_partition(n: int, valid: float, count: int) -> None:
    train, test = split(n, valid, 11)
    assert len(test) == count
    assert sorted(train + test) == list(range(n))
    assert train == sorted(train)
    assert test == sorted(test)


def test_the_seed_decides() -> None:
    assert split(100, 0.3, 5) == split(100, 0.3, 5)
    assert split(100, 0.3, 5) != split(100, 0.3, 6)
    assert split(5, 2, 3) == ([0, 1, 3], [2, 4])  # the same for ever


def test_every_structure_is_drawn_equally_often() -> None:
    counts = np.zeros(10)
    for seed in range(1500):
        counts[split(10, 2, seed)[1]] += 1
    assert np.abs(counts - 300).max() < 5 * np.sqrt(1500 * 0.2 * 0.8)


@pytest.mark.parametrize("valid", [1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(valid: float) -> None:
    with pytest.raises(ValueError, match=r"must be a fraction in \[0, 1\)"):
        split(10, valid, 0)


@pytest.mark.parametrize(("n", "valid"), [(10, 10), (10, 11), (10, -1), (1, 0.1), (0, 1), (1, 1)])
def test_a_split_without_training_data_is_refused(n: int, valid: float) -> None:
    with pytest.raises(ValueError, match="must leave at least one structure for training"):
        split(n, valid, 0)


@pytest.mark.parametrize("valid", [True, "0.1", None])
def test_valid_must_be_a_number(valid: object) -> None:
    with pytest.raises(TypeError, match="must be a fraction or a count"):
        split(10, valid, 0)  # type: ignore[arg-type]


def collect(*structures: Atoms) -> Frames:
    return Frames(structures, tuple(Labels() for _ in structures), {})


def moved(atoms: Atoms, distance: float) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.positions[1, 2] += distance
    return copy


def test_duplicates_are_found_within_the_tolerance() -> None:
    water, silicon, methane = molecule("H2O"), bulk("Si"), molecule("CH4")
    left = collect(methane, water, silicon, water)
    right = collect(silicon, moved(water, 5e-7), moved(water, 2e-6), molecule("NH3"))
    assert duplicates(left, right) == [(1, 1), (2, 0), (3, 1)]
    assert duplicates(right, left) == [(0, 2), (1, 1), (1, 3)]


def test_cell_periodicity_and_elements_count() -> None:
    silicon = bulk("Si")
    strained, open_, other = silicon.copy(), silicon.copy(), silicon.copy()
    strained.set_cell(silicon.cell.array * 1.001)
    open_.pbc = (True, True, False)
    other.symbols[1] = "Ge"
    assert duplicates(collect(silicon), collect(strained, open_, other)) == []
    assert duplicates(collect(silicon), collect(open_, silicon.copy())) == [(0, 1)]


def test_duplicates_agree_with_every_pair() -> None:
    rng = np.random.default_rng(18077)
    base = [Atoms("H4", rng.normal(size=(4, 3))) for _ in range(12)]
    left: list[Atoms] = []
    right: list[Atoms] = []
    for _ in range(150):
        atoms = base[rng.integers(12)].copy()
        atoms.positions += rng.uniform(-8e-7, 8e-7, (4, 3))
        (left if rng.random() < 0.5 else right).append(atoms)
    expected = [
        (i, j)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if np.abs(a.positions - b.positions).max() <= 1e-6
    ]
    assert (
        0
        < len(expected)
        < sum(  # some of the pairs of the same base, not all
            bool(np.abs(a.positions - b.positions).max() < 1e-3) for a in left for b in right
        )
    )
    assert duplicates(collect(*left), collect(*right)) == expected


def test_nothing_has_no_duplicates() -> None:
    assert duplicates(collect(), collect(molecule("H2O"))) == []
