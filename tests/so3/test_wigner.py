import e3nn.o3
import pytest
import torch

from tensornet import so3

TRIPLES = [
    (a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(6, a + b) + 1)
]


@pytest.mark.parametrize(("l1", "l2", "l3"), TRIPLES)
def test_agrees_with_e3nn(l1: int, l2: int, l3: int) -> None:
    expected = e3nn.o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    torch.testing.assert_close(so3.wigner_3j(l1, l2, l3), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 1, 3), (4, 3, 2), (6, 6, 6)])
def test_invariant_under_rotations(degrees: tuple[int, int, int]) -> None:
    rotation = e3nn.o3.rand_matrix()
    D = so3.wigner_d(6, rotation)
    blocks = [D[l * l : (l + 1) ** 2, l * l : (l + 1) ** 2] for l in degrees]
    W = so3.wigner_3j(*degrees)
    turned = torch.einsum("ijk,ai,bj,ck->abc", W, *blocks)
    torch.testing.assert_close(turned, W, rtol=0, atol=1e-12)
    torch.testing.assert_close(W.norm(), torch.tensor(1.0), rtol=0, atol=1e-14)


def test_wigner_d_is_a_representation() -> None:
    a, b = e3nn.o3.rand_matrix(2)
    b = -b
    A, B = so3.wigner_d(4, a), so3.wigner_d(4, b)
    torch.testing.assert_close(so3.wigner_d(4, a @ b), A @ B, rtol=0, atol=1e-12)
    torch.testing.assert_close(A @ A.mT, torch.eye(25), rtol=0, atol=1e-12)
    irreps = e3nn.o3.Irreps.spherical_harmonics(4)
    torch.testing.assert_close(B, irreps.D_from_matrix(b), rtol=0, atol=1e-9)


def test_wigner_d_has_derivatives() -> None:
    """By the angle of a rotation about the polar axis, y."""

    def turned(angle: torch.Tensor) -> torch.Tensor:
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        c, s = angle.cos(), angle.sin()
        rows = [torch.stack(row) for row in ((c, zero, s), (zero, one, zero), (-s, zero, c))]
        return so3.wigner_d(2, torch.stack(rows))

    angle = torch.tensor(0.7, requires_grad=True)
    assert torch.autograd.gradcheck(turned, angle, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(turned, angle, rtol=1e-6, atol=1e-8)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="between"):
        so3.wigner_3j(1, 1, 3)
    with pytest.raises(ValueError, match="orthogonal"):
        so3.wigner_d(2, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"wigner_d\(l_max=.* at least 0"):
        so3.wigner_d(-1, torch.eye(3))
    with pytest.raises(TypeError, match=r"wigner_d\(rotation=.*torch.Tensor"):
        so3.wigner_d(1, [[1.0, 0.0, 0.0]])  # type: ignore[arg-type]
