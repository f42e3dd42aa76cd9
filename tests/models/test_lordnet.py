"""LordNet solves diffusion problems, and its family is `pde.poisson` in batches."""

from pathlib import Path

import pytest
import torch

from tensornet.models import (
    DiffusionFamily,
    LordNet,
    ModelFileError,
    load_lordnet,
    save_lordnet,
)
from tensornet.pde import Grid, dirichlet, neumann, poisson

SIDES = [
    ("dirichlet", 2),
    (dirichlet(at="center"), 1),
    (("neumann", ("neumann", "dirichlet")), 2),
    (("periodic", "dirichlet", ("dirichlet", "neumann")), 3),
]


def family(shape: tuple[int, ...] = (9, 8), **settings: object) -> DiffusionFamily:
    grid = Grid(shape, spacing=[1 / n for n in shape], origin=0.5)
    return DiffusionFamily(grid, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sides", "dim"), SIDES)
def test_family_is_poisson_in_batches(sides: object, dim: int) -> None:
    drawn = family((5, 4, 6)[:dim], boundary=sides, contrast=1.0, held=0.7)
    inputs = drawn.sample(3, torch.Generator().manual_seed(1))
    u = torch.randn(3, *drawn.shape)
    got = drawn.residual(u, **inputs)
    diagonal = drawn.operator(inputs["coefficient"]).diagonal()
    for b in range(3):
        made: list[object] = []
        for axis, pair in enumerate(drawn.domain.sides):
            values = inputs["boundary"][2 * axis : 2 * axis + 2]
            if pair[0].kind == "periodic":
                made.append("periodic")
                continue
            kinds = zip(pair, values, strict=True)
            made.append(
                tuple(
                    dirichlet(v[b], at=s.at) if s.kind == "dirichlet" else neumann(v[b])
                    for s, v in kinds
                )
            )
        problem = poisson(
            drawn.grid,
            boundary=made,  # type: ignore[arg-type]
            source=inputs["source"][b],
            coefficient=inputs["coefficient"][b],
        )
        want = problem.embed(problem.residual(problem.restrict(u[b])))
        assert torch.allclose(got[b], want, atol=1e-9)
        assert torch.allclose(diagonal[b], problem.embed(problem.operator.diagonal()))


def test_draws() -> None:
    drawn = family((64, 64), contrast=0.8, length=0.15, smoothness=1.0, held=2.0)
    inputs = drawn.sample(200, torch.Generator().manual_seed(0))
    logs = inputs["coefficient"].log()
    assert float(logs.std()) == pytest.approx(0.8, rel=0.05)
    assert float(logs.std(0).std() / logs.std(0).mean()) < 0.08  # the same everywhere
    lag = (logs[:, :, 10:] * logs[:, :, :-10]).mean() / logs.square().mean()
    assert 0.3 < float(lag) < 0.95
    assert float(inputs["boundary"][0].std()) == pytest.approx(2, rel=0.15)
    assert float(inputs["source"].square().mean()) == pytest.approx(1)
    rough = (inputs["source"][:, 1:] - inputs["source"][:, :-1]).square().mean()
    assert float(rough) < 0.05
    again = drawn.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(again["source"], inputs["source"])


@pytest.mark.parametrize("shape", [(7,), (9, 8), (5, 4, 6)], ids=str)
def test_constant_coefficient_is_exact(shape: tuple[int, ...]) -> None:
    drawn = family(shape, held=1.0)
    inputs = drawn.sample(2, torch.Generator().manual_seed(0))
    net = LordNet(drawn, blocks=1, hidden=4)
    u = net(inputs["source"], boundary=inputs["boundary"])
    assert float(drawn.residual(u, **inputs).detach().abs().max()) < 1e-9
    k = torch.full(shape, 3.0)  # a constant other than one
    assert torch.allclose(3 * net(inputs["source"], k), net(inputs["source"]))


def test_rank_is_the_error() -> None:
    drawn = family((32, 32))
    f = drawn.sample(20, torch.Generator().manual_seed(0))["source"]
    exact = drawn.precondition(f)
    with torch.no_grad():
        for rank, least, most in ((2, 3e-3, 0.2), (8, 1e-8, 1e-4)):
            net = LordNet(drawn, blocks=1, rank=rank, hidden=0)
            error = float((net(f) - exact).norm() / exact.norm())
            assert least < error < most
            assert net.n_parameters == rank * (2 * 32**2 + 2) + 1


def test_exact_steps_are_conjugate_gradients() -> None:
    drawn = family((8, 7), contrast=1.0)
    inputs = drawn.sample(1, torch.Generator().manual_seed(2))
    A = poisson(drawn.grid, coefficient=inputs["coefficient"][0]).operator
    root = inputs["coefficient"].rsqrt()
    f = inputs["source"]
    M = torch.stack([  # the scaled box, as a matrix
        (root * drawn.precondition(root * e.reshape(1, 8, 7))).flatten() for e in torch.eye(56)
    ])  # fmt: skip
    krylov = [M @ f.flatten()]
    for _ in range(2):
        krylov.append(M @ A(krylov[-1]))
    Q = torch.linalg.qr(torch.stack(krylov, 1)).Q
    best = Q @ torch.linalg.solve(Q.mT @ A.to_dense() @ Q, Q.mT @ f.flatten())
    with torch.no_grad():
        got = LordNet(drawn, blocks=3)(f, inputs["coefficient"])
    assert torch.allclose(got.flatten(), best, rtol=1e-6, atol=1e-9)


def test_never_worse_in_energy() -> None:
    drawn = family((8, 8), contrast=1.5, held=1.0)
    inputs = drawn.sample(5, torch.Generator().manual_seed(0))
    A = drawn.operator(inputs["coefficient"])
    b = inputs["source"] + A.load(inputs["boundary"])
    net = LordNet(drawn, blocks=4, channels=2, start="random")
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
        energies = []
        for blocks in range(1, 5):
            net.inverses = net.inverses[:blocks]
            part = LordNet(drawn, blocks=blocks, channels=2, start="random")
            part.inverses, part.condition = net.inverses, None
            u = part(**inputs)
            energies.append((0.5 * u * A(u) - u * b).sum((1, 2)))
            net = LordNet(drawn, blocks=4, channels=2, start="random")
    for low, high in zip(energies[1:], energies[:-1], strict=True):
        assert bool((low <= high + 1e-9).all())


@pytest.mark.parametrize("steps", ["exact", "learned"])
@pytest.mark.parametrize("rank", [None, 2])
def test_batches_and_gradients(steps: str, rank: int | None) -> None:
    drawn = family((4, 5), contrast=0.5, held=1.0)
    net = LordNet(drawn, blocks=2, channels=2, rank=rank, hidden=3, steps=steps, seed=3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    inputs = drawn.sample(6, torch.Generator().manual_seed(0))
    f, k, held = inputs["source"], inputs["coefficient"], inputs["boundary"]
    whole = net(f, k, held)
    one = net(f[2], k[2], [v[2] for v in held])
    assert torch.allclose(one, whole[2])
    folded = net(f.reshape(2, 3, 4, 5), k[0], [v.reshape(2, 3, -1) for v in held])
    assert torch.allclose(folded[0, 0], whole[0])
    assert net(f[:0], k[:0]).shape == (0, 4, 5)
    assert torch.autograd.gradcheck(
        lambda f, k: net(f, k), (f[:1].requires_grad_(), k[:1].requires_grad_()), rtol=1e-6
    )
    whole.square().sum().backward()
    unused = () if steps == "learned" else ("steps",)
    for name, p in net.named_parameters():
        assert (p.grad is None) == (name in unused), name


def test_files(tmp_path: Path) -> None:
    drawn = family((6, 5), boundary=("periodic", ("dirichlet", "neumann")), contrast=1.0)
    net = LordNet(drawn, blocks=2, rank=3, hidden=2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1)
    path = tmp_path / "net.safetensors"
    save_lordnet(net, path, provenance={"steps": 7})
    again = load_lordnet(path)
    inputs = drawn.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(again(**inputs), net(**inputs))
    assert again.provenance == {"steps": 7}
    save_lordnet(again, tmp_path / "copy.safetensors")
    assert load_lordnet(tmp_path / "copy.safetensors").provenance == {"steps": 7}
    assert again.family.config() == drawn.config()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="must be a whole LordNet file"):
        load_lordnet(path)
    with pytest.raises(FileNotFoundError):
        load_lordnet(tmp_path / "other")
    with torch.no_grad():
        net.steps[0] = float("nan")
    save_lordnet(net, path)
    with pytest.raises(ModelFileError, match="`steps`"):
        load_lordnet(path)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="hold a value somewhere"):
        family(boundary="neumann")
    drawn = family()
    net = LordNet(drawn, blocks=1)
    f = torch.ones(9, 8)
    with pytest.raises(ValueError, match="built into the network"):
        net(torch.ones(8, 8))
    with pytest.raises(ValueError, match=r"positive and finite. Got -1\.0"):
        net(f, -f)
    with pytest.raises(ValueError, match="be finite"):
        net(f * float("nan"))
    with pytest.raises(TypeError, match="float64"):
        net(f.float())
    with pytest.raises(ValueError, match=r"two sides per axis \(4\)"):
        net(f, boundary=[None])
    with pytest.raises(ValueError, match=r"\(\.\.\., 8\) across axis 0"):
        net(f, boundary=[f[:, 0], None, None, None])
    with pytest.raises(ValueError, match=r"`LordNet\(boundary=...\)` must be finite"):
        net(f, boundary=[float("nan") * f[0], None, None, None])
    with pytest.raises(TypeError, match=r"`LordNet\(boundary=...\)` must be a tensor of .*float64"):
        net(f, boundary=[f[0].float(), None, None, None])
    with pytest.raises(
        ValueError, match=r"the batch of the source, \(\), or none. Got .* \(3, 8\)"
    ):
        net(f, boundary=[torch.ones(3, 8), None, None, None])
    with pytest.raises(ValueError, match=r"count=...\)` must be at least 1. Got 0"):
        drawn.sample(0, torch.Generator())
    with pytest.raises(TypeError, match="DiffusionFamily"):
        LordNet(Grid((3, 3), spacing=1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps"):
        LordNet(drawn, steps="guessed")
