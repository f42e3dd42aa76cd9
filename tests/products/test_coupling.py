import e3nn.o3
import pytest
import torch

from tensornet import so3
from tensornet.products import coupling, paths
from tensornet.products.coupling import block, even_part


@pytest.mark.parametrize(
    ("l_max", "n_paths", "nonzeros"), [(1, 5, 16), (2, 15, 137), (3, 34, 611), (4, 65, 2052)]
)
def test_clebsch_gordan_counts(l_max: int, n_paths: int, nonzeros: int) -> None:
    tensor = coupling("clebsch_gordan", l_max)
    assert len(paths(l_max)) == n_paths
    assert int((tensor.abs() > 1e-12).sum()) == nonzeros
    assert float(tensor.square().sum()) == pytest.approx(n_paths, rel=1e-13)


def test_clebsch_gordan_blocks_are_e3nn() -> None:
    tensor = coupling("clebsch_gordan", 3)
    rest = tensor.clone()
    for path in paths(3):
        expected = e3nn.o3.wigner_3j(*path, dtype=torch.float64)
        torch.testing.assert_close(tensor[block(path)], expected, rtol=0, atol=1e-13)
        rest[block(path)] = 0
    assert not rest.any()


NORMS = {
    "gaunt": [0.7957747155, 3.9902417875, 12.1867213568, 29.7024303760],
    "poisson": [1.4323944878, 22.9183118052, 262.6056561016, 1454.0974346123],
}


@pytest.mark.parametrize("kind", ["gaunt", "poisson"])
def test_published_norms(kind: str) -> None:
    for l_max, expected in enumerate(NORMS[kind], start=1):
        assert float(coupling(kind, l_max).square().sum()) == pytest.approx(expected, abs=2e-10)


def test_gaunt_values_and_product_rule() -> None:
    gaunt = coupling("gaunt", 4)
    assert float(gaunt[0, 0, 0]) == pytest.approx(0.28209479177, abs=1e-11)
    assert float(gaunt[2, 2, 6]) == pytest.approx(0.25231325220, abs=1e-11)
    assert float(gaunt[6, 6, 6]) == pytest.approx(0.18022375157, abs=1e-11)
    r = torch.randn(20, 3)
    Y = so3.spherical_harmonics(r, 4, normalization="integral")
    low = Y[:, :9]  # degrees 0 to 2 multiply into degrees 0 to 4
    product = torch.einsum("ijk,nk->nij", gaunt[:9, :9], Y)
    torch.testing.assert_close(product, low[:, :, None] * low[:, None], rtol=0, atol=1e-13)


def test_symmetries() -> None:
    gaunt, poisson = coupling("gaunt", 3), coupling("poisson", 3)
    for order in [(1, 0, 2), (0, 2, 1), (2, 1, 0)]:
        torch.testing.assert_close(gaunt.permute(order), gaunt, rtol=0, atol=1e-13)
        torch.testing.assert_close(poisson.permute(order), -poisson, rtol=0, atol=1e-12)
    assert float((gaunt - even_part(gaunt)).abs().max()) < 1e-13
    assert float(even_part(poisson).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["clebsch_gordan", "gaunt", "poisson", "matrix"])
def test_unchanged_by_rotations(kind: str) -> None:
    tensor = coupling(kind, 3)
    D = so3.wigner_d(3, e3nn.o3.rand_matrix())
    turned = torch.einsum("ijk,ai,bj,ck->abc", tensor, D, D, D)
    torch.testing.assert_close(turned, tensor, rtol=0, atol=1e-11)


@pytest.mark.parametrize("l_max", [2, 3, 4])
def test_matrix_has_every_path(l_max: int) -> None:
    tensor = coupling("matrix", l_max)
    sizes = [float(tensor[block(path)].norm()) for path in paths(l_max)]
    assert min(sizes) > 0.38


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        coupling("cartesian", 2)
    with pytest.raises(ValueError, match="at least 0"):
        coupling("gaunt", -1)
