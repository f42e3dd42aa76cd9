"""Networks that step flows: steady states stay, training sees the model's own states."""

import pytest
import torch

from tensornet.models import LordStepper
from tensornet.pde import Grid, moving_wall, navier_stokes_2d, navier_stokes_3d
from tensornet.pde.flow import Flow
from tensornet.train import FlowRollouts, fit_residual

LID = ("wall", ("wall", moving_wall(1.0, 0.0)))


def cavity(n: int = 12, dt: float = 0.2) -> Flow:
    return navier_stokes_2d(Grid((n, n), spacing=1 / n), dt, reynolds=100, boundary=LID)


def cube() -> Flow:
    grid = Grid((6, 5, 4), spacing=(1 / 6, 1 / 5, 1 / 4))
    return navier_stokes_3d(grid, 0.1, reynolds=50)


def spoiled(net: LordStepper) -> LordStepper:
    """Weights that no training would give."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.03 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("kind", ["cavity", "cube"])
def test_without_modules_it_converges_to_the_step(kind: str) -> None:
    flow = cavity() if kind == "cavity" else cube()
    state = flow.initial("turbulence", batch=2, speed=0.3)
    exact = flow.step(state, rtol=1e-12).value
    errors = []
    for blocks in (1, 3, 8):
        with torch.no_grad():
            after = LordStepper(flow, blocks=blocks, rank=0)(state)
        errors.append(float((after - exact).norm() / exact.norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5
    with torch.no_grad():
        assert torch.equal(LordStepper(flow, blocks=3, rank=2)(state),
                           LordStepper(flow, blocks=3, rank=0)(state))  # fmt: skip


def test_one_correction_from_the_definition() -> None:
    flow = cube()
    net = spoiled(LordStepper(flow, blocks=1, rank=3))
    state, previous = flow.initial("turbulence", batch=2, speed=0.3)
    start = state + net.extrapolation * (state - previous)
    force = -flow.precondition(flow.residual(start, state))
    with torch.no_grad():
        want = start + force + net.inverses[0](force)
        assert torch.allclose(net(state, previous), want)
        both = net(torch.stack([state] * 2), torch.stack([previous] * 2))
    assert torch.allclose(both[1], want)


def test_steady_states_stay() -> None:
    flow = cavity(dt=1.0)
    steady = flow.steady(rtol=1e-12).value
    net = spoiled(LordStepper(flow, blocks=2, rank=2))
    with torch.no_grad():
        assert torch.allclose(net(steady, steady), steady, atol=1e-10)
    net = LordStepper(flow, blocks=3, rank=2)
    assert torch.allclose(net.rollout(flow.initial(), 60), steady, atol=1e-4)


@pytest.mark.parametrize("kind", ["cavity", "cube"])
def test_training_lowers_the_residual(kind: str) -> None:
    flow = cavity(dt=0.5)
    if kind == "cube":
        lid = ("wall", "wall", ("wall", moving_wall(1.0, 0.0, 0.0)))
        grid = Grid((6, 5, 4), spacing=(1 / 6, 1 / 5, 1 / 4))
        flow = navier_stokes_3d(grid, 0.5, reynolds=50, boundary=lid)
    net = LordStepper(flow, blocks=2, rank=2)
    rollouts = FlowRollouts(flow, flow.initial(batch=1), size=6, horizon=4)
    done = fit_residual(net, rollouts, power=1.0, steps=50, batch=3, lr=1e-2, records=5)
    sizes = []
    for model in (LordStepper(flow, blocks=2, rank=0), net):
        states = [flow.initial()]
        with torch.no_grad():
            for _ in range(4):
                states.append(model(states[-1], states[-2] if len(states) > 1 else None))
        found = flow.precondition(flow.residual(torch.stack(states[1:]), torch.stack(states[:-1])))
        sizes.append(float(found.norm()))
    assert sizes[1] < 0.85 * sizes[0]
    assert done.finished
    assert int(rollouts.ages.max()) < 4


def test_buffer_begins_anew() -> None:
    flow = cavity(8)
    initial = flow.initial("turbulence", batch=2, speed=0.1)
    rollouts = FlowRollouts(flow, initial, size=4, horizon=3, bound=10.0)
    generator = torch.Generator().manual_seed(0)
    for age in (1, 2, 0):
        inputs = rollouts.sample(4, generator)
        rollouts.keep(inputs["state"] * 1.1)
        assert rollouts.ages.tolist() == [age] * 4
    rollouts.sample(4, generator)
    rollouts.keep(torch.full((4, 7, 7), float("nan")))
    assert bool(rollouts.states.isfinite().all())
    rollouts.sample(2, generator)
    rollouts.keep(torch.full((2, 7, 7), 11.0))
    assert float(rollouts.states.abs().max()) < 1
    assert rollouts.ages.tolist() == [0] * 4


def test_refusals() -> None:
    flow = cavity(8)
    with pytest.raises(TypeError, match="flow of `pde`"):
        LordStepper(torch.nn.Identity())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(n, 7, 7\)"):
        FlowRollouts(flow, flow.initial())
    with pytest.raises(ValueError, match="finite"):
        FlowRollouts(flow, flow.initial(batch=2) * float("nan"))
    with pytest.raises(ValueError, match=r"bound=...\)` must be a finite number"):
        FlowRollouts(flow, flow.initial(batch=2), bound=float("nan"))
    rollouts = FlowRollouts(flow, flow.initial("turbulence", batch=2), size=16)
    with pytest.raises(ValueError, match="16 entries"):
        fit_residual(LordStepper(flow), rollouts, power=1.0, steps=1, batch=17)
    with pytest.raises(ValueError, match="must be 1 for flows"):
        fit_residual(LordStepper(flow), rollouts, power=0.5, steps=1)
    with pytest.raises(ValueError, match="after 1 steps"):
        LordStepper(flow, blocks=1).rollout(flow.initial() + 1e200, 5)
