"""Rules on the sphere that are found by Newton's method."""

import math

import pytest
import torch
from scipy.integrate import lebedev_rule

from tensornet import so3
from tensornet.products.gaunt_nodes import n_nodes, sphere_rule

SIZES = {1: 6, 2: 24, 3: 32, 4: 62, 5: 86, 6: 126, 7: 168, 8: 212}


def errors(points: torch.Tensor, weights: torch.Tensor, degree: int) -> list[float]:
    Y = so3.spherical_harmonics(points, degree, normalization="integral")
    integrals = weights @ Y
    integrals[0] -= math.sqrt(4 * math.pi)
    return [float(integrals[l * l : (l + 1) ** 2].abs().max()) for l in range(degree + 1)]


@pytest.mark.parametrize("l_max", SIZES)
def test_exact_and_small(l_max: int) -> None:
    points, weights = sphere_rule(3 * l_max)
    assert len(weights) == SIZES[l_max] == n_nodes(3 * l_max)
    assert float(weights.min()) > 0
    torch.testing.assert_close(points.norm(dim=1), torch.ones(len(points)), rtol=0, atol=1e-14)
    found = errors(points, weights, 26)
    assert max(found[: 3 * l_max + 1]) < 1e-13
    assert max(found[3 * l_max + 1 :]) > 0.5


@pytest.mark.parametrize("l_max", SIZES)
def test_no_larger_than_lebedev(l_max: int) -> None:
    order = next(k for k in (3, 7, 9, 13, 15, 19, 21, 25) if k >= 3 * l_max)
    assert n_nodes(3 * l_max) <= lebedev_rule(order)[0].shape[1]


@pytest.mark.parametrize("degree", [0, 1, 2, 25, 30])
def test_product_rule_where_nothing_smaller_is_known(degree: int) -> None:
    points, weights = sphere_rule(degree)
    assert len(weights) == n_nodes(degree)
    assert max(errors(points, weights, degree)) < 1e-13
