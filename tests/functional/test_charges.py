"""Charges in range-separated form: against direct sums, lattice sums and finite differences."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from tensornet.functional import ChargeSum, RangeSeparated
from tensornet.functional.charges_near import _dense, short_range

CUBE = [(-1.0, 1.0)] * 3


def random_charges(n: int, seed: int, half: float = 1.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = half * (2 * torch.rand(n, 3, generator=rng) - 1)
    q = 2.0 * torch.randint(0, 2, (n,), generator=rng) - 1
    return x, q


def direct(
    x: Tensor, q: Tensor, kind: str = "coulomb", screening: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Potentials and forces of all pairs, by autograd from the definition."""
    x = x.clone().requires_grad_()
    r = (x[:, None] - x + torch.eye(len(x))[..., None]).norm(dim=2)
    kernel = r**-6 if kind == "dispersion" else torch.exp(-screening * r) / r
    kernel = kernel * (1 - torch.eye(len(x)))
    (g,) = torch.autograd.grad(0.5 * q @ kernel @ q, x)
    return (kernel @ q).detach(), -g


def off(found: Tensor, want: Tensor) -> float:
    return float((found - want).norm() / want.norm())


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-9])
def test_forces_are_those_of_the_direct_sum(tolerance: float) -> None:
    x, q = random_charges(600, 0)
    potentials, forces = direct(x, q)
    plan = ChargeSum(CUBE, tolerance=tolerance, n_charges=600)
    found = plan.evaluate(x, q)
    assert off(found.forces, forces) < tolerance
    assert off(found.potentials, potentials) < tolerance
    assert math.isclose(found.energy, 0.5 * float(q @ potentials), rel_tol=10 * tolerance)
    assert plan.error > off(found.potentials, potentials) * 0.1


def test_eight_hundred_charges_of_width_a_tenth() -> None:
    x, q = random_charges(800, 0, 0.7)
    potentials, forces = direct(x, q)
    plan = ChargeSum(CUBE, sigma=0.1, tolerance=1e-9)
    found = plan.evaluate(x, q)
    assert math.isclose(plan.parts.sigma, 0.1, rel_tol=1e-3)
    assert float((found.potentials - potentials).abs().max() / potentials.abs().max()) < 1e-9
    assert off(found.forces, forces) < 1e-9
    whole = plan.long_range(x, q)
    low = whole.round(tolerance=1e-6)
    assert max(low.ranks) <= 31
    points, _ = random_charges(300, 1)
    error = (low.value(points) - whole.value(points)).abs().max() / whole.value(points).abs().max()
    assert 1e-8 < error < 5e-6


@pytest.mark.parametrize(
    ("kind", "screening"), [("yukawa", 3.0), ("yukawa", 0.0), ("dispersion", 0.0)]
)
def test_other_kernels(kind: str, screening: float) -> None:
    x, q = random_charges(300, 2)
    if kind == "dispersion":
        q = q.abs()
    potentials, forces = direct(x, q, kind, screening)
    plan = ChargeSum(CUBE, kind=kind, screening=screening, tolerance=1e-6, cutoff=0.7)
    found = plan.evaluate(x, q)
    assert off(found.potentials, potentials) < 1e-6
    assert off(found.forces, forces) < 1e-6


def test_forces_are_the_gradient_of_the_energy() -> None:
    x, q = random_charges(4, 3, 0.8)
    plan = ChargeSum(CUBE, tolerance=1e-4, cutoff=1.2)  # of the sum as it is, not of 1 / r
    assert torch.autograd.gradcheck(
        plan.energy, (x.requires_grad_(), q.requires_grad_()), rtol=1e-6, atol=1e-8
    )


def test_potential_at_points_and_its_gradient() -> None:
    x, q = random_charges(200, 4)
    points, _ = random_charges(50, 5)
    field = RangeSeparated(x, q, box=CUBE, tolerance=1e-8)
    d = points[:, None] - x
    r = d.norm(dim=2)
    assert off(field.potential(points), (q / r).sum(1)) < 1e-8
    assert off(field.gradient(points), -((q / r**3)[..., None] * d).sum(1)) < 1e-7
    forces = direct(x, q)[1]
    assert off(field.forces, forces) < 1e-7
    long = field.long_range
    exact = (field.sum.parts.long.value(r) * q).sum(1)
    assert off(long.value(points), exact) < 1e-8


def test_sides_of_unequal_lengths_and_single_precision() -> None:
    x, q = random_charges(300, 6)
    x = x * torch.tensor([3.0, 1.0, 0.2]) + torch.tensor([5.0, -7.0, 0.0])
    potentials, forces = direct(x, q)
    found = RangeSeparated(x, q, tolerance=1e-7)
    assert off(found.forces, forces) < 1e-6
    low = RangeSeparated(x.float(), q.float(), tolerance=1e-4)
    assert low.forces.dtype == torch.float32
    assert off(low.potentials.double(), potentials) < 1e-3


def test_rock_salt_has_madelung_s_constant() -> None:
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    q = 1 - 2 * (x.sum(1) % 2)
    plan = ChargeSum([(0, 2)] * 3, periodic=True, cutoff=0.9, tolerance=1e-11)
    found = plan.evaluate(x + 17.25, q)
    assert (found.potentials * q + 1.747564594633182).abs().max() < 1e-9
    assert found.forces.abs().max() < 1e-9


