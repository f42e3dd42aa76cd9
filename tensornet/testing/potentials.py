"""The contract of potentials: the laws that `tensornet.calculators.validate` measures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tensornet._typing import AnyPath

if TYPE_CHECKING:
    from ase import Atoms

    from tensornet.calculators import Report
    from tensornet.models import Potential


def assert_potential_contract(
    model: Potential | AnyPath,
    atoms: Atoms | None = None,
    *,
    besides: Iterable[str] = ("dimers", "drift"),
    md_steps: int = 0,
    seed: int = 0,
) -> Report:
    """Assert that a potential keeps the laws that `tensornet.calculators.validate` measures.

    Use it in the tests of a model of your own: forces and stress are derivatives of the energy,
    the Hessian is symmetric, the energy invariant and smooth at the cutoff, a batch the same as
    one by one, atoms by themselves at their reference energies.

    Args:
        model: A potential, or its file.
        atoms: The structure to start from, in Å. By default as in `validate`.
        besides: Checks whose failure does not count. By default those that tell how good a
            trained potential is, and not whether its code is right.
        md_steps: Length of the molecular dynamics in steps of 0.5 fs, for the check `drift`.
        seed: Seed of all random choices.

    Returns:
        The report, for what it says beside the verdict.

    Raises:
        AssertionError: If a check failed, with the whole table; or if the structure was changed.
        ValueError: If `besides` names no check.

    Examples:
        >>> from tensornet.models import build
        >>> argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
        >>> assert_potential_contract(argon).failed
        ()
    """
    from tensornet.calculators import validate

    before = None if atoms is None else atoms.copy()
    report = validate(model, atoms, seed=seed, md_steps=md_steps)
    known = [row.name for row in report.rows]
    if unknown := set(besides) - set(known):
        raise ValueError(
            f"`assert_potential_contract(besides=...)` must name checks: {', '.join(known)}. "
            f"Got {', '.join(sorted(unknown))}."
        )
    failed = [check for check in report.failed if check not in set(besides)]
    if failed:
        raise AssertionError(f"{', '.join(failed)} failed with seed {seed}.\n{report}")
    if before is not None and atoms != before:
        raise AssertionError("The potential must not change the structure it is asked about.")
    return report
