"""Grids, boundaries and masks: what they say of themselves, and what they refuse."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tensornet.pde import (
    Domain,
    FlowSide,
    Grid,
    Problem,
    Side,
    advection_diffusion,
    box_preconditioner,
    dirichlet,
    heat,
    neumann,
    poisson,
    theta_step,
)

GRID = Grid((4, 3), spacing=(0.25, 0.5))
HOLE = torch.ones(4, 3, dtype=torch.bool)
HOLE[1, 1] = False


def alone() -> Tensor:
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[0, 0] = mask[3, 1] = True
    mask[:2, 2] = True
    return mask


def test_a_grid_tells_its_centres() -> None:
    grid = Grid((2, 3), spacing=(0.5, 2.0), origin=(-1.0, 0.0))
    assert (grid.dim, grid.n_cells, grid.lengths) == (2, 6, (1.0, 6.0))
    x, y = grid.centers(dtype=torch.float32)
    assert x.tolist() == [[-0.75] * 3, [-0.25] * 3]
    assert y.tolist() == [[1.0, 3.0, 5.0]] * 2
    assert x.dtype == torch.float32
    assert grid == Grid((2, 3), spacing=(0.5, 2.0), origin=(-1.0, 0.0))


def test_vectors_and_fields() -> None:
    domain = Domain(GRID, mask=HOLE)
    x = torch.randn(5, 2, 11, requires_grad=True)
    field = domain.embed(x, fill=math.inf)
    assert field.shape == (5, 2, 4, 3)
    assert bool((field[..., 1, 1] == math.inf).all())
    assert torch.equal(domain.restrict(field), x)
    assert torch.equal(field[..., 0, 0], x[..., 0])
    (slope,) = torch.autograd.grad(domain.embed(x).square().sum(), x)
    assert torch.equal(slope, 2 * x)
    assert domain.n == 11
    assert Domain(GRID, mask=torch.ones(4, 3, dtype=torch.bool)).mask is None


def test_many_right_sides_at_once() -> None:
    f, g = torch.randn(3, 4, 3), torch.randn(3, 3)
    boundary = ((dirichlet(g), "dirichlet"), "neumann")
    together = poisson(GRID, mask=HOLE, boundary=boundary, source=f)
    assert together.rhs.shape == (3, 11)
    for k in range(3):
        one = ((dirichlet(g[k]), "dirichlet"), "neumann")
        apart = poisson(GRID, mask=HOLE, boundary=one, source=f[k])
        assert torch.allclose(together.rhs[k], apart.rhs, rtol=1e-14)


def test_isolated_cells_can_be_dropped() -> None:
    domain = Domain(GRID, mask=alone(), boundary="neumann", drop_isolated=True)
    assert domain.n == 2
    assert Domain(GRID, mask=alone()).n == 4  # the box holds them
    held = Domain(GRID, mask=alone(), boundary="neumann", wall="dirichlet")
    assert held.n == 4


def test_a_singular_problem_can_be_projected() -> None:
    source = torch.rand(4, 3)
    problem = poisson(GRID, boundary="neumann", source=source, project=True)
    assert torch.allclose(problem.rhs, (source - source.mean()).flatten())
    assert abs(float(problem.rhs.sum())) < 1e-14
    poisson(GRID, boundary="neumann", source=source - source.mean())  # can be reached
    steps = advection_diffusion(GRID, (0.0, 0.0), boundary="neumann", source=source, project=True)
    assert torch.allclose(steps.rhs, problem.rhs)


def test_dtypes() -> None:
    problem = poisson(GRID, mask=HOLE, source=1.0, dtype=torch.float32)
    assert problem.rhs.dtype == problem.operator(problem.rhs).dtype == torch.float32
    assert problem.operator.to(torch.float64).to_scipy_sparse().dtype == "float64"


def test_problems_can_be_copied_and_sent() -> None:
    problem = poisson(GRID, mask=HOLE, boundary=("neumann", dirichlet(2.0)), source=1.0)
    x = torch.randn(11)
    for other in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert torch.equal(other.residual(x), problem.residual(x))


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def problem() -> Problem:
    return poisson(GRID)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no axes": (lambda: Grid((), spacing=1.0), ValueError, r"one to three axes. Got \(\)"),
    "four axes": (lambda: Grid((2,) * 4, spacing=1.0), ValueError, "one to three axes"),
    "one cell": (lambda: Grid((4, 1), spacing=1.0), ValueError, "at least 2. Got 1"),
    "half a cell": (lambda: Grid((4, 2.5), spacing=1.0), TypeError, "whole number"),  # type: ignore[arg-type]
    "no width": (lambda: Grid(4, spacing=0.0), ValueError, "must be positive"),
    "NaN width": (lambda: Grid(4, spacing=math.nan), ValueError, "finite"),
    "too many widths": (lambda: Grid(4, spacing=(1.0, 1.0)), ValueError, "one per axis"),
    "a word": (lambda: Domain(GRID, boundary="cold"), ValueError, "must be one of dirichlet"),
    "no word": (lambda: Domain(GRID, boundary=3), TypeError, "one entry per axis. Got int"),  # type: ignore[arg-type]
    "one axis": (lambda: Domain(GRID, boundary=("neumann",)), ValueError, "one entry per axis"),
    "half a ring": (
        lambda: Domain(GRID, boundary=(("periodic", "neumann"), "neumann")),
        ValueError,
        "periodic at both ends of an axis",
    ),
    "a ring of two": (
        lambda: Domain(Grid((2, 4), spacing=1.0), boundary="periodic"),
        ValueError,
        "at least 3 cells along a periodic axis",
    ),
    "no grid": (lambda: Domain((4, 4)), TypeError, "must be a `Grid`. Got tuple"),  # type: ignore[arg-type]
    "mask of numbers": (lambda: Domain(GRID, mask=torch.ones(4, 3)), TypeError, "torch.bool"),
    "other mask": (lambda: Domain(GRID, mask=ones(3, 4)), ValueError, r"shape \(4, 3\)"),
    "empty mask": (lambda: Domain(GRID, mask=~ones(4, 3)), ValueError, "empty mask"),
    "isolated": (
        lambda: Domain(GRID, mask=alone(), boundary="neumann"),
        ValueError,
        r"Got 2, the first at \(0, 0\). \(Pass drop_isolated=True",
    ),
    "all isolated": (
        lambda: Domain(
            GRID, mask=alone() & ~alone().roll(1, 0), boundary="neumann", drop_isolated=True
        ),
        ValueError,
        "isolated cells only",
    ),
    "air inside": (lambda: Domain(GRID, mask=HOLE, air=HOLE), ValueError, "Got 11 cells inside"),
    "periodic wall": (lambda: Domain(GRID, wall="periodic"), ValueError, "not be periodic"),
    "held nowhere": (lambda: dirichlet(at="corner"), ValueError, "must be one of face, center"),
    "singular": (
        lambda: poisson(GRID, boundary="neumann", source=1.0),
        ValueError,
        r"the operator is singular there .* Got a sum of 12 over 12 cells. \(Pass project=True",
    ),
    "singular part": (
        lambda: poisson(
            Domain(Grid(5, spacing=1.0), mask=torch.tensor([1, 1, 0, 1, 1]) > 0,
                   boundary=(("dirichlet", "neumann"),)),
            source=1.0,
        ),
        ValueError,
        "Got a sum of 2 over 2 cells",
    ),
    "flux with nowhere to go": (
        lambda: poisson(GRID, boundary=neumann(1.0)), ValueError, "singular",
    ),
    "closed flow": (
        lambda: advection_diffusion(GRID, (1.0, 1.0), boundary="periodic", source=1.0),
        ValueError,
        "singular",
    ),
    "NaN source": (
        lambda: poisson(GRID, source=torch.full((4, 3), math.nan)),
        ValueError,
        r"`poisson\(source=...\)` must be finite. Got 12 NaN",
    ),
    "NaN at a side": (lambda: poisson(GRID, boundary=dirichlet(math.nan)), ValueError, "finite"),
    "NaN function": (lambda: poisson(GRID, source=lambda x, y: x / 0 * 0), ValueError, "finite"),
    "other source": (lambda: poisson(GRID, source=torch.ones(3, 4)), ValueError, r"shape \(..., 4"),
    "function of another shape": (
        lambda: poisson(GRID, source=lambda x, y: x[0]), ValueError, r"shape \(4, 3\) of the coord"
    ),
    "a word as source": (lambda: poisson(GRID, source="hot"), TypeError, "a number, a tensor"),  # type: ignore[arg-type]
    "side of another shape": (
        lambda: poisson(GRID, boundary=(dirichlet(torch.ones(4)), "neumann")),
        ValueError,
        r"shape \(..., 3\) across axis 0. Got \(4,\)",
    ),
    "no conduction": (lambda: poisson(GRID, coefficient=0.0), ValueError, "must be positive"),
    "negative conduction": (
        lambda: poisson(GRID, coefficient=lambda x, y: 0.5 - x),
        ValueError,
        r"Got 6 that are not, the first at \(2, 0\)",
    ),
    "many coefficients": (
        lambda: poisson(GRID, coefficient=torch.ones(2, 4, 3)), ValueError, "without a batch",
    ),
    "half precision": (lambda: poisson(GRID, dtype=torch.float16), TypeError, "float32 or float64"),
    "mask twice": (lambda: poisson(Domain(GRID), mask=HOLE), ValueError, "with a domain"),
    "wrong vector": (lambda: problem().operator(torch.ones(11)), ValueError, r"\(..., 12\)"),
    "wrong kind": (lambda: problem().residual(torch.ones(12).float()), TypeError, "float64"),
    "wrong field": (lambda: problem().restrict(torch.ones(3, 4)), ValueError, r"\(..., 4, 3\)"),
    "wrong cells": (lambda: problem().embed(torch.ones(11)), ValueError, r"\(..., 12\)"),
    "no time": (lambda: heat(GRID, 0.0), ValueError, "must be positive and finite"),
    "late theta": (lambda: theta_step(problem(), 0.1, theta=1.5), ValueError, "from 0 to 1"),
    "step of a number": (lambda: theta_step(3, 0.1), TypeError, "must be a `Problem`"),  # type: ignore[arg-type]
    "shape of a number": (lambda: Grid(4.5, spacing=1.0), TypeError, r"shape=...\)` must be a"),  # type: ignore[arg-type]
    "no spacing": (lambda: Grid(4, spacing=None), TypeError, r"spacing=...\)` must be numbers"),  # type: ignore[arg-type]
    "side of no kind": (lambda: Side("wall"), ValueError, "one of dirichlet, neumann, periodic"),
    "side of no place": (lambda: Side("dirichlet", at="corner"), ValueError, "one of face, center"),
    "flow side of no kind": (lambda: FlowSide("dirichlet"), ValueError, "one of wall, slip"),
    "slip that moves": (lambda: FlowSide("slip", (1.0, 0.0)), ValueError, "empty for .* 'slip'"),
    "scheme": (
        lambda: advection_diffusion(GRID, (1.0, 1.0), scheme="quick"), ValueError, "upwind, central"
    ),
    "one velocity": (lambda: advection_diffusion(GRID, 1.0), ValueError, r"one component per axis"),
    "velocity of cells": (
        lambda: advection_diffusion(GRID, (torch.ones(4, 3), 0.0)), ValueError, r"\(5, 3\)",
    ),
    "velocity that jumps": (
        lambda: advection_diffusion(GRID, (lambda x, y: x, 0.0), boundary="periodic"),
        ValueError,
        "same at both ends",
    ),
    "box of a flow": (
        lambda: box_preconditioner(advection_diffusion(GRID, (1.0, 1.0)).operator),
        ValueError,
        "must be symmetric",
    ),
    "box of a number": (lambda: box_preconditioner(3), TypeError, "must be an operator"),  # type: ignore[arg-type]
    "box too long": (
        lambda: box_preconditioner(
            poisson(Grid(5000, spacing=1.0), boundary="periodic", project=True).operator
        ),
        ValueError,
        "at most 4096",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()
