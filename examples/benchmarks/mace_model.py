"""MACE as the benchmarks here compare with it, from mace-torch, where that is installed.

Two layers of 64x0e + 64x1o features, harmonics to degree 3, correlation 3, 5 Å, 8 Bessel functions
under a polynomial cutoff, a radial network of 3 x 64.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import nn

from tensornet.datasets import Frames

CUTOFF = 5.0


def there() -> bool:
    """Whether mace-torch can be used; if so, it is made ready."""
    try:
        version("mace-torch")
    except PackageNotFoundError:
        return False
    torch.serialization.add_safe_globals([slice])  # in files of e3nn that it reads
    return True


def make(
    elements: Sequence[int],
    *,
    n_neighbours: float,
    scale: float = 1.0,
    shift: float = 0.0,
    smoke: bool = False,
) -> nn.Module:
    """Make the model with random weights, in torch's default dtype.

    Args:
        elements: Atomic numbers; their reference energies are zero.
        n_neighbours: Mean number of neighbours.
        scale: Unit of energies, eV.
        shift: Mean interaction energy of an atom, eV.
        smoke: Whether to make a tiny one instead.
    """
    from e3nn.o3 import Irreps
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model: nn.Module = modules.ScaleShiftMACE(
        r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=1 if smoke else 3,
        interaction_cls=block, interaction_cls_first=block, num_interactions=2,
        num_elements=len(elements), atomic_numbers=list(elements),
        atomic_energies=np.zeros((1, len(elements))), avg_num_neighbors=n_neighbours,
        hidden_irreps=Irreps("4x0e + 4x1o" if smoke else "64x0e + 64x1o"),
        MLP_irreps=Irreps("16x0e"), gate=torch.nn.functional.silu, radial_MLP=[64, 64, 64],
        correlation=2 if smoke else 3, radial_type="bessel",
        atomic_inter_scale=scale, atomic_inter_shift=shift,
    )  # fmt: skip
    return model


def batches(frames: Frames, references: Mapping[int, float], size: int, shuffle: bool) -> Any:
    """Make mace's batches; energies are those of interaction, subtracted in float64.

    Args:
        frames: Structures with labels.
        references: Reference energy by atomic number, eV.
        size: Structures in a batch.
        shuffle: Whether to shuffle them.
    """
    from mace import data, tools
    from mace.tools.torch_geometric.dataloader import DataLoader

    table = tools.AtomicNumberTable(sorted(references))
    made = []
    for atoms, labels in zip(frames.structures, frames.labels, strict=True):
        known = {"energy": labels.energy is not None, "forces": labels.forces is not None}
        energy = (labels.energy or 0.0) - sum(references[int(z)] for z in atoms.numbers)
        one = data.Configuration(
            atomic_numbers=atoms.numbers, positions=atoms.positions,
            properties={"energy": energy, "forces": labels.forces},
            property_weights={name: float(has) for name, has in known.items()},
            cell=np.array(atoms.cell), pbc=tuple(bool(p) for p in atoms.pbc),
        )  # fmt: skip
        made.append(
            data.AtomicData.from_config(one, z_table=table, cutoff=CUTOFF, heads=["Default"])
        )
    return DataLoader(dataset=made, batch_size=size, shuffle=shuffle, drop_last=False)
