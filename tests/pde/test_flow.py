"""What every flow must do: steps, batches, derivatives, refusals."""

import math
from dataclasses import replace
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

LID: Any = ("wall", ("wall", moving_wall(1.0, 0.0)))
CHANNEL: Any = ((inflow(lambda x, y: 4 * y * (1.05 - y), 0.0), "outflow"), "wall")
SMALL = Grid((6, 7), spacing=(0.2, 0.15))
THREE = moving_wall(torch.ones(3), 0.0)  # numbers that fit no side


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hole() -> Tensor:
    mask = torch.ones(6, 7, dtype=torch.bool)
    mask[2:4, 3:5] = False
    return mask


def small(case: str, **options: Any) -> Flow:
    """One of many flows with few unknowns."""
    options = {"reynolds": 10.0, **options}
    if case in ("cavity", "rings"):
        boundary = LID if case == "cavity" else "periodic"
        stream: Flow = navier_stokes_2d(SMALL, 0.1, boundary=boundary, **options)
        return stream
    if case == "box":
        grid = Grid((4, 5, 4), spacing=(0.2, 0.15, 0.3))
        lid = moving_wall(1.0, 0.5, 0.0)
        return navier_stokes_3d(grid, 0.1, boundary=("periodic", "wall", ("wall", lid)), **options)
    boundary, mask = {
        "lid": (LID, None),
        "channel": (CHANNEL, None),
        "obstacle": (CHANNEL, hole()),
        "slip": (("slip", "periodic"), hole()),
    }[case]
    found: Flow = navier_stokes_2d(
        SMALL, 0.1, boundary=boundary, formulation="velocity", mask=mask, **options
    )
    return found


CASES = ("cavity", "rings", "lid", "channel", "obstacle", "slip", "box")


