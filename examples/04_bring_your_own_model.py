"""Bring your own model: write the energy of an atom, inherit everything else, and test it.

You learn that a potential is one function, from the vectors to the neighbours of the atoms to their
energies: forces, stress, batches, reference energies and the ASE calculator come with the base
class `Potential`. And that `validate` is the test bench for code of your own: it passes a Morse
potential that is switched off smoothly, and finds what is wrong with one that is cut off.
"""

# %% A Morse potential, in thirty lines
import matplotlib as mpl
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from pydantic import BaseModel
from torch import Tensor, nn

from tensornet.calculators import PotentialCalculator, evaluate_many, validate
from tensornet.layers import polynomial_envelope
from tensornet.models import Potential
from tensornet.testing import assert_potential_contract

mpl.use("Agg")
import matplotlib.pyplot as plt


class MorseConfig(BaseModel, frozen=True):
    """Parameters: eV and Å. `cutoff` must be there; the rest is up to the model."""

    name: str = "morse"
    cutoff: float = 5.0
    depth: float = 0.34
    width: float = 0.74
    distance: float = 2.87


class Morse(Potential):
    """Pairs at distance r interact by depth (e^(-2x) - 2 e^(-x)), x = (r - distance) / width."""

    def __init__(self, config: MorseConfig, elements: list[int]) -> None:
        references = dict.fromkeys(elements, 0.0)
        super().__init__(config, elements=elements, reference_energies=references)
        self.depth = nn.Parameter(torch.tensor(config.depth, dtype=torch.float64))
        self.width, self.distance = config.width, config.distance

    def interaction_energies(self, species: Tensor, edge_index: Tensor, vectors: Tensor) -> Tensor:
        """Give half of the energy of each pair to either of its atoms."""
        r = vectors.norm(dim=-1)
        e = torch.exp((self.distance - r) / self.width)
        pair = self.depth / 2 * (e * e - 2 * e) * self.switch(r)
        return pair.new_zeros(len(species)).index_add(0, edge_index[1], pair)

    def switch(self, r: Tensor) -> Tensor:
        """Go from one to zero between 0.7 of the cutoff and the cutoff, three times smooth."""
        return polynomial_envelope(((r / self.cutoff - 0.7) / 0.3).clamp(min=0))


class CutMorse(Morse):
    """The same, but nothing is done about the cutoff: at 5 Å the energy jumps."""

    def switch(self, r: Tensor) -> Tensor:
        """Leave the pair as it is."""
        return torch.ones_like(r)


# %% It is an ASE calculator already
copper = bulk("Cu", a=3.6)
copper.calc = PotentialCalculator(Morse(MorseConfig(), [29]))
print(f"energy {copper.get_potential_energy():.3f} eV, stress {copper.get_stress()[0]:.4f} eV/Å³\n")

# %% Test both
structure = bulk("Cu", a=3.6, cubic=True)
good = validate(Morse(MorseConfig(), [29]), structure, md_steps=200)
bad = validate(CutMorse(MorseConfig(), [29]), structure, md_steps=200)
print(f"the smooth one: {good.summary()}\nthe one that is cut off: {bad.summary()}")

# %% The picture: two atoms that part, and what the checks measured
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
r = np.linspace(2.2, 5.3, 311)
for name, kind in (("cut off", CutMorse), ("smooth", Morse)):
    pairs = [Atoms("Cu2", [[0, 0, 0], [0, 0, d]]) for d in r]
    pairs = evaluate_many(pairs, kind(MorseConfig(), [29]))
    axes[0].plot(r, [pair.get_potential_energy() for pair in pairs], label=name)
    axes[1].plot(r, [pair.get_forces()[1, 2] for pair in pairs], label=name)
axes[0].set(title="energy of two atoms, eV", xlabel="distance, Å", ylim=(-0.4, 0.3))
axes[1].set(title="force, eV/Å", xlabel="distance, Å", ylim=(-0.3, 0.1))
axes[0].legend()
for report, colour, size in ((bad, "C0", 0.8), (good, "C1", 0.4)):
    rows = [row for row in report.rows if row.value and row.limit and row.value > 0]
    ratios = [row.value / row.limit for row in rows]
    axes[2].barh([row.name for row in rows], ratios, color=colour, height=size)
axes[2].axvline(1, color="k")
axes[2].set(title="checks: measured / limit", xscale="log")
figure.savefig("bring_your_own_model.png", dpi=100)

# %% What this example claims; the first line is all that a test of your own model needs
assert_potential_contract(Morse(MorseConfig(), [29]), structure)
assert good.passed, good
assert "cutoff" in bad.failed, bad
