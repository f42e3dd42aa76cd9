"""Features in e3nn's order and in ours."""

import pytest
import torch
from e3nn import o3

from tensornet.interop.e3nn import from_e3nn, to_e3nn
from tensornet.products import ClebschGordanProduct
from tensornet.so3 import wigner_d


@pytest.mark.parametrize("irreps", ["3x0e", "3x0e+3x1o+3x2e", "5x0o+5x1o"])
def test_there_and_back(irreps: str) -> None:
    x = torch.randn(2, 7, o3.Irreps(irreps).dim)
    features = from_e3nn(x, irreps)
    assert torch.equal(to_e3nn(features, irreps), x)
    assert torch.equal(to_e3nn(features), x)
    for l, (mul, ir) in enumerate(o3.Irreps(irreps)):
        part = x[..., mul * l * l : mul * (l + 1) ** 2].unflatten(-1, (mul, ir.dim))
        for m in range(ir.dim):
            assert torch.equal(features[..., l * l + m, :], part[..., m])


def test_rotations_are_the_same() -> None:
    irreps = o3.Irreps("2x0e+2x1o+2x2e")
    turn, x = o3.rand_matrix(), torch.randn(4, irreps.dim)
    turned = from_e3nn(x @ irreps.D_from_matrix(turn).T, irreps)
    assert torch.allclose(turned, wigner_d(2, turn) @ from_e3nn(x, irreps), rtol=1e-12, atol=1e-12)


def test_products_are_the_same() -> None:
    irreps = o3.Irreps("3x0e+3x1e+3x2e")
    x, y = torch.randn(4, irreps.dim), torch.randn(4, irreps.dim)
    paths = [
        (i, j, k, "uuu", False)
        for i in range(3) for j in range(3) for k in range(3) if abs(i - j) <= k <= i + j
    ]  # fmt: skip
    theirs = o3.TensorProduct(
        irreps, irreps, irreps, paths, irrep_normalization="none", path_normalization="none"
    )
    made = ClebschGordanProduct(2)(from_e3nn(x, irreps), from_e3nn(y, irreps))
    assert torch.allclose(theirs(x, y), to_e3nn(made, irreps), rtol=1e-12, atol=1e-12)


def test_bad_input() -> None:
    for irreps in ("3x0e+2x1o", "3x1o", "3x0e+3x2e", "3x0e+3x0e", "", "0x0e"):
        with pytest.raises(ValueError, match=r"from_e3nn\(irreps=.* one block per degree"):
            from_e3nn(torch.randn(2, 12), irreps)
    with pytest.raises(ValueError, match=r"from_e3nn\(x=.* must have shape \(\.\.\., 12\)"):
        from_e3nn(torch.randn(2, 11), "3x0e+3x1o")
    with pytest.raises(ValueError, match=r"to_e3nn\(x=.* must have shape \(\.\.\., 4, 3\)"):
        to_e3nn(torch.randn(4, 2), "3x0e+3x1o")
    for shape in ((5, 3), (3,), (0, 3)):
        with pytest.raises(ValueError, match=r"to_e3nn\(x=.* \(l_max \+ 1\)²"):
            to_e3nn(torch.randn(shape))
