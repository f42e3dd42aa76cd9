"""MACE's symmetric contraction: beside MACE where it is installed, and beside its definition."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tensornet.interop.e3nn.contraction import fast_symmetric_contraction


class Contraction(nn.Module):
    """One irrep of the result: couplings of any kind, contracted one index at a time."""

    def __init__(self, size: int, d: int, correlation: int, elements: int, channels: int) -> None:
        super().__init__()
        self.correlation = correlation
        weights = []
        for order in range(1, correlation + 1):
            n_paths = order + 1
            coupling = torch.randn(size, *[d] * order, n_paths)
            self.register_buffer(f"U_matrix_{order}", coupling if size > 1 else coupling[0])
            weights.append(nn.Parameter(torch.randn(elements, n_paths, channels)))
        self.weights_max = weights.pop()
        self.weights = nn.ParameterList(reversed(weights))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total: Any = 0
        weights = [self.weights_max, *self.weights]
        for order, weight in zip(range(self.correlation, 0, -1), weights, strict=True):
            coupling = getattr(self, f"U_matrix_{order}")
            coupling = coupling if self.U_matrix_1.ndim == 3 else coupling[None]
            total = total + torch.einsum("k...p,epc,ne->nck...", coupling, weight, y)
            total = torch.einsum("nc...i,nci->nc...", total, x)
        return total.flatten(1)  # type: ignore[no-any-return]


class SymmetricContraction(nn.Module):
    """The attributes of MACE's module."""

    def __init__(self, sizes: Sequence[int], orders: Sequence[int]) -> None:
        super().__init__()
        self.irreps_out = "+".join(f"2x{size // 2}e" for size in sizes)
        self.contractions = nn.ModuleList(
            Contraction(size, 4, order, 3, 2) for size, order in zip(sizes, orders, strict=True)
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([part(x, y) for part in self.contractions], -1)


def one_hot(*species: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(species), 3).double()


def close(x: Tensor, want: Tensor) -> None:
    assert x.shape == want.shape
    error = (x - want).abs().max() / want.abs().max().clamp_min(1e-30)
    assert float(error.detach()) < 1e-12


def same(theirs: nn.Module, ours: nn.Module, x: Tensor, y: Tensor) -> None:
    """Results, gradients, and gradients of gradients."""
    x = x.detach().requires_grad_()
    leaves = [x, *(p for p in theirs.parameters() if p.requires_grad)]
    results = [module(x, y) for module in (theirs, ours)]
    close(results[1], results[0])
    g = torch.randn_like(results[0])
    slopes = [
        torch.autograd.grad((r.square() * g).sum(), leaves, create_graph=True) for r in results
    ]
    bent = [torch.autograd.grad(s[0].square().sum(), leaves) for s in slopes]
    for found in (slopes, bent):
        for theirs_, ours_ in zip(*found, strict=True):
            close(ours_, theirs_)


@pytest.mark.parametrize(
    ("sizes", "orders"), [([1], [3]), ([1, 3], [2, 2]), ([3, 1], [1, 3]), ([5], [1]), ([1], [4])]
)
def test_agrees_with_the_definition(sizes: list[int], orders: list[int]) -> None:
    theirs = SymmetricContraction(sizes, orders)
    same(theirs, fast_symmetric_contraction(theirs), torch.randn(5, 2, 4), one_hot(0, 2, 2, 0, 2))


def test_y_may_mix_elements_and_require_gradients() -> None:
    theirs = SymmetricContraction([1, 3], [3, 2])
    ours, x, y = fast_symmetric_contraction(theirs), torch.randn(5, 2, 4), torch.rand(5, 3)
    same(theirs, ours, x, y)
    slopes = [
        torch.autograd.grad(module(x, leaf).square().sum(), leaf)[0]
        for module in (theirs, ours)
        for leaf in [one_hot(0, 1, 2, 2, 0).requires_grad_()]
    ]
    close(slopes[1], slopes[0])


def test_parameters_and_their_names_stay() -> None:
    theirs = SymmetricContraction([1, 3], [3, 2])
    ours = fast_symmetric_contraction(theirs)
    assert [id(p) for p in ours.parameters()] == [id(p) for p in theirs.parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.irreps_out == theirs.irreps_out
    x, y = torch.randn(4, 2, 4), one_hot(0, 1, 1, 2)
    with torch.no_grad():
        ours(x, y)
        optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1)
    theirs(x, y).square().mean().backward()
    optimiser.step()
    with torch.no_grad():
        close(ours(x, y), theirs(x, y))
        for p in theirs.parameters():
            p.data.mul_(0.9)  # as averages of weights are put in
        close(ours(x, y), theirs(x, y))
    other = SymmetricContraction([1, 3], [3, 2])
    for name, buffer in other.named_buffers():
        buffer.copy_(theirs.get_buffer(name))
    ours.load_state_dict(other.state_dict())
    close(ours(x, y), other(x, y))


def test_copies_and_dtypes() -> None:
    theirs = SymmetricContraction([1, 3], [3, 2])
    ours = copy.deepcopy(fast_symmetric_contraction(theirs)).float()
    x, y = torch.randn(4, 2, 4), one_hot(0, 1, 1, 2)
    assert ours(x.float(), y.float()).dtype == torch.float32
    want = theirs(x, y)
    error = (ours(x.float(), y.float()) - want).abs().max() / want.abs().max()
    assert float(error.detach()) < 1e-5
    with pytest.raises(TypeError, match=r"x=...\)` must have the dtype torch.float32"):
        ours(x, y.float())


def test_no_atoms() -> None:
    ours = fast_symmetric_contraction(SymmetricContraction([1, 3], [3, 2]))
    assert ours(torch.randn(0, 2, 4), torch.zeros(0, 3)).shape == (0, 8)


def test_compiles_whole() -> None:
    theirs = SymmetricContraction([1, 3], [2, 2])
    ours, x, y = fast_symmetric_contraction(theirs), torch.randn(4, 2, 4), one_hot(0, 1, 1, 2)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    close(compiled(x, y), theirs(x, y))
    assert compiled(x, y / 2).isnan().all()


def test_refusals() -> None:
    ours = fast_symmetric_contraction(SymmetricContraction([1], [2]))
    with pytest.raises(
        TypeError, match=r"must be a SymmetricContraction of mace-torch. Got Linear"
    ):
        fast_symmetric_contraction(nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"\(x=...\)` must have shape \(3, 2, 4\). Got \(3, 4, 2\)"
    ):
        ours(torch.randn(3, 4, 2), one_hot(0, 1, 2))
    with pytest.raises(ValueError, match=r"\(y=...\)` must have shape \(3, 3\). Got \(3, 2\)"):
        ours(torch.randn(3, 2, 4), one_hot(0, 1, 1)[:, :2])
    with pytest.raises(ValueError, match=r"\(y=...\)` must have shape"):
        ours(torch.randn(3, 2, 4), one_hot(0, 1))


@pytest.mark.parametrize(
    ("l_max", "irreps_out", "correlation", "reduced"),
    [(2, "4x0e+4x1o", 3, False), (1, "4x0e+4x1o+4x2e", 4, True), (3, "4x1o", 2, True),
     (1, "4x0e", 1, False), (1, "4x0o+4x0e", 2, True)],
)  # fmt: skip
def test_agrees_with_mace(l_max: int, irreps_out: str, correlation: int, reduced: bool) -> None:
    torch.serialization.add_safe_globals([slice])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mace = pytest.importorskip("mace.modules.symmetric_contraction")
        o3 = pytest.importorskip("e3nn.o3")
        irreps = o3.Irreps([(4, (l, (-1) ** l)) for l in range(l_max + 1)])
        theirs = mace.SymmetricContraction(
            irreps, o3.Irreps(irreps_out), correlation, num_elements=3, use_reduced_cg=reduced
        )
    x, y = torch.randn(6, 4, (l_max + 1) ** 2), one_hot(0, 1, 1, 2, 0, 0)
    ours = fast_symmetric_contraction(theirs)
    close(ours(x, y), theirs(x, y))
    if correlation > 1:
        same(theirs, ours, x, y)