@pytest.mark.parametrize("case", CASES)
def test_step_makes_the_residual_vanish(case: str) -> None:
    flow = small(case, theta=0.5)
    first = flow.initial("turbulence", seed=5)
    done = flow.step(first, rtol=1e-11)
    assert done.converged, done.message
    zero = flow.residual(torch.zeros_like(first), first).norm()
    assert float(flow.residual(done.value, first).norm() / zero) < 2e-11
    assert float((done.value - first).norm()) > 1e-3
    if isinstance(flow, VelocityFlow | VorticityFlow):
        assert float(flow.divergence(done.value).abs().max()) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_batched_is_as_single(case: str) -> None:
    flow = small(case)
    first = flow.initial("turbulence", batch=(2, 2), seed=1)
    assert first.shape == (2, 2, *flow.state_shape)
    after = flow.step(first).value
    residual, energy = flow.residual(after, first * 0.5), flow.energy(first)
    for k in range(4):
        i, j = divmod(k, 2)
        assert_close(flow.step(first[i, j]).value, after[i, j], rtol=1e-9, atol=1e-9)
        assert_close(flow.residual(after[i, j], first[i, j] * 0.5), residual[i, j])
        assert_close(flow.energy(first[i, j]), energy[i, j])
    assert_close(flow.initial("turbulence", batch=4, seed=1).reshape(first.shape), first)
    assert_close(flow.initial("turbulence", seed=1), first[0, 0])
    assert flow.step(first[:0]).converged


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_the_residual(case: str) -> None:
    flow = small(case, theta=0.6)
    shape = flow.state_shape
    x, y = noise(*shape).requires_grad_(), noise(*shape, seed=4).requires_grad_()
    weight = noise(*shape, seed=5)

    def value(x: Tensor, y: Tensor) -> Tensor:
        return (flow.residual(x, y) * weight).sum()

    fast = case == "box"
    assert torch.autograd.gradcheck(value, (x, y), rtol=1e-6, atol=1e-6, fast_mode=fast)
    assert torch.autograd.gradgradcheck(value, (x, y), rtol=1e-6, atol=1e-6, fast_mode=True)
    pull = torch.autograd.grad((flow.precondition(x) * weight).sum(), x)[0]
    along = noise(*shape, seed=6)
    assert_close((pull * along).sum(), (flow.precondition(along) * weight).sum(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("case", ["cavity", "rings", "lid", "channel", "box"])
def test_precondition_is_near_the_inverse(case: str) -> None:
    """Exact for the stream function, in a periodic box and where walls are far."""
    flow = small(case)
    zero = torch.zeros(flow.state_shape)
    base = flow.residual(zero, zero)
    x = noise(*flow.state_shape)
    if isinstance(flow, VelocityFlow):
        x[-1] -= x[-1].mean()
        drop = torch.cat([flow.free, torch.ones_like(flow.free[:1])]).to(x.dtype)
        x = x * drop
    elif case == "rings":
        x = x - x.mean()
    small_ = 1e-7
    slope = (flow.residual(small_ * x, zero) - base) / small_
    if case == "cavity":  # without what the lid brings in
        still = navier_stokes_2d(SMALL, 0.1, reynolds=10)
        slope = (still.residual(small_ * x, zero) - still.residual(zero, zero)) / small_
    off = float((flow.precondition(slope) - x).norm() / x.norm())
    assert off < (1e-5 if case in ("cavity", "rings") else 0.3)


@pytest.mark.parametrize("case", ["cavity", "lid", "channel", "rings"])
def test_explicit_steps_agree(case: str) -> None:
    """A short time by many explicit steps, and by the midpoint rule."""
    base = small(case)
    short = type(base)(replace(base.case, dt=0.002, theta=0.5))
    first = short.step(short.initial("turbulence", seed=2, speed=0.5)).value
    parts = slice(0, 2) if isinstance(short, VelocityFlow) else slice(None)
    implicit = short.rollout(first, 5, rtol=1e-10)[-1][parts]
    explicit = short.rollout(first, 5, method="explicit")[-1][parts]
    moved = float((implicit - first[parts]).abs().max())
    assert float((implicit - explicit).abs().max()) < 2e-3 * moved


def test_single_precision() -> None:
    for case in CASES:
        flow = small(case, dtype=torch.float32)
        first = flow.initial("turbulence")
        assert first.dtype == torch.float32
        done = flow.step(first, rtol=1e-4)
        assert done.converged, (case, done.message)
        exact = small(case).step(small(case).initial("turbulence")).value
        assert_close(done.value.double(), exact, rtol=0, atol=3e-3 * float(exact.abs().max()))


def make(**changes: Any) -> Flow:
    options: dict[str, Any] = {
        "grid": SMALL, "dt": 0.1, "reynolds": 10.0, "formulation": "velocity", **changes
    }  # fmt: skip
    found: Flow = navier_stokes_2d(**options)
    return found


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"grid": Grid(5, spacing=1.0)}, ValueError, "must have 2 axes. Got 1"),
        ({"grid": Grid((3, 9), spacing=1.0)}, ValueError, "at least 4 cells .* Got 3 along axis 0"),
        ({"grid": (5, 5)}, TypeError, "must be a `Grid`"),
        ({"dt": 0.0}, ValueError, r"dt=...\)` must be positive"),
        ({"dt": math.nan}, ValueError, r"dt=...\)` must be positive"),
        ({"reynolds": -1.0}, ValueError, r"reynolds=...\)` must be positive"),
        ({"viscosity": 1.0}, ValueError, "Got both"),
        ({"reynolds": None}, ValueError, "Got none of them"),
        ({"theta": 1.5}, ValueError, "at most 1. Got 1.5"),
        ({"dtype": torch.float16}, TypeError, "float32 or float64"),
        ({"formulation": "primitive"}, ValueError, "one of vorticity, velocity"),
        ({"boundary": "solid"}, ValueError, "one of wall, slip, outflow, periodic"),
        ({"boundary": ("wall",)}, ValueError, r"one entry per axis \(2\). Got 1"),
        ({"boundary": (("periodic", "wall"), "wall")}, ValueError, "both ends of an axis"),
        ({"boundary": (("outflow", "wall"), "wall")}, ValueError, "upper sides only"),
        ({"boundary": ("wall", moving_wall(1.0))}, ValueError, "2 components. Got 1"),
        ({"boundary": ("wall", moving_wall(0.0, 1.0))}, ValueError, "slide along themselves"),
        ({"boundary": (inflow(1.0, 0.0), "outflow")}, ValueError, "upper sides only"),
        ({"boundary": ((inflow(1.0, 0.0), "wall"), "wall")}, ValueError, "more flowing in"),
        ({"boundary": (inflow(math.nan, 0.0), "wall")}, ValueError, "must be finite"),
        ({"boundary": 3}, TypeError, "must be a word"),
        ({"mask": torch.zeros(6, 7, dtype=torch.bool)}, ValueError, "Got an empty mask"),
        ({"mask": torch.ones(6, 7)}, TypeError, "torch.bool"),
        ({"mask": [True]}, TypeError, "torch.bool"),
        ({"force": (1.0,)}, ValueError, r"one component per axis \(2\). Got 1"),
        ({"force": 1.0}, TypeError, "must be a sequence, one component per axis. Got float"),
        ({"force": (torch.ones(3), 0.0)}, ValueError, r"force=...\)` must have shape \(6, 7\)"),
        ({"boundary": ("wall", THREE)}, ValueError, r"boundary=...\)` must have shape \(6, 1\)"),
        (
            {"boundary": ("wall", THREE), "formulation": "vorticity"},
            ValueError,
            r"boundary=...\)` must have shape \(5\)",
        ),
        ({"formulation": "vorticity", "boundary": CHANNEL}, ValueError, "walls all around"),
        ({"formulation": "vorticity", "mask": hole()}, ValueError, "formulation='velocity'"),
    ],
)
def test_refuses(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make(**changes)


def test_refuses_cells_without_neighbours() -> None:
    mask = torch.ones(6, 7, dtype=torch.bool)
    mask[:2, :2] = False
    mask[0, 0] = True
    with pytest.raises(ValueError, match=r"isolated cells.* first at \(0, 0\)"):
        make(mask=mask)


@pytest.mark.parametrize("case", ["cavity", "channel", "box"])
def test_states_that_make_no_sense(case: str) -> None:
    flow = small(case)
    state = flow.initial("turbulence")
    broken = state.clone()
    broken.reshape(-1)[3] = math.nan
    with pytest.raises(ValueError, match=r"step\(state=...\)` must be finite. Got 1 NaN"):
        flow.step(broken)
    with pytest.raises(TypeError, match=r"must be a tensor of torch.float64. Got torch.float32"):
        flow.residual(state.float(), state)
    with pytest.raises(ValueError, match="must have shape"):
        flow.precondition(state[..., :-1])
    with pytest.raises(ValueError, match=r"residual.* must have batches that broadcast"):
        flow.residual(torch.stack([state] * 2), torch.stack([state] * 3))
    with pytest.raises(ValueError, match=r"step\(start=...\)` must have shape"):
        flow.step(state, start=torch.stack([state] * 2))
    with pytest.raises(TypeError, match=r"rollout\(state=...\)` must be a tensor"):
        flow.rollout([1.0], 2)  # type: ignore[arg-type]
    if isinstance(flow, VelocityFlow | VorticityFlow):
        with pytest.raises(TypeError, match=r"pressure\(state=...\)` must be a tensor"):
            flow.pressure([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of rest, taylor_green, turbulence"):
        flow.initial("vortex")
    if case != "box":
        with pytest.raises(ValueError, match="must be one state"):
            flow.steady(torch.stack([state, state]))
    with pytest.raises(ValueError, match="in a periodic box"):
        flow.initial("taylor_green")
    with pytest.raises(ValueError, match=r"at most .* \|u\| dt / spacing is .* Got 1.00e-01"):
        flow.step(100 * state, method="explicit")


def test_says_what_did_not_converge() -> None:
    flow = small("cavity")
    state = flow.initial("turbulence", batch=2)
    done = flow.step(state, maxiter=1)
    assert not done.converged
    assert "2 of 2 states did not reach" in done.message
    wild = flow.step(1e6 * state, maxiter=30)
    assert not wild.converged
    with pytest.raises(RuntimeError, match="step 1 of 3 failed"):
        flow.rollout(1e6 * state, 3, maxiter=20)
    with pytest.raises(ValueError, match="two dimensions"):
        small("box").steady()


@pytest.mark.parametrize("case", ["cavity", "channel", "obstacle"])
def test_a_device_with_a_number(case: str) -> None:
    flow = small(case, device="cpu:0")
    assert flow.step(flow.initial()).converged  # states say "cpu", as they say "cuda:0" for "cuda"