def test_cell_of_a_crystal_is_independent_of_how_it_is_parted() -> None:
    rng = torch.Generator().manual_seed(7)
    lengths = torch.tensor([2.0, 3.0, 2.5])
    x = torch.rand(40, 3, generator=rng) * lengths
    q = torch.randn(40, generator=rng)
    q -= q.mean()
    box = [(0.0, float(a)) for a in lengths]
    near, far = (
        ChargeSum(box, periodic=True, cutoff=c, tolerance=1e-9).evaluate(x, q) for c in (0.6, 2.2)
    )
    assert off(near.potentials, far.potentials) < 1e-8
    assert off(near.forces, far.forces) < 1e-8
    assert float(near.forces.sum(0).abs().max()) < 1e-6
    want = ewald(x, q, lengths)
    assert off(near.potentials, want) < 1e-8


def ewald(x: Tensor, q: Tensor, lengths: Tensor) -> Tensor:
    """Potentials by Ewald's sum, written from the definition."""
    alpha, volume = 2.0, float(lengths.prod())
    d = x[:, None] - x
    total = -2 * alpha / math.sqrt(math.pi) * q
    for n in itertools.product(range(-3, 4), repeat=3):
        r = (d + torch.tensor(n) * lengths).norm(dim=2)
        safe = torch.where(r > 0, r, 1.0)
        total = total + torch.where(r > 0, torch.erfc(alpha * safe) / safe, 0.0) @ q
    m = torch.cartesian_prod(*[torch.arange(-11.0, 12.0)] * 3)
    k = 2 * math.pi * m[m.abs().sum(1) > 0] / lengths
    square = k.square().sum(1)
    factors = 4 * math.pi / volume * torch.exp(-square / (4 * alpha**2)) / square
    c, s = torch.cos(x @ k.mT), torch.sin(x @ k.mT)
    return total + c @ (factors * (q @ c)) + s @ (factors * (q @ s))


def test_near_charges_compiled_and_by_all_pairs() -> None:
    x, q = random_charges(700, 8)
    for kind, screening in (("coulomb", 0.0), ("yukawa", 2.0), ("dispersion", 0.0)):
        plan = ChargeSum(CUBE, kind=kind, screening=screening, cutoff=0.8, tolerance=1e-6)
        points = torch.cat([x[:100], x[:50] + 5.0])  # some far outside of all charges
        same = torch.cat([torch.arange(100), torch.full((50,), -1)])
        args = (plan.parts, plan._near, points, same, x, q)
        for found, want in zip(short_range(*args), _dense(*args), strict=True):
            if isinstance(found, Tensor) and isinstance(want, Tensor):
                assert torch.allclose(found, want, rtol=1e-10, atol=1e-10)
            else:
                assert found == want == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_charges(n: int) -> None:
    x, q = random_charges(2, 9)
    x, q = x[:n], q[:n]
    found = RangeSeparated(x, q, box=CUBE)
    if n < 2:
        assert float(found.energy) == pytest.approx(0.0, abs=1e-5)
        assert found.forces.shape == (n, 3)
        assert bool((found.forces.abs() < 1e-5).all())
    else:
        assert float(found.energy) == pytest.approx(float(q[0] * q[1] / (x[0] - x[1]).norm()), 1e-5)
    assert RangeSeparated(x, q).energy.shape == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": torch.full((2, 3), 3.0).double()}, "must lie in the box"),
        ({"positions": torch.zeros(2, 3).double()}, "two charges at the same place. Got 1 such"),
        ({"positions": torch.full((2, 3), math.nan).double()}, "must be finite"),
        ({"charges": torch.tensor([1.0, math.inf]).double()}, "must be finite"),
        ({"positions": torch.zeros(2, 2).double()}, r"must have shape \(n, 3\)"),
        ({"charges": torch.ones(3).double()}, r"must have shape \(n\)"),
        ({"box": [(0, 1)] * 2}, "must have three sides. Got 2"),
        ({"tolerance": 1e-20}, "from 1e-12 to 0.1. Got 1e-20"),
        ({"cutoff": 0.01}, "at least about a seventieth of the longest side"),
        ({"cutoff": -1.0}, "positive length. Got -1.0"),
        ({"periodic": True}, "must add up to zero in a periodic box. Got 2"),
        ({"periodic": True, "kind": "dispersion"}, "must be coulomb in a periodic box"),
        ({"periodic": True, "box": None}, "must be the cell of a periodic sum"),
    ],
)
def test_wrong_input(change: dict[str, object], words: str) -> None:
    given: dict[str, object] = {
        "positions": torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        "charges": torch.ones(2),
        "box": CUBE,
    }
    with pytest.raises(ValueError, match=words):
        RangeSeparated(**{**given, **change})  # type: ignore[arg-type]


def test_wrong_kinds() -> None:
    x, q = random_charges(3, 10)
    with pytest.raises(TypeError, match=r"floating or complex numbers. Got torch.int64"):
        RangeSeparated(x.long(), q.long())
    with pytest.raises(TypeError, match=r"must be torch.float64 on cpu, as the sum is"):
        ChargeSum(CUBE).evaluate(x.float(), q.float())
    with pytest.raises(ValueError, match=r"must not be at the places of charges. Got 1 there"):
        RangeSeparated(x, q, box=CUBE).potential(x[:1])
    with pytest.raises(TypeError, match="must be a floating type"):
        ChargeSum(CUBE, dtype=torch.int64)
