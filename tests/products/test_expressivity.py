"""The table of The Price of Freedom, for outputs up to the degree of the inputs, computed."""

import pytest
import torch

from tensornet.products import (
    ClebschGordanProduct,
    CPProduct,
    EdgeProduct,
    GauntProduct,
    MatrixProduct,
)

N_PATHS = {0: 1, 1: 5, 2: 15, 3: 34, 4: 65}


@pytest.mark.parametrize("l_max", N_PATHS)
def test_one_copy_of_a_fixed_product_has_three_scales_per_degree(l_max: int) -> None:
    gaunt, matrix = GauntProduct(l_max), MatrixProduct(l_max)
    assert gaunt.interactability() == gaunt.paths()
    assert GauntProduct(l_max, odd_paths=True).interactability() == matrix.paths()
    assert matrix.interactability() == matrix.paths()
    assert len(matrix.paths()) == N_PATHS[l_max]
    assert gaunt.expressivity() == matrix.expressivity() == 3 * l_max + 1


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_copies_buy_back_all_paths(l_max: int) -> None:
    published = {
        1: [4, 5],
        2: [7, 14, 15],
        3: [10, 20, 30, 34],
        4: [13, 26, 39, 52, 63, 65],
    }[l_max]
    product = MatrixProduct(l_max)
    assert [product.expressivity(s) for s in range(1, len(published) + 1)] == published
    assert product.expressivity(len(published) + 2) == N_PATHS[l_max]


def test_weights_per_path_are_all_paths() -> None:
    assert EdgeProduct(3, "path").expressivity() == 34
    assert ClebschGordanProduct(2, "path", odd_paths=False).expressivity() == 11
    assert ClebschGordanProduct(2).expressivity() == 7
    assert CPProduct(1).expressivity() == 4


def test_vanishing_paths_do_not_interact() -> None:
    product = MatrixProduct(5)
    missing = set(product.paths()) - set(product.interactability())
    assert missing == {(3, 5, 5), (5, 3, 5), (5, 5, 3)}
    single = MatrixProduct(5).float()
    assert single.basis.dtype == torch.float32
    assert single.interactability() == product.interactability()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="copies"):
        MatrixProduct(1).expressivity(0)
