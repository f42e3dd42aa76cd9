"""Flows against exact solutions, published tables and their own laws."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tensornet.pde import (
    Flow,
    Grid,
    VelocityFlow,
    VorticityFlow,
    inflow,
    moving_wall,
    navier_stokes_2d,
    navier_stokes_3d,
)
from tensornet.testing.cavity import deviation

LID: Any = ("wall", ("wall", moving_wall(1.0, 0.0)))
SMALL = Grid((6, 7), spacing=(0.2, 0.15))


@pytest.mark.parametrize("formulation", ["vorticity", "velocity"])
@pytest.mark.parametrize("reynolds", [pytest.param(100, marks=pytest.mark.slow), 400])
def test_cavity_of_ghia(formulation: Any, reynolds: int) -> None:
    grid = Grid((64, 64), spacing=1 / 64)
    flow = navier_stokes_2d(grid, 0.1, reynolds=reynolds, boundary=LID, formulation=formulation)
    found = flow.steady()
    assert found.converged, found.message
    off = deviation(flow.centrelines(found.value), reynolds)
    assert off["u"] < 0.01
    assert off["v"] < 0.011
    if isinstance(flow, VorticityFlow) and reynolds == 400:  # as it is in the other formulation
        p = flow.pressure(found.value)
        assert float(p.mean().abs()) < 1e-12
        assert float(p[-1, -1]) > 5 * float(p.std())  # the lid drives into this corner


@pytest.mark.parametrize("formulation", ["vorticity", "velocity"])
def test_cavity_by_richardson(formulation: Any) -> None:
    """Extrema at Re 100, from two grids by extrapolation, as in the literature to 0.2 %."""
    wanted = torch.tensor([-0.21404, 0.17956, -0.25380])
    found = []
    for n in (24, 48):
        grid = Grid((n, n), spacing=1 / n)
        flow = navier_stokes_2d(grid, 0.1, reynolds=100, boundary=LID, formulation=formulation)
        y, u, x, v = flow.centrelines(flow.steady().value)
        found.append(torch.tensor([peak(y, u, -1), peak(x, v, 1), peak(x, v, -1)]))
    best = (4 * found[1] - found[0]) / 3
    assert_close(best, wanted, rtol=2e-3, atol=0)
    assert float((found[0] - wanted).abs().max()) > 2 * float((best - wanted).abs().max())


def peak(x: Tensor, v: Tensor, sign: int) -> float:
    """The largest (1) or smallest (-1) value of a spline."""
    from scipy.interpolate import CubicSpline

    fine = CubicSpline(x.numpy(), sign * v.numpy())(torch.linspace(0, 1, 4001).numpy())
    return float(sign * fine.max())


def vortices(n: int, dt: float, theta: float, formulation: Any) -> tuple[Flow, float]:
    """Taylor and Green's vortices at time 1/2; the flow and the largest relative error."""
    grid = Grid((n, n), spacing=2 * math.pi / n)
    flow = navier_stokes_2d(
        grid, dt, viscosity=0.3, boundary="periodic", theta=theta, formulation=formulation
    )
    first = flow.initial("taylor_green")
    state = flow.rollout(first, round(0.5 / dt), rtol=1e-11)[-1]
    parts = slice(0, 2) if formulation == "velocity" else slice(None)
    exact = first * math.exp(-2 * 0.3 * 0.5)
    return flow, float((state - exact)[parts].abs().max() / exact[parts].abs().max())


@pytest.mark.parametrize("formulation", ["vorticity", "velocity"])
def test_taylor_green_in_space(formulation: Any) -> None:
    errors = [vortices(n, 0.05, 0.5, formulation)[1] for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("theta", "order"), [(1.0, 1), (0.5, 2)])
@pytest.mark.parametrize("formulation", ["vorticity", "velocity"])
def test_taylor_green_in_time(formulation: Any, theta: float, order: int) -> None:
    """Against the decay of the discrete Laplacian, which leaves the error of time alone."""
    n, decay = 8, 2 * 0.3 * (math.sin(math.pi / 8) / (math.pi / 8)) ** 2
    exact = math.exp(-0.5 * decay)
    errors = []
    for dt in (0.1, 0.05, 0.025):
        grid = Grid((n, n), spacing=2 * math.pi / n)
        flow = navier_stokes_2d(
            grid, dt, viscosity=0.3, boundary="periodic", theta=theta, formulation=formulation
        )
        first = flow.initial("taylor_green")
        last = flow.rollout(first, round(0.5 / dt), rtol=1e-11)[-1]
        errors.append(abs(float((flow.energy(last) / flow.energy(first)).sqrt()) - exact))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("axis", [0, 1])
