"""Training on residuals lowers errors without having seen a solution."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tensornet.models import DiffusionFamily, LordNet
from tensornet.pde import Grid
from tensornet.train import fit_residual


def family(contrast: float = 1.0) -> DiffusionFamily:
    return DiffusionFamily(Grid((12, 12), spacing=1 / 12), contrast=contrast)


def judge(drawn: DiffusionFamily) -> Any:
    inputs = drawn.sample(16, torch.Generator().manual_seed(77))
    exact = LordNet(drawn, blocks=30, hidden=0)(**inputs).detach()

    def check(net: nn.Module) -> dict[str, float]:
        u = net(**inputs).detach()
        return {"error": float((u - exact).norm() / exact.norm())}

    return check


def test_learns_and_repeats() -> None:
    drawn = family()
    check = judge(drawn)
    weights = []
    for _ in range(2):
        net = LordNet(drawn, blocks=2)
        before = check(net)["error"]
        done = fit_residual(net, drawn, power=1.0, steps=40, batch=8, lr=5e-3, check=check)
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(*weights)
    assert check(net)["error"] < 0.8 * before
    assert done.finished
    assert done.n_steps == 40
    assert [line["step"] for line in done.history] == [float(s) for s in range(2, 41, 2)]
    assert done.history[-1]["loss"] < done.history[1]["loss"]
    assert done.message.startswith("40 steps")


def test_plain_is_the_residual_and_preconditioned_is_the_error() -> None:
    drawn = family(0.0)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.share = nn.Parameter(torch.tensor(0.9))

        def forward(self, source: Tensor, **rest: Any) -> Tensor:
            return self.share * drawn.precondition(source)

    for loss, power in (("plain", 1.0), ("preconditioned", 1.0), ("preconditioned", 0.5)):
        done = fit_residual(Scaled(), drawn, loss=loss, power=power, steps=1, lr=0.0)
        assert done.history[0]["loss"] == pytest.approx(0.01, rel=1e-6)


def test_spoiled_model_is_put_back() -> None:
    drawn = family()

    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.ones(1))
            self.calls = 0

        def forward(self, source: Tensor, **rest: Any) -> Tensor:
            self.calls += 1
            return source * self.p * (float("nan") if self.calls == 5 else 1.0)

    model = Breaks()
    done = fit_residual(model, drawn, steps=20, lr=0.1)
    assert not done.finished
    assert done.n_steps == 4
    assert "not finite" in done.message
    assert bool(model.p.isfinite())
    assert not model.training


def test_steps_without_a_gradient_are_told() -> None:
    drawn = family()

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.zeros(1))

        def forward(self, source: Tensor, **rest: Any) -> Tensor:
            return source * self.p.abs().sqrt()

    model = Root()
    done = fit_residual(model, drawn, steps=3)
    assert "3 steps were left out" in done.message
    assert float(model.p.detach()) == 0


def test_time_and_interruption() -> None:
    drawn = family()
    net = LordNet(drawn, blocks=1)
    done = fit_residual(net, drawn, steps=10**6, seconds=0.3)
    assert 0 < done.n_steps < 10**5
    assert len(done.history) >= 1

    def stop(_: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_residual(net, drawn, steps=20, check=stop)
    assert not net.training


def test_refusals() -> None:
    drawn = family()
    with pytest.raises(ValueError, match="loss"):
        fit_residual(nn.Linear(2, 2), drawn, loss="mse")
    with pytest.raises(ValueError, match="at least 1"):
        fit_residual(nn.Linear(2, 2), drawn, steps=0)
    with pytest.raises(ValueError, match="parameters that require"):
        fit_residual(nn.Identity(), drawn)
