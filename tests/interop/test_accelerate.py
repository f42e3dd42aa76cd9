"""`accelerate` on a small network in the manner of NequIP, written with e3nn alone."""

import copy
import io
import pickle
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.accelerate import accelerate, acceleration, restore
from tensornet.interop.e3nn.instructions import Irreps
from tensornet.kernels import use

import e3nn.nn  # isort: skip
import e3nn.o3  # isort: skip


class Layer(nn.Module):
    """Linear map, product on edges, sum, linear map, self-connection by species, gate."""

    def __init__(self, irreps_in: str, edge: str, scalars: str, gated: str, species: int) -> None:
        super().__init__()
        silu, n_gates = torch.nn.functional.silu, Irreps(gated).num_irreps
        gates = f"{n_gates}x0e" if n_gates else ""
        acts = [silu] * bool(n_gates)
        self.gate = e3nn.nn.Gate(scalars, [silu], gates, acts, gated)
        out = self.gate.irreps_in
        paths: list[tuple[int, int, int, str, bool]] = []
        middle: list[tuple[int, object]] = []
        for i, (mul, one) in enumerate(Irreps(irreps_in)):
            for j, (_, two) in enumerate(Irreps(edge)):
                for three in one * two:
                    if three in out:
                        paths.append((i, j, len(middle), "uvu", True))
                        middle.append((mul, three))
        self.linear_1 = e3nn.o3.Linear(irreps_in, irreps_in)
        self.product = e3nn.o3.TensorProduct(
            irreps_in, edge, Irreps(middle), paths, shared_weights=False, internal_weights=False
        )
        self.radial = e3nn.nn.FullyConnectedNet([4, 6, self.product.weight_numel], silu)
        self.linear_2 = e3nn.o3.Linear(Irreps(middle), out)
        self.skip = e3nn.o3.FullyConnectedTensorProduct(irreps_in, f"{species}x0e", out)

    def forward(self, x: Tensor, kinds: Tensor, y: Tensor, r: Tensor, edges: Tensor) -> Tensor:
        messages = self.product(self.linear_1(x)[edges[0]], y, self.radial(r))
        sums = messages.new_zeros(len(x), messages.shape[1]).index_add(0, edges[1], messages)
        out: Tensor = self.gate(self.linear_2(sums / 3) + self.skip(x, kinds))
        return out


class Network(nn.Module):
    """An energy of positions and species."""

    def __init__(self, parity: bool = False) -> None:
        super().__init__()
        hidden = "5x1o + 3x2e" if parity else "5x1o"
        self.embedding = nn.Embedding(2, 4)
        self.harmonics = e3nn.o3.SphericalHarmonics(
            Irreps.spherical_harmonics(2), normalize=True, normalization="component"
        )
        edge = str(self.harmonics.irreps_out)
        self.layers = nn.ModuleList([Layer("4x0e", edge, "5x0e", hidden, 2)])
        self.layers.append(Layer(f"5x0e + {hidden}", edge, "4x0e", "", 2))
        self.readout = e3nn.o3.Linear("4x0e", "0e")

    def forward(self, positions: Tensor, species: Tensor) -> Tensor:
        n = len(positions)
        edges = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
        edges = edges[:, edges[0] != edges[1]]
        vectors = positions[edges[0]] - positions[edges[1]]
        r, y = vectors.norm(dim=1, keepdim=True), self.harmonics(vectors)
        radial = torch.cat([torch.exp(-((r - c) ** 2)) for c in (0.5, 1.0, 1.5, 2.0)], 1)
        kinds = torch.nn.functional.one_hot(species, 2).to(positions.dtype)
        x = self.embedding(species)
        for layer in self.layers:
            x = layer(x, kinds, y, radial, edges)
        energy: Tensor = self.readout(x).sum()
        return energy


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    positions = torch.randn(7, 3, generator=rng).to(dtype)
    return positions.requires_grad_(), torch.tensor([0, 1, 0, 0, 1, 0, 1])


