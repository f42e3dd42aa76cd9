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