def test_couette_is_exact(axis: int) -> None:
    velocity = [0.0, 0.0]
    velocity[1 - axis] = 2.0
    boundary: list[Any] = ["periodic", "periodic"]
    boundary[axis] = ("wall", moving_wall(*velocity))
    flow = navier_stokes_2d(SMALL, 0.1, reynolds=10, boundary=boundary, formulation="velocity")
    assert isinstance(flow, VelocityFlow)
    state = flow.initial("rest")
    distance = flow.places(1 - axis)[axis]
    state[1 - axis] = 2 * distance / SMALL.lengths[axis]
    assert_close(flow.residual(state, state), torch.zeros_like(state), rtol=0, atol=1e-12)
    assert_close(flow.steady().value[1 - axis], state[1 - axis], rtol=0, atol=1e-9)


def test_poiseuille_is_a_parabola() -> None:
    """The mirrored walls of the grid shift the parabola by a quarter of a squared spacing."""
    n = 8
    grid = Grid((6, n), spacing=1 / n)
    flow = navier_stokes_2d(
        grid, 0.1, viscosity=0.5, boundary=("periodic", "wall"), force=(1.0, 0.0),
        formulation="velocity",
    )  # fmt: skip
    y = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    exact = (y * (1 - y) + 0.25 / n**2) / (2 * 0.5)
    found = flow.steady().value
    assert_close(found[0], exact.expand(6, n), rtol=0, atol=1e-9)
    assert_close(found[1:], torch.zeros(2, 6, n), rtol=0, atol=1e-9)


def test_channel_develops_into_a_parabola() -> None:
    grid = Grid((48, 16), spacing=1 / 16)
    flow = navier_stokes_2d(
        grid, 0.1, viscosity=0.05, boundary=((inflow(1.0, 0.0), "outflow"), "wall"),
        formulation="velocity",
    )  # fmt: skip
    found = flow.steady()
    assert found.converged, found.message
    y = grid.axes()[1]
    shape = y * (1 - y) + 0.25 / 256
    assert_close(found.value[0, -1], shape / shape.mean(), rtol=1e-3, atol=0)
    slope = found.value[2, -1] / (0.5 / 16)  # the pressure is zero half a spacing further
    wanted = 2 * 0.05 / float(shape.mean())
    assert_close(slope, torch.full_like(slope, wanted), rtol=3e-3, atol=0)


def kovasznay(n: int) -> float:
    """Largest error of the velocity."""
    rate = 20 - math.sqrt(400 + 4 * math.pi**2)

    def u(x: Tensor, y: Tensor) -> Tensor:
        return 1 - torch.exp(rate * x) * torch.cos(2 * math.pi * y)

    def v(x: Tensor, y: Tensor) -> Tensor:
        return rate / (2 * math.pi) * torch.exp(rate * x) * torch.sin(2 * math.pi * y)

    grid = Grid((n, n), spacing=1 / n, origin=(-0.5, -0.5))
    flow = navier_stokes_2d(
        grid, 0.1, reynolds=40, boundary=((inflow(u, v), inflow(u, v)), "periodic"),
        formulation="velocity",
    )  # fmt: skip
    assert isinstance(flow, VelocityFlow)
    found = flow.steady()
    assert found.converged, found.message
    errors = [found.value[k] - f(*flow.places(k)) for k, f in enumerate((u, v))]
    return float(torch.stack(errors).square().mean().sqrt())


def test_kovasznay() -> None:
    errors = [kovasznay(n) for n in (16, 32)]
    assert errors[-1] < 0.01
    assert math.log2(errors[0] / errors[1]) > 1.8


def test_vortices_in_three_dimensions() -> None:
    """Brachet's vortices: the energy falls, at first at the rate of the discrete Laplacian."""
    n, nu, dt = 16, 0.05, 0.02
    grid = Grid((n, n, n), spacing=2 * math.pi / n)
    flow = navier_stokes_3d(grid, dt, viscosity=nu, boundary="periodic", theta=0.5)
    states = flow.rollout(flow.initial("taylor_green"), 10, rtol=1e-9)
    energy = flow.energy(states)
    assert_close(energy[0], torch.tensor((2 * math.pi) ** 3 / 8))
    assert bool((energy.diff() < 0).all())
    decay = 6 * nu * (math.sin(math.pi / n) / (math.pi / n)) ** 2
    assert_close(energy[1] / energy[0], torch.tensor(math.exp(-decay * dt)), rtol=1e-6, atol=0)
    # The third component grows from the pressure: d²w/dt² is its first curvature in time.
    w = [float(states[k, 2].abs().max()) for k in (1, 2)]
    pressure = states[1, 3]
    slope = (pressure.roll(-1, 2) - pressure) / grid.spacing[2]
    assert w[0] == pytest.approx(dt * float(slope.abs().max()), rel=0.02)
    assert float(flow.divergence(states).abs().max()) < 1e-8