def results(model: nn.Module, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Energy, forces, and gradients of a loss of both in all parameters."""
    positions, species = inputs(dtype)
    energy = model(positions, species)
    (forces,) = torch.autograd.grad(-energy, positions, create_graph=True)
    loss = energy.square() + forces.square().sum()
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [energy, forces, *(g for g in grads if g is not None)]


def kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def agree(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-10) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert float((x - y).detach().abs().max()) <= tolerance * float(x.detach().abs().max())


@cache
def built(seed: int = 0, parity: bool = False) -> Network:
    """Building takes seconds, copies do not."""
    torch.manual_seed(seed)
    return Network(parity)


@pytest.fixture
def model() -> Network:
    return copy.deepcopy(built())


@pytest.mark.parametrize("parity", [False, True])
def test_energies_forces_and_training_stay(parity: bool) -> None:
    model = copy.deepcopy(built(0, parity))
    before = results(model)
    assert float(before[1].detach().abs().max()) > 1e-3
    assert accelerate(model) is model
    agree(before, results(model))


def test_what_is_swapped_is_told(model: Network) -> None:
    report = acceleration(accelerate(model))
    kinds = {place.name: place.kind for place in report.swapped}
    assert kinds["layers.0.linear_1"] == "Linear"
    assert kinds["layers.1.radial"] == "FullyConnectedNet"
    assert kinds["layers.0.skip"] == "FullyConnectedTensorProduct"
    assert "one matrix per irrep" in str(report)
    assert str(report).startswith(f"{len(report.swapped)} modules swapped")


def test_parameters_are_the_same_objects(model: Network) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {name: id(p) for name, p in model.named_parameters()}
    kept = {name: t.clone() for name, t in model.state_dict().items()}
    accelerate(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert list(model.state_dict()) == list(kept)
    energy = model(*inputs())
    energy.backward()
    optimizer.step()
    assert float(model(*inputs()).detach()) < float(energy.detach())
    model.load_state_dict(kept)
    agree(results(model)[:1], [energy])


def test_state_dicts_go_both_ways(model: Network) -> None:
    other = copy.deepcopy(built())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    third = copy.deepcopy(other)
    accelerate(other).load_state_dict(model.state_dict())
    agree(results(model), results(other))
    third.load_state_dict(other.state_dict())
    agree(results(model), results(third))


def test_restored_is_as_it_was(model: Network) -> None:
    kinds, attributes = [type(m) for m in model.modules()], [set(vars(m)) for m in model.modules()]
    before = results(model)
    restore(accelerate(model))
    assert [type(m) for m in model.modules()] == kinds
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert acceleration(model).swapped == ()
    agree(before, results(model), 0.0)


def test_twice_is_once(model: Network) -> None:
    swapped = acceleration(accelerate(model)).swapped
    before = results(model)
    assert acceleration(accelerate(model)).swapped == swapped
    agree(before, results(model), 0.0)


def test_copies_are_fast_and_apart(model: Network) -> None:
    other = copy.deepcopy(accelerate(model))
    assert acceleration(other).swapped == acceleration(model).swapped
    before = results(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    agree(before, results(model), 0.0)
    assert not torch.allclose(before[1], results(other)[1])


def test_pickles_are_those_of_the_plain_model(model: Network) -> None:
    before = results(model)
    accelerate(model)
    stream = io.BytesIO()
    torch.save(model, stream)
    assert b"interop.e3nn.accel" not in stream.getvalue()
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    assert acceleration(loaded).swapped == ()
    assert [kind(m) for m in loaded.modules()] == [kind(m) for m in restore(model).modules()]
    agree(before, results(loaded))
    assert pickle.loads(pickle.dumps(accelerate(model))) is not model


def test_precision_may_change_afterwards(model: Network) -> None:
    before = results(model)
    accelerate(model).float()
    agree(before, [t.double() for t in results(model, torch.float32)], 1e-3)
    model.double().load_state_dict(restore(copy.deepcopy(model)).state_dict())
    rounded = results(model)
    agree(rounded, results(restore(model)), 1e-6)  # e3nn's own constants stay rounded


def test_rows_of_many_kinds_are_right(model: Network) -> None:
    skip: Any = model.layers[1].skip
    x, kinds = torch.randn(6, 20), torch.randn(6, 2, requires_grad=True)
    before = skip(x, kinds)
    slopes = torch.autograd.grad(before.square().sum(), kinds)
    accelerate(model)
    after = skip(x, kinds)
    agree([before, *slopes], [after, *torch.autograd.grad(after.square().sum(), kinds)])
    agree([before], [skip(x, kinds.detach())])


def test_other_dtypes_are_left(model: Network) -> None:
    with pytest.warns(RuntimeWarning, match="nothing to swap"):
        accelerate(model.bfloat16())
    assert {"bfloat16" in place.said for place in acceleration(model).left} == {True}


def test_what_has_no_kernel_is_left(model: Network) -> None:
    with use("reference"):
        report = acceleration(accelerate(model))
    left = {place.name: place.said for place in report.left}
    assert left["layers.0.product"] == "no kernel for torch.float64 on cpu here"
    assert "layers.0.linear_1" not in left


def test_torchscript_is_left(model: Network) -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.SiLU()))
    both = nn.ModuleList([model, scripted])
    report = acceleration(accelerate(both))
    assert [place.name for place in report.left if "TorchScript" in place.said] == ["1"]
    assert report.swapped


def test_a_wrong_form_is_undone(model: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensornet.interop.e3nn import accelerate_modules

    right = accelerate_modules.matrix
    monkeypatch.setattr(accelerate_modules, "matrix", lambda *a: 1.001 * right(*a))
    before = results(model)
    accelerate(model)
    assert all(place.kind != "Linear" for place in acceleration(model).swapped)
    assert any("differs by" in place.said for place in acceleration(model).left)
    agree(before, results(model))


def test_only_modules_are_taken() -> None:
    with pytest.raises(TypeError, match=r"`accelerate\(model=...\)` must be a torch"):
        accelerate(lambda x: x)  # type: ignore[type-var]
    for bad, error in ((0.0, ValueError), (float("nan"), ValueError), ("1e-6", TypeError)):
        with pytest.raises(error, match=r"`accelerate\(splines=...\)` must be"):
            accelerate(torch.nn.Linear(1, 1), splines=bad)  # type: ignore[arg-type]
