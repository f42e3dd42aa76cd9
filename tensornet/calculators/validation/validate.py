"""Hold a potential to the laws of physics, and report."""

import warnings
from collections.abc import Callable, Mapping

import torch
from ase import Atoms

from tensornet._typing import AnyPath
from tensornet.calculators.validation import derivatives, distances, dynamics, symmetries
from tensornet.calculators.validation.bench import Bench, float64_copy
from tensornet.calculators.validation.report import Report, Row
from tensornet.calculators.validation.structures import bench as on_bench
from tensornet.models import Potential, load

CHECKS: Mapping[str, Callable[[Bench], Row]] = {
    "forces": derivatives.forces,
    "stress": derivatives.stress,
    "hessian": derivatives.hessian,
    "rotation": symmetries.rotation,
    "inversion": symmetries.inversion,
    "translation": symmetries.translation,
    "lattice translation": symmetries.lattice_translation,
    "permutation": symmetries.permutation,
    "batch": symmetries.batch,
    "extensivity": symmetries.extensivity,
    "atomic energies": symmetries.atomic_energies,
    "isolated atom": symmetries.isolated_atom,
    "cutoff": distances.cutoff,
    "dimers": distances.dimers,
    "drift": dynamics.drift,
}


def validate(
    model: Potential | AnyPath,
    atoms: Atoms | None = None,
    *,
    seed: int = 0,
    md_steps: int = 1000,
    device: str | torch.device | None = None,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Measure whether a potential keeps the laws that every potential must keep.

    All checks run in float64, on one structure and on what is made of it: a copy with all atoms
    moved a little (so that no force is zero by symmetry), a crystal, a small cluster, pairs and
    single atoms. The molecular dynamics starts from the structure itself.

    Args:
        model: A potential, or its file. It is copied, and not changed.
        atoms: The structure, in Å. By default the example that the model file carries, or else a
            random compact arrangement of the model's elements.
        seed: Seed of all random choices.
        md_steps: Length of the molecular dynamics, in steps of 0.5 fs. Zero skips it.
        device: Where to compute. By default where the model is.
        progress: Called with the name of each check before it starts.

    Returns:
        One row per check: forces and stress against the energy, symmetry of the Hessian;
        rotation, inversion, translation, translation by lattice vectors, permutation; a batch
        against one by one, twice a structure, sums of energies, single atoms; smoothness at the
        cutoff, holes between pairs of elements, drift of the energy. The report says which do
        not apply and why. A check that the model stops with an error has failed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no model file, or the structure makes no sense or has an
            element that the model does not know.

    Examples:
        >>> from tensornet.models import build
        >>> argon = build({"name": "lennard_jones"}, elements=[18], reference_energies={18: 0.0})
        >>> validate(argon, md_steps=0).passed
        True
    """
    potential = model if isinstance(model, Potential) else load(model)
    name = potential.config.get("name", type(potential).__name__)
    origin = f"a {name} model" if isinstance(model, Potential) else str(model)
    with warnings.catch_warnings():
        # That forces are not derivatives is said in the rows.
        warnings.filterwarnings("ignore", message="The forces of this model come from a head")
        bench, structure = on_bench(
            float64_copy(potential, device), atoms, seed=seed, md_steps=md_steps
        )
        rows = []
        for check, measure in CHECKS.items():
            if progress is not None:
                progress(check)
            rows.append(_measured(check, measure, bench))
    return Report(f"{origin} on {structure}", tuple(rows))


def _measured(name: str, measure: Callable[[Bench], Row], bench: Bench) -> Row:
    try:
        return measure(bench)
    except Exception as error:  # of a model that may be anybody's
        said = f"{type(error).__name__}: {error}"
        return Row(name, "stopped by an error", None, None, "", False, said)
