"""All gradients of the edge convolution in one pass, and the derivatives of those."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.kernels.convolution import cpu_gradients, vjps
from tensornet.products import ClebschGordanProduct
from tensornet.products.coupling import block

edge_convolution: Any = kernels.edge_convolution  # called with lists of arguments
edge_curvatures: Any = kernels.edge_curvatures
edge_harmonics: Any = kernels.edge_harmonics
edge_slopes: Any = kernels.edge_slopes
edge_weights: Any = kernels.edge_weights
N_X, N_G = 9, 7


def scene(l_max: int, channels: int, edges: int = 45) -> tuple[list[Tensor], list[Tensor]]:
    """Arguments x, y, w, g; and the ends of the edges and the coupling. Node 3 has no edges."""
    product = ClebschGordanProduct(l_max, "path", odd_paths=l_max < 3)
    blocks = torch.zeros(len(product.paths()), *(product.dim,) * 3)
    for p, path in enumerate(product.paths()):
        blocks[p][block(path)] = product.target()[block(path)]
    receiver = torch.randint(N_G, (edges,))
    receiver[receiver == 3] = 4
    sender = torch.randint(N_X, (edges,))
    sender[sender == 3] = 5
    at = [
        torch.randn(N_X, product.dim, channels),
        torch.randn(edges, product.dim),
        torch.randn(edges, len(blocks), channels),
        torch.randn(N_G, product.dim, channels),
    ]
    return at, [sender, receiver, *kernels.sparse_coupling(blocks)]


def close(got: Any, want: Any) -> None:
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() <= 1e-12 * y.abs().max()


def single_slopes(at: list[Tensor], rest: list[Tensor]) -> list[Tensor]:
    x, y, w, g = at
    sender, receiver, i, j, k, p, values = rest
    back = (receiver, sender, k, j, i, p, values)
    return [
        edge_convolution(g, y, w, *back, x.shape[0], x.shape[1]),
        edge_harmonics(x, w, g, *rest, y.shape[1]),
        edge_weights(x, y, g, *rest, w.shape[1]),
    ]


@pytest.mark.parametrize("channels", [1, 3, 13, 16, 33])
@pytest.mark.parametrize("l_max", [0, 1, 2, 4])
def test_one_pass_gives_what_single_kernels_give(l_max: int, channels: int) -> None:
    at, rest = scene(l_max, channels)
    x, *_, g = at
    got = edge_slopes(*at, *rest)
    close(got, single_slopes(at, rest))
    assert torch.equal(got[0][3], torch.zeros_like(x[3]))
    h = [torch.randn_like(t) for t in at[:3]]
    first, second, third = (
        single_slopes([*at[:k], h[k], *at[k + 1 :]], rest) for k in range(3)
    )  # fmt: skip
    ends = [*rest, *g.shape[:2]]
    values = [
        edge_convolution(*[*at[:k], h[k], *at[k + 1 : 3]], *ends) for k in range(3)
    ]  # fmt: skip
    want = second[0] + third[0], first[1] + third[1], first[2] + second[2], sum(values)
    got = edge_curvatures(*at, *h, *rest)
    close(got, want)
    assert torch.equal(got[3][3], torch.zeros_like(g[3]))


def test_a_coupling_without_symmetry() -> None:
    """Paths of no numbers, of more components than registers, numbers at the same place."""
    at, rest = scene(2, 17, edges=90)
    x, _, _, g = at
    y, w = torch.randn(90, 11), torch.randn(90, 4, 17)
    i, j, k = (torch.randint(n, (150,)) for n in (9, 11, 9))
    p = torch.tensor([0, 1, 3])[torch.randint(3, (150,))]
    rest = [rest[0], rest[1] % 2, i, j, k, p, torch.randn(150)]
    at = [x, y, w, g]
    h = [torch.randn_like(t) for t in at[:3]]
    got = edge_slopes(*at, *rest)
    assert not got[2][:, 2].any()
    close(got, edge_slopes.reference(*at, *rest))
    close(edge_curvatures(*at, *h, *rest), edge_curvatures.reference(*at, *h, *rest))


def test_a_path_in_two_chunks_of_few_rows() -> None:
    """Two components share a column, the third stands alone; channels are two vectors."""
    at, rest = scene(1, 16)
    rest = [*rest[:2], *(torch.tensor(t) for t in ([0, 0, 1], [0, 1, 2], [2, 1, 0], [0, 0, 0]))]
    rest.append(torch.randn(3))
    h = [torch.randn_like(t) for t in at[:3]]
    close(edge_slopes(*at, *rest), edge_slopes.reference(*at, *rest))
    close(edge_curvatures(*at, *h, *rest), edge_curvatures.reference(*at, *h, *rest))


@pytest.mark.parametrize(("l_max", "edges"), [(1, 1000), (2, 400)])
def test_results_that_no_cache_would_keep(l_max: int, edges: int) -> None:
    at, rest = scene(l_max, 64, edges=edges)
    assert at[2].nbytes > cpu_gradients._PAST
    close(edge_slopes(*at, *rest), single_slopes(at, rest))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads(n_threads: int) -> None:
    """Sums at senders are ordered by part, everything else does not see threads."""
    at, rest = scene(2, 16, edges=4000)
    h = [torch.randn_like(t) for t in at[:3]]
    calls: list[Callable[[], tuple[Tensor, ...]]] = [
        lambda: edge_slopes(*at, *rest),
        lambda: edge_curvatures(*at, *h, *rest),
    ]
    alone = [call() for call in calls]
    torch.set_num_threads(n_threads)
    together, again = ([call() for call in calls] for _ in range(2))
    for one, many, same in zip(alone, together, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(many, same, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one[1:], many[1:], strict=True))
        assert not torch.equal(one[0], many[0])  # parts were summed apart
        close(one[:1], many[:1])


def test_order_of_edges() -> None:
    at, rest = scene(2, 5)
    x, y, w, g = at
    sender, receiver, *coupling = rest
    order = kernels.receiver_order(receiver)
    sorted_ = [x, y[order], w[order], g, sender[order], receiver[order], *coupling]
    gx, gy, gw = edge_slopes(*at, *rest)
    for got, want in zip(edge_slopes(*sorted_), (gx, gy[order], gw[order]), strict=True):
        assert torch.equal(got, want)


def test_no_edges_and_no_cotangent() -> None:
    at, rest = scene(1, 3, edges=0)
    assert [t.shape for t in edge_slopes(*at, *rest)] == [t.shape for t in at[:3]]
    assert all(not t.any() for t in edge_slopes(*at, *rest))
    assert all(not t.any() for t in edge_curvatures(*at, *at[:3], *rest))


@pytest.mark.parametrize(
    ("place", "name"),
    [(0, "sender"), (1, "receiver"), (2, "at_i"), (3, "at_j"), (4, "at_k"), (5, "at_p")],
)
@pytest.mark.parametrize("bad", [-1, 99])
def test_an_index_that_is_out_of_range_is_named(place: int, name: str, bad: int) -> None:
    at, rest = scene(1, 2)
    rest[place] = rest[place].clone()
    rest[place][1] = bad
    with pytest.raises(IndexError, match=rf"`edge_slopes\({name}=...\)` must be from 0 to"):
        edge_slopes(*at, *rest)
    with pytest.raises(IndexError, match=rf"`edge_curvatures\({name}=...\)` must be from 0 to"):
        edge_curvatures(*at, *at[:3], *rest)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that derivatives call from here on."""
    names: list[str] = []

    def spy(kernel: Any) -> Any:
        def run(*args: Any) -> Any:
            names.append(kernel.name)
            return kernel(*args)

        return run

    for kernel in (edge_convolution, edge_weights, edge_harmonics, edge_slopes, edge_curvatures):
        monkeypatch.setattr(vjps, kernel.name, spy(kernel))
    return names


