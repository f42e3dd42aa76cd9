"""TensorProductConv: e3nn's product edge by edge, then a sum at receivers."""

import copy
import pickle
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from tensornet import kernels
from tensornet.interop.e3nn import TensorProduct, TensorProductConv

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


pytestmark = pytest.mark.usefixtures("interpreted")


def paths(one: str, two: str, out: str) -> list[tuple[int, int, int, str, bool]]:
    """All paths of mode uvu."""
    return [
        (i, j, k, "uvu", True)
        for i, a in enumerate(o3.Irreps(one))
        for j, b in enumerate(o3.Irreps(two))
        for k, c in enumerate(o3.Irreps(out))
        if c.ir in a.ir * b.ir and c.mul == a.mul
    ]


def expected(product: Any, x: Tensor, sh: Tensor, w: Tensor, edges: Tensor, n: int) -> Tensor:
    """Multiply edge by edge and sum."""
    products: Tensor = product(x[edges[0]], sh, w)
    return products.new_zeros(n, products.shape[1]).index_add(0, edges[1], products)


def inputs(conv: TensorProductConv, n: int = 5, e: int = 13) -> Inputs:
    """Random features, harmonics, weights and edges in no order."""
    sizes = (n, conv.dims[0]), (e, conv.dims[1]), (e, conv.weight_numel)
    x, sh, w = (torch.randn(size, requires_grad=True) for size in sizes)
    return x, sh, w, torch.randint(n, (2, e))


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    """Differ by less than the tolerance, times the size of the numbers."""
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= tolerance * (1e-3 + float(a.abs().max()))


def gradients(out: Tensor, x: tuple[Tensor, ...]) -> list[Tensor]:
    """First derivatives of a number made of `out`, and those of their squares."""
    g = torch.linspace(-1, 1, out.numel()).view_as(out)
    some = torch.autograd.grad((out.square() * g).sum(), x, create_graph=True)
    squares = sum((s.square().sum() for s in some), torch.zeros(()))
    return [*some, *torch.autograd.grad(squares, x)]


@pytest.mark.parametrize(
    ("one", "two", "out"),
    [
        ("4x0e+4x1o", "0e+1o+2e", "4x0e+4x1o+4x1e+4x2e"),  # one group
        ("32x0e+16x1o", "0e+1o+2e", "32x0e+16x1o+16x1e+32x1o"),  # a block in two halves
        ("5x0e+3x1o+2x2e+7x4e", "0e+2x1o+2e", "5x0e+3x1o+5x1o+3x0e+2x2e+2x1o+7x0o"),
        ("1x0e+1x1o", "3x1o", "1x1o+1x1e+1x0e"),
        ("8x2e", "3e", "8x1e+8x3e+8x5e"),
    ],
)
@pytest.mark.parametrize("normalization", ["component", "norm"])
def test_like_e3nn(one: str, two: str, out: str, normalization: str) -> None:
    words: dict[str, Any] = {
        "irrep_normalization": normalization,
        "path_normalization": "element" if normalization == "component" else "path",
        "in1_var": [1.0 + i for i in range(len(o3.Irreps(one)))],
        "out_var": [2.0 + i for i in range(len(o3.Irreps(out)))],
    }
    args = one, two, out, paths(one, two, out)
    theirs = o3.TensorProduct(*args, shared_weights=False, internal_weights=False, **words)
    conv = TensorProductConv(*args, **words)
    assert conv.weight_numel == theirs.weight_numel
    x, sh, w, edges = inputs(conv)
    for made in (conv, TensorProductConv.from_product(theirs)):
        a, b = expected(theirs, x, sh, w, edges, len(x)), made(x, sh, w, edges)
        assert_same(a, b)
        for some, other in zip(gradients(a, (x, sh, w)), gradients(b, (x, sh, w)), strict=True):
            assert_same(some, other)


def test_weights_are_not_copied() -> None:
    args = "32x0e+16x1o", "0e+1o", "32x0e+16x1o+16x0e"
    conv = TensorProductConv(*args, paths(*args))
    assert conv.arranged.identity
    w = torch.randn(3, conv.weight_numel)
    assert conv.arranged(w) is w


def test_paths_without_weights() -> None:
    instructions = [(0, 0, 0, "uvu", True, 3.0), (1, 0, 1, "uvu", False), (0, 0, 0, "uvu", False)]
    args = "5x0e+3x1o", "2x1o", "5x1o+3x0e", instructions
    theirs = o3.TensorProduct(*args, shared_weights=False, internal_weights=False)
    conv = TensorProductConv(*args)
    x, sh, w, edges = inputs(conv)
    assert_same(expected(theirs, x, sh, w, edges, 5), conv(x, sh, w, edges))
    plain = TensorProductConv(*args[:3], instructions[1:2])
    theirs = o3.TensorProduct(*args[:3], instructions[1:2])
    out = theirs(x[edges[0]], sh)
    out = torch.zeros(5, out.shape[1]).index_add(0, edges[1], out)
    assert_same(out, plain(x, sh, None, edges))


@pytest.mark.parametrize("mode", ["uvw", "uuu", "mixed"])
def test_other_modes(mode: str) -> None:
    instructions = {
        "uvw": [(0, 0, 0, "uvw", True), (1, 1, 0, "uvw", True)],
        "uuu": [(0, 0, 1, "uuu", True)],
        "mixed": [(0, 0, 0, "uvw", True), (0, 0, 1, "uvu", True)],
    }[mode]
    args = "2x0e+2x1o", "2x1o+1x0e", "3x1o+2x1o", instructions
    theirs = o3.TensorProduct(*args, shared_weights=False, internal_weights=False)
    conv = TensorProductConv(*args)
    x, sh, w, edges = inputs(conv)
    a, b = expected(theirs, x, sh, w, edges, 5), conv(x, sh, w, edges)
    assert_same(a, b)
    for some, other in zip(gradients(a, (x, sh, w)), gradients(b, (x, sh, w)), strict=True):
        assert_same(some, other)
    edges[0, 3] = 5
    with pytest.raises(IndexError, match=r"senders from 0 to 4 and receivers from 0 to 4"):
        conv(x, sh, w, edges)


