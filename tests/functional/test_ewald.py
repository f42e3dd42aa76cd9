"""Electrostatics against Madelung's constants, direct and planar sums, and the laws they keep."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erfc
from torch import Tensor

from tensornet.atoms import COULOMB
from tensornet.functional import electrostatic_forces, electrostatics

FCC = torch.tensor([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], dtype=torch.float64)
ALL, SLAB, NONE = (torch.tensor(p) for p in ([True] * 3, [True, True, False], [False] * 3))
KINDS = {"crystal": ALL, "slab": SLAB, "cluster": NONE}


def charges(n: int = 7, seed: int = 0, *, net: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * [5, 6, 7] + 0.5 * rng.normal(size=(3, 3))
    q = rng.normal(size=n)
    if not net:
        q -= q.mean()
    x = rng.uniform(size=(n, 3)) @ cell
    return torch.tensor(x), torch.tensor(q), torch.tensor(cell)


@pytest.mark.parametrize(
    ("cell", "second", "nearest", "constant"),
    [
        (FCC, 0.5, 0.5, 1.74756459463318219),
        (torch.eye(3, dtype=torch.float64), 0.5, math.sqrt(0.75), 1.76267477307098),
        (FCC, 0.25, math.sqrt(3) / 4, 1.63805505338879),
    ],
    ids=["NaCl", "CsCl", "zincblende"],
)
def test_madelung(cell: Tensor, second: float, nearest: float, constant: float) -> None:
    x = torch.tensor([[0.0] * 3, [second] * 3])
    for scale in (1.0, 3.7):
        found = electrostatic_forces(
            x * scale, torch.tensor([1.0, -1.0]), cell * scale, tolerance=1e-13
        )
        assert float(-found.energy) * nearest * scale / COULOMB == pytest.approx(
            constant, rel=1e-12
        )
        assert found.forces.abs().max() < 1e-12
        # An energy that goes with 1/length: the trace of dE/dstrain is minus the energy.
        assert float(found.virials.sum(0).trace()) == pytest.approx(-float(found.energy), rel=1e-11)


def test_a_charge_in_its_background() -> None:
    """Wigner's simple cubic crystal: 2.837297 e²/2L."""
    found = electrostatics(torch.zeros(1, 3), torch.ones(1), torch.eye(3), tolerance=1e-13)
    assert float(found.energy) / COULOMB == pytest.approx(-2.837297479480619 / 2, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smearing", [0.0, 0.6])
def test_nothing_depends_on_the_width(kind: str, smearing: float) -> None:
    x, q, cell = charges()
    words: dict[str, Any] = {"pbc": KINDS[kind], "smearing": smearing, "tolerance": 1e-13}
    first = electrostatic_forces(x, q, cell, **words)
    for width in (0.5, 1.3):
        other = electrostatic_forces(x, q, cell, width=width, **words)
        for a, b in zip(first[:4], other[:4], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        a, b = first.virials.sum(0), other.virials.sum(0)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smearing", [0.0, 0.6])
def test_written_derivatives_are_those_of_autograd(kind: str, smearing: float) -> None:
    x, q, cell = (a.requires_grad_() for a in charges())
    strain = torch.zeros(3, 3, requires_grad=True)
    along = torch.eye(3) + (strain + strain.mT) / 2
    words: dict[str, Any] = {"pbc": KINDS[kind], "smearing": smearing, "tolerance": 1e-13}
    found = electrostatics(x @ along, q, cell @ along, **words)
    by_x, by_q, by_strain = torch.autograd.grad(found.energy.sum(), (x, q, strain))
    written = electrostatic_forces(x, q, cell, **words)
    assert not written.energy.requires_grad
    torch.testing.assert_close(written.energies, found.energies.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(written.forces, -by_x, rtol=0, atol=1e-11)
    torch.testing.assert_close(written.potentials, by_q, rtol=0, atol=1e-11)
    torch.testing.assert_close(written.virials.sum(0), by_strain, rtol=0, atol=1e-10)
    torch.testing.assert_close(written.energies.sum(), written.energy[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(written.forces.sum(0), torch.zeros(3), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [None, 1.2])
def test_second_derivatives(kind: str, width: float | None) -> None:
    x, q, cell = (a.requires_grad_() for a in charges(2))

    def energy(x: Tensor, q: Tensor, cell: Tensor) -> Tensor:
        # A period across a slab that follows the positions is no smooth function of them.
        return electrostatics(
            x, q, cell, KINDS[kind], smearing=0.9, tolerance=1e-10, width=width
        ).energy

    assert torch.autograd.gradcheck(energy, (x, q, cell), rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradgradcheck(energy, (x, q, cell), rtol=1e-6, atol=1e-6)


def test_clusters_against_the_definition() -> None:
    x, q, _ = charges(40)
    for smearing in (0.0, 0.8):
        potentials = np.zeros(40)
        forces = np.zeros((40, 3))
        for i in range(40):
            for j in range(40):
                if i == j:
                    continue
                d = (x[i] - x[j]).numpy()
                r = float(np.linalg.norm(d))
                value, down = 1 / r, 1 / r**2
                if smearing:
                    value = math.erf(r / (2 * smearing)) / r
                    inside = math.exp(-(r**2) / (4 * smearing**2))
                    down = value / r - inside / (math.sqrt(math.pi) * smearing * r)
                potentials[i] += COULOMB * float(q[j]) * value
                forces[i] += COULOMB * float(q[i] * q[j]) * down * d / r
        found = electrostatic_forces(x, q, smearing=smearing)
        np.testing.assert_allclose(found.potentials, potentials, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.forces, forces, rtol=1e-11, atol=1e-11)


def test_crystal_against_a_large_cluster() -> None:
    """Shells of whole cells without charge, dipole and quadrupole, summed one by one."""
    cell = 5.0 * torch.eye(3)
    # With their mirror images through three planes, charges have no dipole, and by turns about
    # the diagonal no quadrupole but a multiple of one: what is left falls off with the fifth power.
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    turns = [torch.eye(3).roll(k, 1) for k in range(3)]
    base = torch.tensor([[0.3, 0.9, 1.6], [0.7, 1.4, 0.2]])
    whole = torch.cat([base @ t * s for t in turns for s in signs])
    values = torch.tensor([1.0, -1.0]).repeat(24)
    found = electrostatic_forces(whole, values, cell, tolerance=1e-12)
    sums = []
    for reach in (4, 8):
        shells = torch.cartesian_prod(*[torch.arange(-reach, reach + 1.0)] * 3) @ cell
        shells = shells[shells.abs().sum(1) > 0]
        total = electrostatics(whole, values).potentials[:2]
        for k in range(2):
            r = (whole[k] - shells[:, None] - whole[None]).norm(dim=-1)
            total[k] += COULOMB * (values / r).sum()
        sums.append(total)
    # Periodicity in a sphere or cube of cells without dipole: up to the mean of the potential,
    # which the quadrupoles set, so differences between two places are compared.
    apart = [float(total[0] - total[1]) for total in sums]
    extrapolated = apart[1] + (apart[1] - apart[0]) / (2**2 - 1)
    assert float(found.potentials[0] - found.potentials[1]) == pytest.approx(extrapolated, rel=1e-4)


def planar(x: Tensor, q: Tensor, cell: Tensor, rate: float) -> float:
    """The sum over a planar lattice by Parry's formula, in loops, in e²/Å."""
    a, b = cell[:2].numpy()
    normal = np.cross(a, b)
    area = float(np.linalg.norm(normal))
    normal /= area
    reciprocal = 2 * np.pi * np.array([np.cross(b, normal), np.cross(normal, a)]) / area
    places, values = x.numpy(), q.numpy()
    total = -rate / math.sqrt(math.pi) * float((values**2).sum())
    for i in range(len(values)):
        for j in range(len(values)):
            d = places[i] - places[j]
            z = float(d @ normal)
            both = float(values[i] * values[j])
            for m in range(-9, 10):
                for n in range(-9, 10):
                    r = float(np.linalg.norm(d + m * a + n * b))
                    if r > 1e-9:
                        total += 0.5 * both * float(erfc(rate * r)) / r
                    k = m * reciprocal[0] + n * reciprocal[1]
                    g = float(np.linalg.norm(k))
                    if g:
                        up = math.exp(g * z) * float(erfc(g / (2 * rate) + rate * z))
                        up += math.exp(-g * z) * float(erfc(g / (2 * rate) - rate * z))
                        total += both * math.pi / (2 * area * g) * math.cos(float(k @ d)) * up
            flat = z * math.erf(rate * z) + math.exp(-((rate * z) ** 2)) / (
                rate * math.sqrt(math.pi)
            )
            total -= math.pi / area * both * flat
    return total


@pytest.mark.parametrize("net", [False, True])
def test_slab_against_the_planar_sum(net: bool) -> None:
    x, q, cell = charges(4, 1, net=net)
    expected = planar(x, q, cell, 0.45)
    assert planar(x, q, cell, 0.55) == pytest.approx(expected, rel=1e-9)  # the oracle itself
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        pbc = SLAB[order]
        found = electrostatics(x, q, cell[order], pbc, tolerance=1e-12)
        assert float(found.energy) / COULOMB == pytest.approx(expected, rel=1e-9)
    far = cell.clone()
    far[2] = 0  # the vector across plays no role, and may be missing
    assert float(electrostatics(x, q, far, SLAB).energy) / COULOMB == pytest.approx(
        expected, rel=1e-7
    )


@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
@pytest.mark.parametrize("n", [2, 60])
def test_errors_are_within_the_tolerance(tolerance: float, n: int) -> None:
    for seed in range(2):
        x, q, cell = charges(n, seed)
        if seed == 1:  # a long cell
            stretch = torch.diag(torch.tensor([1.0, 1.0, 5.0]))
            x, cell = x @ stretch, cell @ stretch
        unit = COULOMB * float(q.square().mean().sqrt())
        for pbc in (ALL, SLAB):
            for smearing, width in ((0.0, None), (0.7, None), (0.0, 0.5), (0.0, 1.3)):
                words: dict[str, Any] = {"pbc": pbc, "smearing": smearing}
                exact = electrostatic_forces(x, q, cell, tolerance=1e-12, **words)
                found = electrostatic_forces(x, q, cell, tolerance=tolerance, width=width, **words)
                error = float((found.potentials - exact.potentials).abs().max()) / unit
                assert error < tolerance
                field = (found.forces - exact.forces) / q[:, None]
                assert float(field.abs().max()) / unit < 2 * tolerance


def test_batches_are_structures_one_by_one() -> None:
    kinds = [ALL, NONE, SLAB, ALL, NONE, SLAB, ALL]
    sizes = [5, 40, 3, 17, 1, 9, 6]
    parts = [charges(n, k) for k, n in enumerate(sizes)]
    x, q = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    cell = torch.stack([p[2] for p in parts])
    batch, pbc = torch.repeat_interleave(torch.tensor(sizes)), torch.stack(kinds)
    for smearing in (0.0, 0.8):
        words: dict[str, Any] = {"smearing": smearing, "tolerance": 1e-12}
        together = electrostatic_forces(x, q, cell, pbc, batch, **words)
        taped = electrostatics(x, q, cell, pbc, batch, **words)
        apart = [
            electrostatic_forces(a, b, c, p, **words)
            for (a, b, c), p in zip(parts, kinds, strict=True)
        ]
        for k in range(4):
            expected = torch.cat([one[k] for one in apart])
            torch.testing.assert_close(together[k], expected, rtol=0, atol=1e-9)
        virials = together.virials.new_zeros(7, 3, 3).index_add(0, batch, together.virials)
        expected = torch.stack([one.virials.sum(0) for one in apart])
        torch.testing.assert_close(virials, expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(taped.potentials, together.potentials, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_turned_moved_and_wrapped(kind: str) -> None:
    x, q, cell = charges()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    words: dict[str, Any] = {"pbc": KINDS[kind], "tolerance": 1e-12}
    before = electrostatic_forces(x, q, cell, **words)
    after = electrostatic_forces(x @ turn + 3.0, q, cell @ turn, **words)
    torch.testing.assert_close(after.potentials, before.potentials, rtol=0, atol=1e-10)
    torch.testing.assert_close(after.forces, before.forces @ turn, rtol=0, atol=1e-10)
    if kind != "cluster":
        jumps = torch.randint(-2, 3, (len(x), 3), generator=torch.Generator().manual_seed(0))
        jumps[:, 2] *= kind == "crystal"
        wrapped = electrostatic_forces(x + jumps.double() @ cell, q, cell, **words)
        torch.testing.assert_close(wrapped.forces, before.forces, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["crystal", "slab"])
def test_supercells_have_as_many_times_the_energy(kind: str) -> None:
    x, q, cell = charges(net=kind == "crystal")
    repeats = [2, 3, 1] if kind == "slab" else [2, 1, 2]
    shifts = torch.cartesian_prod(*[torch.arange(float(r)) for r in repeats]) @ cell
    many = (x + shifts[:, None]).reshape(-1, 3)
    larger = cell * torch.tensor(repeats)[:, None]
    words: dict[str, Any] = {"pbc": KINDS[kind], "tolerance": 1e-12}
    one = electrostatic_forces(x, q, cell, **words)
    all_ = electrostatic_forces(many, q.repeat(len(shifts)), larger, **words)
    torch.testing.assert_close(all_.energy, len(shifts) * one.energy, rtol=0, atol=1e-8)
    expected = one.potentials.repeat(len(shifts))
    torch.testing.assert_close(all_.potentials, expected, rtol=0, atol=1e-9)
    forces = one.forces.repeat(len(shifts), 1)
    torch.testing.assert_close(all_.forces, forces, rtol=0, atol=1e-9)


def test_pieces_that_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, q, cell = charges(30)
    whole = [electrostatic_forces(x, q, cell, pbc) for pbc in (ALL, NONE)]
    monkeypatch.setattr("tensornet.functional.ewald_pairs.CHUNK", 64)
    monkeypatch.setattr("tensornet.functional.ewald_waves.CHUNK", 1000)
    for pbc, one in zip((ALL, NONE), whole, strict=True):
        for a, b in zip(electrostatic_forces(x, q, cell, pbc), one, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pbc", KINDS.values(), ids=KINDS)
def test_the_default_dtype_plays_no_role(pbc: Tensor) -> None:
    x, q, cell = charges()
    expected = electrostatic_forces(x, q, cell, pbc)
    torch.set_default_dtype(torch.float32)
    try:
        found, taped = electrostatic_forces(x, q, cell, pbc), electrostatics(x, q, cell, pbc)
    finally:
        torch.set_default_dtype(torch.float64)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(taped.potentials, expected.potentials, rtol=1e-12, atol=1e-12)


def test_single_precision_and_the_smallest_sizes() -> None:
    x, q, cell = charges()
    found = electrostatics(x.float(), q.float(), cell.float())
    assert found.energy.dtype == torch.float64
    assert float(found.energy) == pytest.approx(float(electrostatics(x, q, cell).energy), rel=1e-5)
    none = electrostatic_forces(torch.zeros(0, 3), torch.zeros(0), cell)
    assert none.energy.tolist() == [0.0]
    assert none.forces.shape == (0, 3)
    assert electrostatics(torch.zeros(0, 3), torch.zeros(0)).energy.tolist() == [0.0]
    lone = electrostatic_forces(torch.ones(1, 3), torch.ones(1))
    assert lone.energy.tolist() == [0.0]
    assert not lone.forces.any()
    neutral = electrostatics(x, torch.zeros(7), cell)
    assert not neutral.potentials.any()
    gap = electrostatics(x, q, cell.expand(3, 3, 3), ALL, torch.full((7,), 2))
    assert gap.energy[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("width", [None, 1.2])
@pytest.mark.parametrize("pbc", KINDS.values(), ids=KINDS)
def test_charges_at_one_place(pbc: Tensor, width: float | None) -> None:
    x, q, cell = charges()
    x[1] = x[0]
    near = x.clone()
    near[1, 0] += 1e-3
    words: dict[str, Any] = {"pbc": pbc, "smearing": 0.6, "tolerance": 1e-11, "width": width}
    found = electrostatic_forces(x, q, cell, **words)
    beside = electrostatic_forces(near, q, cell, **words)
    torch.testing.assert_close(found.potentials, beside.potentials, rtol=0, atol=0.02)
    torch.testing.assert_close(found.forces, beside.forces, rtol=0, atol=0.05)
    pair = electrostatics(torch.zeros(2, 3), torch.ones(2), smearing=0.6)
    assert float(pair.energy) == pytest.approx(COULOMB / (0.6 * math.sqrt(math.pi)), rel=1e-7)
    points = electrostatics(torch.zeros(2, 3), torch.ones(2))
    assert math.isinf(float(points.energy))


def test_refusals() -> None:
    x, q, cell = charges()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"positions": x[:, :2]}, "positions=...\\)` must have shape"),
        ({"charges": q[:3]}, "with n = 7 as in `positions`"),
        ({"charges": q / 0}, "must be finite. Got"),
        ({"positions": x * math.nan}, "for charge 0"),
        ({"cell": torch.zeros(3, 3)}, "linearly independent"),
        ({"cell": torch.zeros(3, 3), "pbc": SLAB}, "along the periodic directions"),
        ({"cell": cell[:2]}, "must have shape \\(3, 3\\)"),
        ({"cell": None, "pbc": ALL}, "must be given for periodic"),
        ({"pbc": torch.tensor([True, False, False])}, "Lattice sums of wires are not there"),
        ({"pbc": torch.ones(2, 2)}, "pbc=...\\)` must have shape"),
        ({"cell": torch.stack([cell, cell])}, "which of 2 structures"),
        ({"batch": torch.arange(7).flip(0)}, "in order"),
        ({"batch": torch.ones(7, dtype=torch.int64), "cell": cell[None]}, "from 0 to 0"),
        ({"smearing": -1.0}, "length in Å or zero. Got -1"),
        ({"tolerance": 0.0}, "from 1e-15 to 0.1"),
        ({"width": 0.0}, "a length in Å. Got 0"),
    ]
    for change, message in cases:
        words: dict[str, Any] = {"positions": x, "charges": q, "cell": cell} | change
        with pytest.raises(ValueError, match=message):
            electrostatics(**words)
    kinds: list[tuple[dict[str, Any], str]] = [
        ({"positions": x.numpy()}, "positions=...\\)` must be a real torch.Tensor. Got ndarray"),
        ({"charges": q + 0j}, "charges=...\\)` must be a real torch.Tensor. Got torch.complex128"),
        ({"batch": torch.zeros(7)}, "batch=...\\)` must hold whole numbers. Got torch.float64"),
    ]
    for change, message in kinds:
        with pytest.raises(TypeError, match=message):
            electrostatics(**{"positions": x, "charges": q, "cell": cell, **change})


def test_a_peer_agrees() -> None:
    torchpme = pytest.importorskip("torchpme")
    x, q, cell = charges(20)
    found = electrostatics(x, q, cell, tolerance=1e-12)
    import vesin

    i, j, d = vesin.NeighborList(cutoff=6.0, full_list=False).compute(
        x.numpy(), cell.numpy(), True, quantities="ijd"
    )
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing=0.85), lr_wavelength=0.42
    ).to(torch.float64)
    theirs = calculator(
        q[:, None], cell, x, torch.as_tensor(np.stack([i, j], 1).astype("int64")), torch.tensor(d)
    )
    potentials = 2 * COULOMB * theirs[:, 0]  # they share each pair
    shift = (found.potentials - potentials).mean()  # where the background sets zero
    torch.testing.assert_close(found.potentials, potentials + shift, rtol=0, atol=1e-8)
