"""Every stencil operator is what it says, and solutions tend to the exact ones."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tensornet import kernels
from tensornet.pde import (
    Domain,
    Grid,
    Problem,
    StencilOperator,
    advection_diffusion,
    box_preconditioner,
    dirichlet,
    heat,
    neumann,
    poisson,
)
from tensornet.testing import assert_operator_contract, assert_problem_contract

GRID = Grid((3, 4, 5), spacing=(0.5, 0.3, 0.2))
MIXED = (("neumann", "dirichlet"), "periodic", (dirichlet(at="center"), "neumann"))


def coefficient(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return 1 + x * x + 3 * y * z


def holes(*shape: int) -> Tensor:
    mask = torch.ones(shape, dtype=torch.bool)
    mask[tuple(n // 2 for n in shape)] = False
    mask[tuple(0 for _ in shape)] = False
    return mask


def two_rooms() -> StencilOperator:
    """Two rooms with a wall between them, one of them with air behind a window."""
    mask = torch.ones(7, 5, dtype=torch.bool)
    mask[3], mask[6] = False, False
    air = torch.zeros_like(mask)
    air[6, 2] = True
    domain = Domain(
        Grid((7, 5), spacing=0.1), mask=mask, boundary=("neumann", "periodic"), air=air,
        surface=dirichlet(),
    )  # fmt: skip
    return poisson(domain, project=True).operator


def ring() -> StencilOperator:
    """One room that a naive labelling takes for two."""
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[2] = False
    grid = Grid((6, 4), spacing=0.1)
    return poisson(grid, mask=mask, boundary=("periodic", "neumann"), project=True).operator


OPERATORS: dict[str, Callable[[], StencilOperator]] = {
    "line": lambda: poisson(Grid(5, spacing=0.2)).operator,
    "two cells": lambda: poisson(Grid(2, spacing=0.2)).operator,
    "nodes": lambda: poisson(Grid((4, 3), spacing=0.2), boundary=dirichlet(at="center")).operator,
    "mixed": lambda: poisson(GRID, boundary=MIXED).operator,
    "mixed with holes": lambda: poisson(GRID, boundary=MIXED, mask=holes(3, 4, 5)).operator,
    "varying": lambda: poisson(
        GRID, boundary=MIXED, coefficient=coefficient, mask=holes(3, 4, 5)
    ).operator,
    "closed": lambda: poisson(Grid((3, 4), spacing=1.0), boundary="neumann").operator,
    "torus": lambda: poisson(Grid((3, 4), spacing=1.0), boundary="periodic").operator,
    "two rooms": two_rooms,
    "ring": ring,
    "cold walls": lambda: poisson(
        Domain(Grid((5, 5), spacing=0.2), mask=holes(5, 5), boundary="neumann", wall="dirichlet")
    ).operator,
    "implicit step": lambda: heat(GRID, 0.1, boundary="neumann").implicit,
    "explicit step": lambda: heat(GRID, 0.1, boundary=MIXED, coefficient=coefficient).explicit,
    "upwind": lambda: advection_diffusion(
        GRID, (1.0, -2.0, 0.5), boundary=MIXED, mask=holes(3, 4, 5)
    ).operator,
    "central": lambda: advection_diffusion(
        Grid((4, 5), spacing=0.2), (1.0, -2.0), diffusivity=0.1, scheme="central"
    ).operator,
    "flow around a torus": lambda: advection_diffusion(
        Grid((4, 5), spacing=0.2), (1.0, -2.0), boundary="periodic"
    ).operator,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_what_they_say(name: str) -> None:
    A = OPERATORS[name]()
    assert_operator_contract(A)
    if name in ("mixed with holes", "varying", "upwind"):
        with kernels.use("reference"):
            assert_operator_contract(A)
        assert_operator_contract(A.to(torch.float32))
    if A.symmetric:
        assert_operator_contract(box_preconditioner(A))


def test_which_are_definite() -> None:
    said = {name: make().definite for name, make in OPERATORS.items()}
    no = {"closed", "torus", "two rooms", "ring", "explicit step", "upwind", "central"}
    assert {name for name in said if not said[name]} == {*no, "flow around a torus"}
    assert len(two_rooms().nullspace) == 1  # the other has air
    assert len(ring().nullspace) == 1


def test_a_contract_sees_a_thousandth() -> None:
    A = OPERATORS["varying"]()
    weights = (A.weights[0] * 1.001, *A.weights[1:])
    wrong = StencilOperator(A.domain, "faces", A.anchor, weights, diagonal=A.field)
    assert_operator_contract(wrong)  # consistent with itself
    wrong.field = A.field * 1.001  # the sparse matrix no longer that of the kernel
    with pytest.raises(AssertionError, match=r"sparse matrix|diagonal"):
        assert_operator_contract(wrong)


def hill(*x: Tensor) -> Tensor:
    return torch.stack([torch.sin(2 * p + 0.3) for p in torch.broadcast_tensors(*x)]).prod(0)


def manufactured(n: int) -> Problem:
    """Values, fluxes and a coefficient that all vary; `hill` solves it."""

    def source(x: Tensor, y: Tensor) -> Tensor:  # -div(k grad u), k = 1 + x y
        u = hill(x, y)
        ux = 2 * torch.cos(2 * x + 0.3) * torch.sin(2 * y + 0.3)
        uy = 2 * torch.sin(2 * x + 0.3) * torch.cos(2 * y + 0.3)
        return 8 * (1 + x * y) * u - y * ux - x * uy

    def right(x: Tensor, y: Tensor) -> Tensor:  # k du/dx at x = 1
        return (1 + x * y) * 2 * torch.cos(2 * x + 0.3) * torch.sin(2 * y + 0.3)

    boundary = ((dirichlet(hill), neumann(right)), dirichlet(hill))
    return poisson(
        Grid((n, n), spacing=1 / n), boundary=boundary, coefficient=lambda x, y: 1 + x * y,
        source=source, exact=hill,
    )  # fmt: skip


def closed(n: int) -> Problem:
    """Neumann all around, in three dimensions, with fluxes."""

    def source(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return math.pi**2 * torch.cos(math.pi * x) - 2 + 0 * y

    def exact(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.cos(math.pi * x) + y * y + 0 * z

    boundary = ("neumann", ("neumann", neumann(2.0)), "periodic")
    return poisson(
        Grid((n, n, 3), spacing=1 / n), boundary=boundary, source=source, exact=exact, project=True
    )


def carried(scheme: str) -> Callable[[int], Problem]:
    """A boundary layer: the exact profile between two held values."""

    def make(n: int) -> Problem:
        def exact(x: Tensor) -> Tensor:
            return torch.expm1(5 * x) / math.expm1(5)

        boundary = ((dirichlet(0.0), dirichlet(1.0)),)
        return advection_diffusion(
            Grid(n, spacing=1 / n), 5.0, scheme=scheme, boundary=boundary, exact=exact
        )

    return make


def whirled(n: int) -> Problem:
    """A flow that varies, without divergence, on nodes and with an open end."""

    def exact(x: Tensor, y: Tensor) -> Tensor:
        return torch.sin(x) * torch.cos(2 * y)

    def source(x: Tensor, y: Tensor) -> Tensor:  # v = (cos y, x)
        flow = torch.cos(y) * torch.cos(x) * torch.cos(2 * y)
        return flow - 2 * x * torch.sin(x) * torch.sin(2 * y) + 5 * exact(x, y)

    def out(x: Tensor, y: Tensor) -> Tensor:
        return torch.cos(x) * torch.cos(2 * y)

    h = 1 / (n + 0.5)
    held = dirichlet(exact, at="center")
    return advection_diffusion(
        Grid((n, n), spacing=h, origin=h / 2), (lambda x, y: torch.cos(y), lambda x, y: x),
        scheme="central", boundary=((held, neumann(out)), dirichlet(exact)),
        source=source, exact=exact,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "sizes", "order"),
    [
        pytest.param(manufactured, (8, 16, 32), 2, id="values, fluxes, coefficient"),
        pytest.param(closed, (6, 12, 24), 2, id="closed"),
        pytest.param(carried("central"), (20, 40, 80), 2, id="central"),
        pytest.param(carried("upwind"), (80, 160, 320), 1, id="upwind"),
        pytest.param(whirled, (8, 16, 32), 2, id="varying flow"),
    ],
)
def test_orders_of_convergence(
    make: Callable[[int], Problem], sizes: tuple[int, ...], order: float
) -> None:
    assert_problem_contract(make, sizes, order=order)


def test_an_order_too_low_is_seen() -> None:
    with pytest.raises(AssertionError, match=r"The order is 0.89, not 2"):
        assert_problem_contract(carried("upwind"), (20, 40), order=2)


def test_operators_say_what_they_are() -> None:
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2, 2] = False
    said = repr(poisson(Grid((6, 5), spacing=0.1), mask=mask).operator)
    assert said == "StencilOperator(29 unknowns on a grid of 6 x 5, symmetric, float64, cpu)"