ARGS = "3x0e+3x1o", "0e+1o", "3x1o+3x0e"


def test_receivers_may_be_others() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    x, sh, w, edges = inputs(conv, 4, 9)
    edges[1] = torch.randint(7, (9,))
    theirs = o3.TensorProduct(*ARGS, paths(*ARGS), shared_weights=False, internal_weights=False)
    assert_same(expected(theirs, x, sh, w, edges, 7), conv(x, sh, w, edges, n_receivers=7))
    assert torch.equal(conv(x, sh, w, edges.int(), 7), conv(x, sh, w, edges, 7))


def test_edges_in_any_order() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    x, sh, w, edges = inputs(conv)
    order = kernels.receiver_order(edges[1])
    ordered = conv(x, sh[order], w[order], edges[:, order])
    assert_same(ordered, conv(x, sh, w, edges), 1e-14)


def test_no_edges_and_no_nodes() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    for n, e in ((3, 0), (0, 0)):
        x, sh, w, _ = inputs(conv, 1, e)
        out = conv(x.expand(n, -1) if n else x[:0], sh, w, torch.empty(2, 0, dtype=torch.int64))
        assert torch.equal(out, torch.zeros(n, 12))
    with pytest.raises(IndexError, match="senders from 0 to -1"):
        conv(torch.empty(0, 12), torch.ones(1, 4), torch.ones(1, 12), torch.zeros(2, 1).long())
    nothing = TensorProductConv("2x0e", "1o", "2x0e", [])
    assert torch.equal(nothing(*inputs(nothing)), torch.zeros(5, 2))


def test_rows_with_gaps_and_single_precision() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    x, sh, w, edges = (t.detach() for t in inputs(conv))
    exact = conv(x, sh, w, edges)
    wide = [torch.stack([t, t * torch.nan], -1)[..., 0] for t in (x, sh, w)]
    assert torch.equal(conv(*wide, edges), exact)
    single = conv(x.float(), sh.float(), w.float(), edges)
    assert single.dtype == torch.float32
    assert_same(exact, single.double(), 1e-6)


def test_copies() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    given = inputs(conv)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), conv.float().double()):
        assert torch.equal(conv(*given), other(*given))
    assert not conv.state_dict()
    assert (
        repr(conv) == "TensorProductConv(3x0e+3x1o x 1x0e+1x1o -> 3x1o+3x0e | 12 weights per edge)"
    )
    again = TensorProductConv.from_product(TensorProduct(*ARGS, paths(*ARGS)))
    assert_same(conv(*given), again(*given))


def test_equivariance() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    x, sh, w, edges = inputs(conv)
    turn = o3.rand_matrix()
    one, two, out = (o3.Irreps(irreps).D_from_matrix(-turn) for irreps in ARGS)
    assert_same(conv(x, sh, w, edges) @ out.T, conv(x @ one.T, sh @ two.T, w, edges))


def test_bad_input() -> None:
    conv = TensorProductConv(*ARGS, paths(*ARGS))
    x, sh, w, edges = inputs(conv)
    with pytest.raises(ValueError, match=r"weight=.* must have shape \(e, 12\)\. Got none\."):
        conv(x, sh, None, edges)
    with pytest.raises(ValueError, match=r"x=.* must have shape \(n, 12\)\. Got \(5, 11\)\."):
        conv(x[:, 1:], sh, w, edges)
    with pytest.raises(ValueError, match=r"sh=.* must have shape \(e, 4\).*Got \(12, 4\)\."):
        conv(x, sh[1:], w, edges)
    with pytest.raises(ValueError, match=r"weight=.* must have shape \(e, 12\)"):
        conv(x, sh, w[:, 1:], edges)
    with pytest.raises(ValueError, match=r"edge_index=.* must have shape \(2, e\)"):
        conv(x, sh, w, edges.T)
    with pytest.raises(TypeError, match=r"edge_index=.* must hold torch.int64 or torch.int32"):
        conv(x, sh, w, edges.double())
    with pytest.raises(TypeError, match=r"edge_index=.* must hold torch.int64 or .* Got list"):
        conv(x, sh, w, edges.tolist())
    with pytest.raises(TypeError, match=r"sh=.* must have the dtype torch.float64 of `x`"):
        conv(x, sh.float(), w, edges)
    with pytest.raises(ValueError, match=r"n_receivers=.* must be at least 0\. Got -1\."):
        conv(x, sh, w, edges, -1)
    for row, value in ((0, 5), (0, -1), (1, 5), (1, -1)):
        wrong = edges.clone()
        wrong[row, 4] = value
        with pytest.raises(IndexError, match=r"`TensorProductConv\(edge_index=.*senders from 0"):
            conv(x, sh, w, wrong)
    with pytest.raises(ValueError, match=r"`TensorProductConv\(instructions=.*parity"):
        TensorProductConv("2x0e", "1o", "2x1e", [(0, 0, 0, "uvu", True)])
    sh = sh.detach().clone()
    sh[3] = torch.nan
    reached = conv(x, sh, w, edges).isnan().any(1)
    assert reached.nonzero().flatten().tolist() == [int(edges[1, 3])]