def test_which_kernels_a_gradient_takes(ran: list[str]) -> None:
    at, rest = scene(1, 2)
    x, y, w, g = (t.requires_grad_() for t in at)
    ends = [*rest, *g.shape[:2]]
    out = edge_convolution(x, y, w, *ends)
    slopes = torch.autograd.grad(out, at[:3], g, create_graph=True)
    assert ran == ["edge_slopes"]
    torch.autograd.grad(slopes, at, [x, y, w], retain_graph=True)
    assert ran[1:] == ["edge_curvatures"]
    torch.autograd.grad(slopes[1:], at, [y, w], retain_graph=True)
    assert ran[2:] == ["edge_curvatures"]
    got = torch.autograd.grad(slopes[1], at, y, retain_graph=True, allow_unused=True)
    assert ran[3:] == ["edge_slopes", "edge_convolution"]
    assert got[1] is None
    zero = torch.zeros_like
    want = edge_curvatures(*at, zero(x), y, zero(w), *rest)
    close([got[0], *got[2:]], [want[0], *want[2:]])
    ran.clear()
    for k, name in enumerate(["edge_convolution", "edge_harmonics", "edge_weights"]):
        inputs = [t.detach() for t in at[:3]]
        inputs[k].requires_grad_()
        edge_convolution(*inputs, *ends).sum().backward()
        assert ran[k:] == [name]


def tiny() -> tuple[list[Tensor], list[Any]]:
    x, y, w, *rest = edge_convolution.inputs("two edges", torch.float64, 3)
    return [t.requires_grad_() for t in (x, y, w)], rest


def test_third_order() -> None:
    leaves, rest = tiny()

    def first(*leaves: Tensor) -> tuple[Tensor, ...]:
        out = edge_convolution(*leaves, *rest)
        return torch.autograd.grad(out.pow(3).sum(), leaves, create_graph=True)

    assert torch.autograd.gradcheck(first, leaves, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(first, leaves, rtol=1e-6, atol=1e-8)


def test_the_hessian_is_symmetric() -> None:
    leaves, rest = tiny()
    flat = torch.cat([t.detach().flatten() for t in leaves])

    def energy(flat: Tensor) -> Tensor:
        parts = flat.split([t.numel() for t in leaves])
        at = [p.view(t.shape) for p, t in zip(parts, leaves, strict=True)]
        out: Tensor = edge_convolution(*at, *rest).pow(3).sum()
        return out

    def gradient(flat: Tensor) -> Tensor:
        return torch.autograd.grad(energy(flat), flat, create_graph=True)[0]

    variable = flat.clone().requires_grad_()
    slope = gradient(variable)
    rows = [torch.autograd.grad(s, variable, retain_graph=True)[0] for s in slope]
    hessian = torch.stack(rows)
    assert hessian.abs().max() > 0.01
    assert (hessian - hessian.mT).abs().max() <= 1e-12 * hessian.abs().max()


def test_gradients_in_the_values_of_the_coupling() -> None:
    inputs = edge_slopes.inputs("two nodes", torch.float64, 5)
    values = inputs[-1].requires_grad_()
    for kernel in (edge_slopes, edge_curvatures):
        inputs = kernel.inputs("two nodes", torch.float64, 5)

        def run(values: Tensor, kernel: Any = kernel, inputs: Any = inputs) -> Any:
            return kernel(*inputs[:-1], values)

        assert torch.autograd.gradcheck(run, values, rtol=1e-6, atol=1e-8)
