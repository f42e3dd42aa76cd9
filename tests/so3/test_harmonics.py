import math

import e3nn.o3
import pytest
import torch

from tensornet import so3


@pytest.mark.parametrize("normalization", ["component", "integral", "norm"])
def test_agrees_with_e3nn(normalization: str) -> None:
    r = torch.randn(50, 3)
    expected = e3nn.o3.spherical_harmonics(list(range(9)), r, True, normalization)
    torch.testing.assert_close(
        so3.spherical_harmonics(r, 8, normalization=normalization), expected, rtol=0, atol=1e-12
    )


def test_orthonormal_to_high_degree() -> None:
    """Exact quadrature of products of harmonics, beyond the degree 11 of e3nn."""
    import numpy as np

    l_max = 14
    y, w = np.polynomial.legendre.leggauss(l_max + 1)
    phi = 2 * torch.pi * torch.arange(2 * l_max + 1) / (2 * l_max + 1)
    nodes, weights = torch.from_numpy(y), torch.from_numpy(w)
    s = (1 - nodes**2).sqrt()
    points = torch.stack(
        torch.broadcast_tensors(s[:, None] * phi.sin(), nodes[:, None], s[:, None] * phi.cos()), -1
    ).reshape(-1, 3)
    area = (weights[:, None] * torch.full_like(phi, 2 * torch.pi / len(phi))).reshape(-1)
    Y = so3.spherical_harmonics(points, l_max, normalization="integral")
    gram = torch.einsum("q,qi,qj->ij", area, Y, Y)
    torch.testing.assert_close(gram, torch.eye(so3.dim(l_max)), rtol=0, atol=1e-12)


