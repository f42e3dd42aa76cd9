"""Poisson's equation and its relatives against exact answers."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import cg, spsolve
from torch import Tensor

from tensornet.pde import (
    Domain,
    Grid,
    Problem,
    advection_diffusion,
    box_preconditioner,
    dirichlet,
    heat,
    neumann,
    poisson,
    theta_step,
)
from tensornet.testing import assert_close, assert_gradients


def solved(problem: Problem) -> Tensor:
    found = spsolve(problem.operator.to_scipy_sparse().tocsc(), problem.rhs.numpy())
    return torch.from_numpy(found)


def wave(n: int, k: int, how: str) -> tuple[Tensor, float]:
    """A discrete eigenfunction of one axis of spacing one, and its eigenvalue."""
    p = torch.arange(n) + 0.5
    angle = {
        "dirichlet": math.pi * (k + 1) / n,
        "neumann": math.pi * k / n,
        "periodic": 2 * math.pi * k / n,
        "nodes": math.pi * (k + 1) / (n + 1),
        "cold and closed": math.pi * (k + 0.5) / n,
        "node and closed": math.pi * (k + 0.5) / (n + 0.5),
    }[how]
    phase = {"nodes": 0.5, "node and closed": 0.5}.get(how, 0.0)
    shape = torch.cos if how == "neumann" else torch.sin
    offset = 0.3 if how == "periodic" else 0.0
    return shape(angle * (p + phase) + offset), 4 * math.sin(angle / 2) ** 2


SIDES: dict[str, Any] = {
    "dirichlet": "dirichlet",
    "neumann": "neumann",
    "periodic": "periodic",
    "nodes": dirichlet(at="center"),
    "cold and closed": ("dirichlet", "neumann"),
    "node and closed": (dirichlet(at="center"), "neumann"),
}


@pytest.mark.parametrize("how", SIDES)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_discrete_eigenfunctions_of_a_line(how: str, k: int) -> None:
    A = poisson(Grid(9, spacing=0.5), boundary=(SIDES[how],), project=True).operator
    v, value = wave(9, k, how)
    assert_close(A(v), 4 * value * v, 1e-13, how)


def test_discrete_eigenfunctions_of_a_mixed_box() -> None:
    names, shape, spacing = ("neumann", "periodic", "cold and closed"), (6, 5, 7), (0.5, 0.2, 0.3)
    A = poisson(Grid(shape, spacing=spacing), boundary=[SIDES[n] for n in names]).operator
    waves = [wave(n, 2, how) for n, how in zip(shape, names, strict=True)]
    v = torch.einsum("i,j,k->ijk", *(w for w, _ in waves)).flatten()
    value = sum(x / h**2 for (_, x), h in zip(waves, spacing, strict=True))
    assert_close(A(v), value * v, 1e-13, "mixed box")
    field = A.shifted(0.0, 1.0)
    assert_close(field(v), A(v), 1e-15, "scaled by one")


def test_nodes_are_the_matrix_of_the_gallery() -> None:
    A = poisson(Grid((4, 5), spacing=1.0), boundary=dirichlet(at="center")).operator
    gallery = pytest.importorskip("pyamg.gallery")
    assert abs(A.to_scipy_sparse() - gallery.poisson((4, 5))).max() == 0


def test_nodes_are_the_textbook_matrix() -> None:
    A = poisson(Grid((4, 5), spacing=1.0), boundary=dirichlet(at="center")).operator
    lines = [sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n)) for n in (4, 5)]
    book = sp.kron(lines[0], sp.identity(5)) + sp.kron(sp.identity(4), lines[1])
    assert abs(A.to_scipy_sparse() - book).max() == 0


def test_poiseuille_and_couette_are_exact() -> None:
    """Between a resting and a moving wall, pressed by a gradient: a parabola at nodes."""
    n = 12
    grid = Grid((3, n), spacing=(1.0, 1 / (n + 1)), origin=(0.0, 0.5 / (n + 1)))
    walls = (dirichlet(0.0, at="center"), dirichlet(0.7, at="center"))
    pressed = poisson(grid, boundary=("periodic", walls), source=5.0)
    y = grid.axes()[1]
    exact = (2.5 * y * (1 - y) + 0.7 * y).expand(3, n).flatten()
    assert_close(solved(pressed), exact, 1e-13, "two walls")
    grid = Grid((3, n), spacing=(1.0, 1 / (n + 0.5)), origin=(0.0, 0.5 / (n + 0.5)))
    sheared = poisson(grid, boundary=("periodic", (walls[0], neumann(-1.8))), source=5.0)
    y = grid.axes()[1]
    exact = (3.2 * y - 2.5 * y * y).expand(3, n).flatten()
    assert_close(solved(sheared), exact, 1e-13, "a wall and a shear")


@pytest.mark.parametrize("n", [6, 9])
def test_a_column_with_a_step_of_the_coefficient_is_exact(n: int) -> None:
    """Harmonic means: piecewise linear solutions are exact when the step is at a face."""
    k = torch.ones(2 * n)
    k[n:] = 50.0
    grid = Grid(2 * n, spacing=0.5 / n)
    problem = poisson(grid, boundary=((dirichlet(1.0), dirichlet(0.0)),), coefficient=k)
    x = grid.axes()[0]
    middle = 50 / 51  # drop over the first half : second half = 50 : 1
    exact = torch.where(x < 0.5, 1 - 2 * middle * x, 2 * (1 - middle) * (1 - x))
    assert_close(solved(problem), exact, 1e-12, "two slabs")


def test_a_disc_in_a_square() -> None:
    """u = (1 - r²) / 4, with the exact value held at the staircase: exact, for it is a parabola."""
    n = 20
    grid = Grid((n, n), spacing=2.4 / n, origin=-1.2)
    x, y = grid.centers()

    def exact(x: Tensor, y: Tensor) -> Tensor:
        return (1 - x * x - y * y) / 4

    mask = x * x + y * y < 1
    held = dirichlet(exact, at="center")
    domain = Domain(grid, mask=mask, wall=held, boundary="neumann")
    problem = poisson(domain, source=1.0, exact=exact)
    assert problem.operator.definite
    assert problem.exact is not None
    assert_close(solved(problem), problem.exact, 1e-12, "disc, values at centres")
    tensor = Domain(grid, mask=mask, wall=dirichlet(exact(x, y), at="center"), boundary="neumann")
    assert_close(poisson(tensor, source=1.0).rhs, problem.rhs, 1e-13, "values of a tensor")
    errors = []
    for n in (20, 80):
        grid = Grid((n, n), spacing=2.4 / n, origin=-1.2)
        x, y = grid.centers()
        cold = Domain(grid, mask=x * x + y * y < 1, wall="dirichlet")
        staircase = poisson(cold, source=1.0, exact=exact)
        assert staircase.exact is not None
        errors.append(float((solved(staircase) - staircase.exact).abs().max()))
    assert errors[1] < 0.4 * errors[0] < 0.04  # first order: the staircase


def test_an_l_shape_has_the_reduced_order() -> None:
    """u = r^(2/3) sin(2 theta / 3) about the corner: 4/3 in the largest error."""

    def exact(x: Tensor, y: Tensor) -> Tensor:
        theta = torch.atan2(y, x)
        theta = torch.where(theta < -1e-9, theta + 2 * math.pi, theta)
        return (x * x + y * y).pow(1 / 3) * torch.sin(2 * theta / 3)

    errors = []
    for n in (16, 64):
        grid = Grid((n, n), spacing=2 / n, origin=-1.0)
        x, y = grid.centers()
        held = dirichlet(exact)
        domain = Domain(grid, mask=~((x > 0) & (y < 0)), boundary=held, wall=held)
        problem = poisson(domain, exact=exact)
        assert problem.exact is not None
        errors.append(float((solved(problem) - problem.exact).abs().max()))
    order = math.log(errors[0] / errors[1]) / math.log(4)
    assert 0.6 < order < 0.75, errors
    assert errors[1] < 0.011


def test_air_and_walls_are_told_apart() -> None:
    """A column of water, open to the air at the top: pressure is linear, walls change nothing."""
    grid = Grid((4, 10), spacing=0.1)
    mask = torch.ones(grid.shape, dtype=torch.bool)
    mask[:, 7:] = False
    mask[1, 2] = False
    domain = Domain(grid, mask=mask, air=~mask & (grid.centers()[1] > 0.6), boundary="neumann")
    problem = poisson(domain)
    A = problem.operator
    assert A.definite
    sums = problem.embed(A(torch.ones(domain.n)))
    assert_close(sums[:, 6], torch.full((4,), 100.0), 1e-12, "tied to the air")
    assert float(sums[:, :6].abs().max()) < 1e-11


def test_heat_decays_as_its_eigenfunction() -> None:
    grid, dt = Grid((8, 6), spacing=0.25), 0.03
    step = heat(grid, dt, boundary=("dirichlet", "neumann"), coefficient=0.7)
    (a, low), (b, high) = wave(8, 0, "dirichlet"), wave(6, 1, "neumann")
    v = torch.outer(a, b).flatten()
    value = 0.7 * 16 * (low + high)
    after = v * (1 - dt * value / 2) / (1 + dt * value / 2)
    assert_close(step.explicit(v), step.implicit(after), 1e-13, "one step")
    assert float(step.residual(after, v).abs().max()) < 1e-13
    assert_close(solved(step.problem(v)), after, 1e-12, "solved")


def test_crank_nicolson_is_of_second_order_and_euler_of_first() -> None:
    orders = []
    for theta in (0.5, 1.0):
        errors = []
        for steps in (10, 20):
            step = heat(Grid(8, spacing=1 / 8), 0.1 / steps, theta=theta)
            u = v = wave(8, 0, "dirichlet")[0]
            for _ in range(steps):
                u = solved(step.problem(u))
            decay = math.exp(-0.1 * 64 * wave(8, 0, "dirichlet")[1])
            errors.append(float((u - decay * v).abs().max()))
        orders.append(math.log2(errors[0] / errors[1]))
    assert orders[0] == pytest.approx(2, abs=0.05)
    assert orders[1] == pytest.approx(1, abs=0.1)


def test_heat_with_a_flux_into_a_closed_box_conserves() -> None:
    grid = Grid((5, 4), spacing=(0.2, 0.5))
    step = heat(grid, 0.1, boundary=(("neumann", neumann(3.0)), "neumann"), source=2.0)
    u = solved(step.problem(torch.zeros(20)))
    inside = float(u.sum()) * 0.1  # cells of 0.2 x 0.5
    assert inside == pytest.approx(0.1 * (3.0 * 2.0 + 2.0 * 1.0 * 2.0), rel=1e-12)


def test_advection_conserves_and_a_step_of_it_too() -> None:
    grid = Grid((6, 5), spacing=0.2)
    u = torch.rand(30)
    for scheme in ("upwind", "central"):
        problem = advection_diffusion(
            grid, (lambda x, y: torch.sin(5 * y) + 0 * x, lambda x, y: torch.cos(5 * x) + 0 * y),
            boundary="periodic", diffusivity=0.3, scheme=scheme,
        )  # fmt: skip
        assert abs(float(problem.operator(u).sum())) < 1e-11
        step = theta_step(problem, 0.01, theta=0.5)
        assert float(step.explicit(u).sum()) == pytest.approx(float(u.sum()), rel=1e-12)


def test_nothing_flows_through_a_wall() -> None:
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2, 1:4] = False
    grid, u = Grid((6, 5), spacing=0.2), torch.rand(27)
    for scheme in ("upwind", "central"):
        problem = advection_diffusion(
            grid, (1.5, -0.7), scheme=scheme, mask=mask, boundary="periodic"
        )
        sums = problem.operator(u)
        assert abs(float(sums.sum())) < 1e-12 * float(sums.abs().sum())


def test_upwind_has_no_overshoot_where_central_has() -> None:
    grid, boundary = Grid(10, spacing=0.1), ((dirichlet(0.0), dirichlet(1.0)),)
    found = {}
    for scheme in ("upwind", "central"):
        problem = advection_diffusion(
            grid, 100.0, diffusivity=1.0, scheme=scheme, boundary=boundary
        )
        found[scheme] = solved(problem)
    assert float(found["upwind"].min()) >= 0
    assert float(found["central"].min()) < -0.05


def test_derivatives_in_coefficient_source_and_boundary() -> None:
    grid, x = Grid((3, 2), spacing=0.5), torch.rand(6)
    mask = torch.ones(3, 2, dtype=torch.bool)
    mask[0, 1] = False

    def applied(k: Tensor, x: Tensor, f: Tensor, g: Tensor) -> Tensor:
        boundary = ((dirichlet(g), neumann(g)), "neumann")
        problem = poisson(grid, mask=mask, coefficient=k, source=f, boundary=boundary)
        return problem.residual(x[:5])

    def carried(k: Tensor, x: Tensor, v: Tensor) -> Tensor:
        problem = advection_diffusion(grid, (v, 0.5), diffusivity=k, scheme="central")
        return problem.residual(x)

    k = 1 + torch.rand(3, 2)
    assert_gradients(applied, [k, x, torch.rand(3, 2), torch.rand(2)])
    assert_gradients(carried, [k, x, torch.rand(4, 2)])


def sphere(n: int) -> tuple[Grid, Tensor]:
    grid = Grid((n, n, n), spacing=1 / n)
    r = torch.stack([(c - 0.5).square() for c in grid.centers()]).sum(0)
    return grid, r > 0.15**2


@pytest.mark.parametrize("n", [16, 32])
def test_the_box_needs_few_iterations_around_a_sphere(n: int) -> None:
    grid, mask = sphere(n)
    boundary = ("neumann", "neumann", ("neumann", "dirichlet"))
    source = torch.randn(n, n, n)
    problem = poisson(grid, mask=mask, boundary=boundary, source=source)
    A, M, counts = problem.operator, box_preconditioner(problem.operator), [0, 0]

    def counted(which: int) -> None:
        counts[which] += 1

    b = problem.rhs.numpy()
    for which, kind in ((0, {"M": M.to_scipy()}), (1, {})):
        found, info = cg(A.to_scipy(), b, rtol=1e-6, callback=lambda _, w=which: counted(w), **kind)
        assert info == 0
        assert np.linalg.norm(b - A.to_scipy_sparse() @ found) <= 1.01e-6 * np.linalg.norm(b)
    assert counts[0] <= 11
    assert counts[1] > 5 * counts[0]


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", dirichlet(at="center")])
def test_the_box_is_the_inverse_of_an_empty_box(boundary: Any) -> None:
    A = poisson(
        Grid((5, 4, 6), spacing=(0.2, 0.5, 0.1)), boundary=boundary, coefficient=3.0, project=True
    ).operator
    x = A.project(torch.randn(2, 120))
    assert_close(A.project(box_preconditioner(A)(A(x))), x, 1e-11, "inverse")
    step = A.shifted(2.0, 0.3)
    assert_close(box_preconditioner(step)(step(x)), x, 1e-11, "inverse of a step")


def test_the_box_knows_that_only_air_holds() -> None:
    """A closed box is singular, the water in it is not."""
    grid = Grid((8, 8), spacing=1 / 8)
    mask = grid.centers()[1] < 0.6
    domain = Domain(grid, mask=mask, air=~mask, boundary="neumann")
    problem = poisson(domain, source=torch.randn(8, 8))
    M = box_preconditioner(problem.operator)
    assert float(torch.linalg.eigvalsh(M.to_dense())[0]) > 0
    _, info = cg(problem.operator.to_scipy(), problem.rhs.numpy(), rtol=1e-8, M=M.to_scipy())
    assert info == 0
