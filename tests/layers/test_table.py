"""Tables of radial functions: what the certificate says is true, forces are exact derivatives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import BPoly
from torch import Tensor, nn

from tensornet import kernels
from tensornet.layers import BesselBasis, RadialTable, polynomial_envelope

CUTOFF = 5.0


class Radial(nn.Module):
    """A small radial network, as in a potential."""

    def __init__(self, q: int) -> None:
        super().__init__()
        self.basis = BesselBasis(8)
        self.network = nn.Sequential(
            nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, q, bias=False)
        )

    def forward(self, r: Tensor) -> Tensor:
        x = r / CUTOFF
        out: Tensor = self.network(self.basis(x)) * polynomial_envelope(x)[:, None]
        return out


def test_is_scipys_hermite_interpolation() -> None:
    knots = np.arange(9.0)
    jets = np.random.default_rng(5).standard_normal((9, 3, 4))
    want = BPoly.from_derivatives(knots, jets)
    x = torch.cat([torch.rand(200) * 8, torch.tensor(knots), torch.tensor([-0.3, 8.4])])
    table = torch.from_numpy(jets.reshape(27, 4))
    for order in range(6):
        expected = torch.from_numpy(want(x.numpy(), nu=order, extrapolate=True))
        if order > 2:  # these jump at knots
            x, expected = x[:200], expected[:200]
        got = kernels.spline(x, table, order)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-9)
    low = kernels.spline(x.float(), table.float(), 0)
    torch.testing.assert_close(low.double(), kernels.spline(x, table, 0), rtol=0, atol=2e-5)


def test_is_twice_continuously_differentiable_at_knots() -> None:
    table = torch.randn(12, 3)
    for order in range(3):
        left, right = (kernels.spline(torch.tensor([x]), table, order) for x in (2 - 1e-9, 2.0))
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_the_certificate_holds_elsewhere(tolerance: float) -> None:
    function = Radial(21)
    table = RadialTable(function, CUTOFF, tolerance=tolerance, start=0.3)
    r = (0.3 + (CUTOFF - 0.3) * torch.rand(4001)).requires_grad_()
    got, want = table(r), function(r)
    error = (got - want).abs().max() / want.abs().max()
    assert error <= 1.05 * table.certificate.value
    assert error >= 0.2 * table.certificate.value
    weights = torch.randn(21)
    slopes = [torch.autograd.grad((y @ weights).sum(), r)[0] for y in (got, want)]
    assert (slopes[0] - slopes[1]).abs().max() <= 30 * tolerance * slopes[1].abs().max()
    assert max(table.certificate.value, table.certificate.slope) <= tolerance
    n = table.certificate.n_knots
    assert table.table.shape == (3 * n, 21)
    assert table.certificate.n_points > 3 * n


def test_error_falls_with_the_sixth_power_of_the_distance_of_knots() -> None:
    found = []
    for tolerance in (1e-5, 1e-8):
        table = RadialTable(lambda r: torch.sin(3 * r)[:, None], 5.0, tolerance=tolerance)
        found.append((table.certificate.n_knots - 1, table.certificate.value))
    order = np.log(found[0][1] / found[1][1]) / np.log(found[1][0] / found[0][0])
    assert 5.8 < order < 6.2


def test_derivatives_to_second_order_and_in_the_table() -> None:
    module = RadialTable(Radial(3), CUTOFF, tolerance=1e-3, start=0.3)
    r = torch.tensor([0.5, 1.7, 4.2], requires_grad=True)
    table = module.table.clone().requires_grad_()

    def function(r: Tensor, table: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(module, {"table": table}, (r,))
        return out

    def forces(r: Tensor) -> Tensor:
        energy = module(r).square().sum()
        return torch.autograd.grad(energy, r, create_graph=True)[0]

    assert torch.autograd.gradcheck(function, (r, table), rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradcheck(forces, r, rtol=1e-6, atol=1e-8)


def test_beyond_the_cutoff_and_not_a_number() -> None:
    table = RadialTable(Radial(5), CUTOFF, tolerance=1e-4, start=0.3)
    r = torch.tensor([CUTOFF, 5.5, 1e30, torch.inf], requires_grad=True)
    out = table(r)
    assert not out.any()
    (slope,) = torch.autograd.grad(out.sum(), r)
    assert not slope.any()
    mixed = table(torch.tensor([1.0, torch.nan, 2.0]))
    assert mixed[1].isnan().all()
    assert torch.isfinite(mixed[[0, 2]]).all()
    assert table(torch.zeros(0)).shape == (0, 5)


def test_threads_agree() -> None:
    x, table, g = torch.rand(5003) * 9, torch.randn(30, 70), torch.randn(5003, 70)
    calls: list[Callable[[], Tensor]] = [
        lambda: kernels.spline(x, table, 0),
        lambda: kernels.spline_slopes(x, table, g, 1),
        lambda: kernels.spline_moments(x, g, 30, 0),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(3)
    try:
        together = [call() for call in calls]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_original_is_left_alone_and_dtypes_follow() -> None:
    function = Radial(2).float()
    table = RadialTable(function, CUTOFF, tolerance=1e-3, start=0.3)
    assert all(p.dtype == torch.float32 and p.requires_grad for p in function.parameters())
    assert table.table.dtype == torch.float64
    assert table.float()(torch.rand(3, dtype=torch.float32) + 1).dtype == torch.float32
    assert "2 functions from 0.3 to 5" in repr(table)
    chosen = RadialTable(function, CUTOFF, tolerance=1e-3, start=0.3, dtype=torch.float32)
    assert chosen.table.dtype == torch.float32


def test_constants_and_lines_are_exact() -> None:
    table = RadialTable(lambda r: torch.stack([torch.ones_like(r), 2 * r], 1), 4.0)
    assert table.certificate.n_knots == 17
    torch.testing.assert_close(table(torch.tensor([1.3])), torch.tensor([[1.0, 2.6]]))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"`RadialTable\(start=...\)` must be from 0 to below"):
        RadialTable(Radial(1), 1.0, start=1.0)
    for cutoff in (torch.inf, torch.nan, 0.0):
        with pytest.raises(ValueError, match=r"`RadialTable\(cutoff=...\)` must be positive"):
            RadialTable(Radial(1), cutoff)
    with pytest.raises(ValueError, match=r"`RadialTable\(tolerance=...\)` must be above zero"):
        RadialTable(Radial(1), 1.0, tolerance=0.0)
    with pytest.raises(ValueError, match=r"Got values that are not finite at 0. \(Give start=..."):
        RadialTable(Radial(1), CUTOFF)
    with pytest.raises(ValueError, match=r"must be within reach. .* kink"):
        RadialTable(lambda r: (r - 1.2345).abs()[:, None], CUTOFF)
    with pytest.raises(ValueError, match=r"must give shape \(e, q\) for distances \(e,\)"):
        RadialTable(lambda r: r.sin(), CUTOFF)
    with pytest.raises(ValueError, match=r"`spline\(table=...\)` must have three rows per knot"):
        kernels.spline(torch.rand(2), torch.rand(7, 2), 0)
    with pytest.raises(ValueError, match=r"must have shape \(e\)"):
        RadialTable(lambda r: r.sin()[:, None], CUTOFF)(torch.rand(2, 2))