def series(t: float) -> float:
    """Kinetic energy of inviscid 3D vortices is kept; the enstrophy grows as 1 + 5/48 t² ..."""
    return 1 + 5 / 48 * t**2


@pytest.mark.slow
def test_enstrophy_of_inviscid_vortices() -> None:
    """The short-time series of Taylor and Green: enstrophy 3/8 (1 + 5 t²/48 + ...)."""
    found = []
    for n in (16, 32):
        grid = Grid((n, n, n), spacing=2 * math.pi / n)
        flow = navier_stokes_3d(grid, 0.1, viscosity=1e-9, boundary="periodic", theta=0.5)
        states = flow.rollout(flow.initial("taylor_green"), 5, rtol=1e-7)
        square = flow.vorticity(states).square().sum(-4).mean((-1, -2, -3))
        found.append(float(square[-1] / square[0]))
        assert_close(flow.energy(states[-1]), flow.energy(states[0]), rtol=1e-6, atol=0)
    assert (4 * found[1] - found[0]) / 3 == pytest.approx(series(0.5), rel=3e-3)


@pytest.mark.parametrize("formulation", ["vorticity", "velocity"])
def test_what_advection_keeps(formulation: Any) -> None:
    """The midpoint rule keeps the energy (and for the stream function the enstrophy) exactly."""
    grid = Grid((16, 12), spacing=0.1)
    flow = navier_stokes_2d(
        grid, 0.05, viscosity=1e-14, boundary="periodic", theta=0.5, formulation=formulation
    )
    first = flow.initial("turbulence", seed=4)
    last = flow.rollout(first, 4, rtol=1e-12)[-1]
    assert float((last - first).norm() / first.norm()) > 0.05
    assert_close(flow.energy(last), flow.energy(first), rtol=1e-9, atol=0)
    if isinstance(flow, VorticityFlow):
        assert_close(flow.enstrophy(last), flow.enstrophy(first), rtol=1e-9, atol=0)


def test_formulations_agree_on_derived_fields() -> None:
    grid = Grid((32, 32), spacing=2 * math.pi / 32)
    stream = navier_stokes_2d(grid, 0.1, viscosity=0.1, boundary="periodic")
    faces = navier_stokes_2d(grid, 0.1, viscosity=0.1, boundary="periodic", formulation="velocity")
    psi, state = stream.initial("taylor_green"), faces.initial("taylor_green")
    x, y = torch.meshgrid(*stream.node_axes(), indexing="ij")
    assert_close(stream.vorticity(psi), -2 * x.cos() * y.cos(), rtol=0, atol=0.01)
    assert_close(stream.velocity(psi)[0], x.cos() * y.sin(), rtol=0, atol=0.01)
    assert_close(stream.velocity(psi)[1], -x.sin() * y.cos(), rtol=0, atol=0.01)
    x, y = grid.centers()
    assert_close(faces.vorticity(state), -2 * x.cos() * y.cos(), rtol=0, atol=0.03)
    assert_close(faces.velocity(state)[0], x.cos() * y.sin(), rtol=0, atol=0.01)
    after = faces.step(state).value
    wanted = -((2 * x).cos() + (2 * y).cos()) / 4
    share = float(faces.energy(after) / faces.energy(state))
    assert_close(faces.pressure(after), wanted * share, rtol=0, atol=0.01)
    assert_close(stream.pressure(psi), wanted, rtol=0, atol=0.01)
    assert_close(stream.energy(psi), torch.tensor(math.pi**2), rtol=5e-3, atol=0)
    assert_close(faces.energy(state), torch.tensor(math.pi**2), rtol=1e-12, atol=0)
    assert_close(stream.enstrophy(psi), 2 * stream.energy(psi), rtol=1e-2, atol=0)
    assert_close(stream.from_vorticity(stream.vorticity(psi)), psi)
    assert float(stream.divergence(stream.initial("turbulence")).abs().max()) < 1e-12
