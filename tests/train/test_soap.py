"""SOAP against its definition in plain loops, and what it is for."""

import copy
import math

import pytest
import torch

from tensornet.train.soap import SOAP


def definition(
    w: torch.Tensor, gradients: list[torch.Tensor], lr: float, beta: float, beta2: float, every: int
) -> torch.Tensor:
    """Algorithm 3 of the paper for one matrix, with the eigenvectors it asks for."""
    first = gradients[0]
    left, right = first @ first.T, first.T @ first
    q, p = torch.linalg.eigh(left)[1], torch.linalg.eigh(right)[1]
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients[1:], start=1):
        m = beta * m + (1 - beta) * g
        turned = q.T @ g @ p
        v = beta2 * v + (1 - beta2) * turned**2
        n = (q.T @ m @ p) / (1 - beta**t) / ((v / (1 - beta2**t)).sqrt())
        w = w - lr * q @ n @ p.T
        left = beta2 * left + (1 - beta2) * g @ g.T
        right = beta2 * right + (1 - beta2) * g.T @ g
        if t % every == 0:
            v, q = turn(v, left, q, 0)
            v, p = turn(v, right, p, 1)
    return w


def turn(
    v: torch.Tensor, factor: torch.Tensor, q: torch.Tensor, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of orthogonal iteration, columns by falling Rayleigh quotients."""
    order = torch.argsort(torch.diagonal(q.T @ factor @ q), descending=True)
    return v.index_select(axis, order), torch.linalg.qr((factor @ q)[:, order])[0]


@pytest.mark.parametrize("every", [1, 3])
def test_matrix_as_defined(every: int) -> None:
    torch.manual_seed(0)
    start = torch.randn(4, 4)  # factors of full rank: their eigenvectors are unique
    gradients = [torch.randn(4, 4) for _ in range(8)]
    w = torch.nn.Parameter(start.clone())
    optimizer = SOAP([w], lr=0.1, betas=(0.8, 0.9), every=every)
    for g in gradients:
        w.grad = g
        optimizer.step()
    expected = definition(start, gradients, 0.1, 0.8, 0.9, every)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-6, atol=1e-6)


def test_vectors_are_left_to_adam() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(4))
    theirs = torch.nn.Parameter(ours.detach().clone())
    soap = SOAP([ours], lr=0.1, betas=(0.9, 0.95))
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.95), eps=1e-12)
    ours.grad = torch.ones(4)
    soap.step()  # looks only
    for _ in range(5):
        ours.grad = torch.randn(4)
        theirs.grad = ours.grad
        soap.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_rounding_is_not_enlarged_where_gradients_determine_no_basis() -> None:
    torch.manual_seed(0)
    start, target = torch.randn(12, 7), torch.randn(12, 7)
    inputs = torch.randn(30, 7)

    def path(rounding: float) -> torch.Tensor:
        torch.manual_seed(1)
        w = torch.nn.Parameter(start.clone())
        optimizer = SOAP([w], lr=0.05, every=4)
        for t in range(24):  # of rank one, on inputs that come one by one
            x = inputs[t]
            w.grad = torch.outer((w - target).detach() @ x, x)
            w.grad = w.grad * (1 + rounding * torch.randn(12, 7))
            optimizer.step()
        return w.detach()

    exact = path(0.0)
    assert float((exact - start).norm()) > 1
    for rounding in (1e-16, 1e-15):
        torch.testing.assert_close(path(rounding), exact, rtol=0, atol=1e-6)


def test_knows_no_preferred_basis_of_any_axis() -> None:
    """Turning a weight by orthogonal matrices turns its whole path."""
    torch.manual_seed(0)
    turns = [torch.linalg.qr(torch.randn(d, d))[0] for d in (2, 4, 3)]
    target = torch.randn(2, 4, 3)

    def turned(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("abc,ai,bj,ck->ijk", x, *turns)

    def path(start: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        w = torch.nn.Parameter(start.clone())
        optimizer = SOAP([w], lr=0.05, every=2)
        for _ in range(12):
            w.grad = (w.detach() - goal) ** 1 + 0.3 * (w.detach() - goal).norm() * goal
            optimizer.step()
        return w.detach()

    start = torch.randn(2, 4, 3)
    torch.testing.assert_close(
        path(turned(start), turned(target)), turned(path(start, target)), rtol=1e-6, atol=1e-7
    )
    assert not torch.allclose(path(start, target), start, atol=0.1)


def test_weights_of_one_shape_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    starts = [torch.randn(3, 4) for _ in range(2)]
    gradients = [[torch.randn(3, 4) for _ in range(2)] for _ in range(6)]
    together = [torch.nn.Parameter(x.clone()) for x in starts]
    alone = [torch.nn.Parameter(x.clone()) for x in starts]
    optimizers = [SOAP(together, lr=0.1, every=2), *(SOAP([w], lr=0.1, every=2) for w in alone)]
    for pair in gradients:
        for k, g in enumerate(pair):
            together[k].grad, alone[k].grad = g, g
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_learns_what_is_badly_conditioned_along_no_axis_faster_than_adam() -> None:
    torch.manual_seed(0)
    a = torch.linalg.qr(torch.randn(8, 8))[0] * torch.logspace(0, -2, 8)
    b = torch.linalg.qr(torch.randn(6, 6))[0] * torch.logspace(0, -2, 6)
    losses = {}
    for name in ("soap", "adam"):
        w = torch.nn.Parameter(torch.zeros(8, 6))
        goal = torch.ones(8, 6)
        make = SOAP if name == "soap" else torch.optim.Adam
        optimizer = make([w], lr=0.03)
        for step in range(400):
            for group in optimizer.param_groups:
                group["lr"] = 0.03 * (1 - step / 400) + 1e-5
            optimizer.zero_grad()
            loss = (a.T @ (w - goal) @ b).square().sum()
            loss.backward()
            optimizer.step()
        losses[name] = float(loss.detach())
    assert losses["soap"] < 0.1 * losses["adam"]


def test_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(3, 4) for _ in range(9)]
    whole = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = SOAP([whole], lr=0.1, every=2)
    for k, g in enumerate(gradients):
        whole.grad = g
        optimizer.step()
        if k == 4:
            state, weight = copy.deepcopy(optimizer.state_dict()), whole.detach().clone()
    part = torch.nn.Parameter(weight)
    optimizer = SOAP([part], lr=0.1, every=2)
    optimizer.load_state_dict(state)
    for g in gradients[5:]:
        part.grad = g
        optimizer.step()
    assert torch.equal(part, whole)


def test_zero_scalar_none_and_nan() -> None:
    scalar, unused = torch.nn.Parameter(torch.tensor(1.0)), torch.nn.Parameter(torch.ones(2, 2))
    optimizer = SOAP([scalar, unused], lr=0.1)
    for g in (math.nan, 1.0, 1.0):
        scalar.grad = torch.tensor(g)
        optimizer.step()
    assert scalar.item() == pytest.approx(0.9)
    assert torch.equal(unused, torch.ones(2, 2))
    for _ in range(3):
        unused.grad = torch.zeros(2, 2)
        optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2))


@pytest.mark.parametrize("bad", [{"lr": 0}, {"every": 0}, {"betas": (1.0, 0.9)}])
def test_settings_out_of_range(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"`SOAP\("):
        SOAP([torch.nn.Parameter(torch.ones(2))], **bad)  # type: ignore[arg-type]