def by_couplings(vectors: torch.Tensor, l_max: int) -> torch.Tensor:
    """The definition by couplings: the part of degree l + 1 in Y_l times r is Y_(l+1)."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    parts = [torch.ones(len(vectors), 1)]
    for l in range(l_max):
        W = so3.wigner_3j(l, 1, l + 1)
        factor = math.sqrt(2 * l + 3) / (math.sqrt(2 * l + 1) * float(W[l, 1, l + 1]))
        parts.append(factor * torch.einsum("ei,ea,iak->ek", parts[-1], unit, W))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("l_max", [1, 2, 3, 7, 12, 16])
def test_agrees_with_couplings_and_so_do_derivatives(l_max: int, dtype: torch.dtype) -> None:
    v = torch.randn(45, 3, dtype=dtype)
    g, h = torch.randn(45, so3.dim(l_max), dtype=dtype), torch.randn(45, 3, dtype=dtype)
    found = []
    for function in (so3.spherical_harmonics, by_couplings):
        kind = dtype if function is so3.spherical_harmonics else torch.float64
        x, cotangent = v.to(kind).requires_grad_(), g.to(kind).requires_grad_()
        y = function(x, l_max)
        (slope,) = torch.autograd.grad((y * cotangent).sum(), x, create_graph=True)
        curve = torch.autograd.grad(slope, (x, cotangent), h.to(kind))
        found.append([y, slope, *curve])
    for got, want in zip(*found, strict=True):
        error = (got.double() - want).abs().max() / want.abs().max()
        assert error < (1e-12 if dtype == torch.float64 else 1e-4)


def test_gradients_to_second_order() -> None:
    r = torch.randn(4, 3, requires_grad=True)

    def function(x: torch.Tensor) -> torch.Tensor:
        return so3.spherical_harmonics(x, 4)

    assert torch.autograd.gradcheck(function, r, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(function, r, rtol=1e-6, atol=1e-8)


def test_on_axes_and_at_zero() -> None:
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).requires_grad_()
    (g,) = torch.autograd.grad(so3.spherical_harmonics(axes, 5).square().sum(), axes)
    assert torch.isfinite(g).all()
    zero = so3.spherical_harmonics(torch.zeros(3), 3)
    assert zero[0] == 1
    assert not zero[1:].any()


def test_derivatives_at_zero_are_zero() -> None:
    r = torch.zeros(3, 3, requires_grad=True)
    weights = torch.randn(3, 16)
    (slope,) = torch.autograd.grad(
        (so3.spherical_harmonics(r, 3) * weights).sum(), r, create_graph=True
    )
    assert torch.equal(slope, torch.zeros(3, 3))
    (curve,) = torch.autograd.grad(slope.square().sum() + slope.sum(), r)
    assert torch.equal(curve, torch.zeros(3, 3))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_a_number_spoils_its_row_only(bad: float) -> None:
    r = torch.randn(40, 3)
    r[7, 1] = bad
    r.requires_grad_()
    y = so3.spherical_harmonics(r, 3)
    assert y[7].isnan().all()
    (slope,) = torch.autograd.grad(y.sum(), r)
    assert slope[7].isnan().all()
    rest = torch.arange(40) != 7
    assert torch.isfinite(y[rest]).all()
    assert torch.isfinite(slope[rest]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_lengths_far_from_one(scale: float, dtype: torch.dtype) -> None:
    r = torch.randn(40, 3, dtype=dtype)
    want = so3.spherical_harmonics(r.double(), 4)
    got = so3.spherical_harmonics(r * scale, 4)
    torch.testing.assert_close(
        got.double(), want, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5
    )
    x, y = (t.requires_grad_() for t in (r * scale, r.double()))
    (slope,) = torch.autograd.grad(so3.spherical_harmonics(x, 4).sum(), x)
    (want,) = torch.autograd.grad(so3.spherical_harmonics(y, 4).sum(), y)
    error = (slope.double() * scale - want).abs().max() / want.abs().max()
    assert error < (1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 17, 33])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_any_number_of_edges_and_threads(n: int, l_max: int) -> None:
    r = torch.randn(n, 3, requires_grad=True)
    g = torch.randn(n, so3.dim(l_max))

    def all_of_it(r: torch.Tensor) -> list[torch.Tensor]:
        y = so3.spherical_harmonics(r, l_max)
        (slope,) = torch.autograd.grad((y * g).sum(), r, create_graph=True)
        return [y, slope, *torch.autograd.grad((slope * r).sum(), r)]

    whole = all_of_it(r)
    for k in range(n):
        torch.testing.assert_close(
            so3.spherical_harmonics(r[k], l_max), whole[0][k], rtol=1e-14, atol=1e-14
        )
    torch.testing.assert_close(whole[0], by_couplings(r, l_max), rtol=1e-12, atol=1e-13)


def test_threads_agree() -> None:
    r = torch.randn(20_011, 3)
    for l_max in (0, 1, 3):
        alone = so3.spherical_harmonics(r, l_max)
        torch.set_num_threads(3)
        try:
            together = so3.spherical_harmonics(r, l_max)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(alone, together)


def test_length_does_not_matter_and_empty_works() -> None:
    r = torch.randn(5, 3)
    torch.testing.assert_close(so3.spherical_harmonics(7 * r, 3), so3.spherical_harmonics(r, 3))
    assert so3.spherical_harmonics(torch.zeros(0, 3), 2).shape == (0, 9)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 3\)"):
        so3.spherical_harmonics(torch.ones(4, 2), 1)
    with pytest.raises(ValueError, match="at least 0"):
        so3.spherical_harmonics(torch.ones(4, 3), -1)
    with pytest.raises(ValueError, match="normalization"):
        so3.spherical_harmonics(torch.ones(4, 3), 1, normalization="schmidt")
    with pytest.raises(TypeError, match=r"spherical_harmonics\(vectors=.*floating"):
        so3.spherical_harmonics(torch.ones(4, 3, dtype=torch.int64), 1)
    with pytest.raises(TypeError, match=r"spherical_harmonics\(vectors=.*torch.Tensor"):
        so3.spherical_harmonics([0.0, 1.0, 0.0], 1)  # type: ignore[arg-type]
    for count in (so3.dim, so3.degrees):
        with pytest.raises(ValueError, match=r"l_max=.* at least 0\. Got -3"):
            count(-3)
