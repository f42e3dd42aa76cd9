"""Steady advection and diffusion, ``div(velocity u - diffusivity grad u) = source``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.pde.boundary import Boundary
from tensornet.pde.domain import Domain
from tensornet.pde.grid import Field, Grid
from tensornet.pde.operator import StencilOperator
from tensornet.pde.poisson import coupling, grounded
from tensornet.pde.problem import Problem, coefficient_of, domain_of, finished

SCHEMES = ("upwind", "central")


def advection_diffusion(
    grid: Grid | Domain,
    velocity: Field | Sequence[Field],
    *,
    diffusivity: Field = 1.0,
    scheme: str = "upwind",
    mask: Tensor | None = None,  # (*shape) bool
    boundary: Boundary | None = None,
    source: Field = 0.0,
    exact: Field | None = None,
    project: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Problem:
    """Discretise ``div(velocity u - diffusivity grad u) = source``, in conservative form.

    Velocities stand at faces. The advected value at a face is that of the cell the flow comes from
    (``"upwind"``: first order, no over- and undershoots) or the mean of both (``"central"``: second
    order; wiggles where the velocity times the spacing exceeds twice the diffusivity). At a held
    value the flow brings that value in; through a Neumann side of the box it leaves with the value
    of the last cell; through Neumann walls nothing flows. The operator is not symmetric.

    Args:
        grid: The grid; or a `Domain`, which says the mask and the boundary, and more.
        velocity: One component per axis: a number, a function of the coordinates at the faces, or
            a tensor with one more entry along its own axis than the grid.
        diffusivity: At least zero, in the active cells.
        scheme: ``"upwind"`` or ``"central"``.
        mask: True where the equation holds. Other cells are walls.
        boundary: What holds at the sides of the box, by default ``"dirichlet"``. See `Domain`.
        source: The source, any batch in front.
        exact: The solution where it is known, for tests; kept in the problem.
        project: Where nothing can leave, subtract the mean of the right side over the part.
            Otherwise a right side that cannot be reached is refused.
        dtype: Of the operator.
        device: Where it is; that of the mask by default.

    Returns:
        The problem.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If shapes differ, numbers are NaN or infinite, the diffusivity is negative, a
            velocity differs at the two ends of a periodic axis, the mask makes no sense, or the
            source cannot be reached.

    Derivatives:
        Any order: the operator in velocity and diffusivity, the right side in source and boundary.

    References:
        Patankar, Numerical Heat Transfer and Fluid Flow (1980), chapter 5.

    Examples:
        >>> from tensornet.pde import dirichlet
        >>> grid = Grid(4, spacing=0.25)
        >>> problem = advection_diffusion(grid, 1.0, diffusivity=0.0, boundary=dirichlet(3.0))
        >>> problem.residual(torch.full((4,), 3.0, dtype=torch.float64))
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    where = "advection_diffusion"
    _check.one_of(where, SCHEMES, scheme=scheme)
    domain = domain_of(where, grid, mask, boundary, device)
    k = coefficient_of(where, "diffusivity", domain, diffusivity, dtype, zero=True)
    anchor, load = grounded(where, domain, k, dtype)
    parts = list(velocity) if isinstance(velocity, Sequence) else [velocity]
    if len(parts) != domain.grid.dim:
        raise ValueError(
            f"`{where}(velocity=...)` must have one component per axis ({domain.grid.dim}). "
            f"Got {len(parts)}."
        )
    diagonal, weights = anchor, []
    for axis, part in enumerate(parts):
        v = _at_faces(domain, part, axis, dtype)
        face = coupling(domain, k, axis)
        for step, weight in ((-1, face.roll(1, axis)), (1, face)):
            out = step * v.narrow(axis, (step + 1) // 2, domain.grid.shape[axis])
            own, other, more = _advected(domain, scheme, axis, step, out, k, dtype)
            diagonal = diagonal + weight + own
            weights.append(weight + other)
            load = load + more
    operator = StencilOperator(
        domain, "sides", anchor, tuple(weights), diagonal=diagonal, coefficient=k
    )
    return finished(where, operator, load, source, exact, project)


def _at_faces(domain: Domain, part: Field, axis: int, dtype: torch.dtype) -> Tensor:
    """One component of the velocity at the faces across its axis, one more than cells."""
    grid, where = domain.grid, "advection_diffusion"
    points = list(grid.axes(dtype=dtype, device=domain.device))
    faces = torch.arange(grid.shape[axis] + 1, dtype=torch.float64, device=domain.device)
    points[axis] = (grid.origin[axis] + faces * grid.spacing[axis]).to(dtype)
    mesh = torch.meshgrid(*points, indexing="ij")
    v = grid.evaluated(part, mesh, where, "velocity")
    if v.ndim and v.shape != mesh[0].shape:
        raise ValueError(
            f"`{where}(velocity=...)` must have the shape {tuple(mesh[0].shape)} of the faces "
            f"across axis {axis}. Got {tuple(v.shape)}."
        )
    v = v.expand(mesh[0].shape)
    if domain.periodic[axis]:
        ends = v.detach().select(axis, 0), v.detach().select(axis, -1)
        size = float(v.detach().abs().max())
        if float((ends[0] - ends[1]).abs().max()) > 1e3 * torch.finfo(dtype).eps * size:
            raise ValueError(
                f"`{where}(velocity=...)` must be the same at both ends of a periodic axis. Got "
                f"a difference of {float((ends[0] - ends[1]).abs().max()):.3g} along axis {axis}."
            )
    return v


def _advected(
    domain: Domain, scheme: str, axis: int, step: int, out: Tensor, k: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:  # diagonal, weight of the neighbour, right side
    """What the flow `out` of every cell through one side adds, per spacing."""
    h = domain.grid.spacing[axis]
    upwind = scheme == "upwind"
    own = (out.clamp_min(0) if upwind else out / 2) / h
    other = ((-out).clamp_min(0) if upwind else -out / 2) / h
    inner = domain.inner(axis, step)
    diagonal, load = inner * own, torch.zeros_like(k)
    for kind, cells, box in domain.outer(axis, step):
        value = domain.value(kind, axis, step, box, dtype, "advection_diffusion")
        if kind.kind == "dirichlet":
            at_face = not upwind and kind.at == "face"
            diagonal = diagonal + (0 if at_face else cells * own)
            load = load + cells * (-out / h if at_face else other) * value
        elif box:
            diagonal = diagonal + cells * out / h
            if not upwind:
                load = load - cells * out * value / (2 * k.masked_fill(k == 0, torch.inf))
    return diagonal, inner * other, load
