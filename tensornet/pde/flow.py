"""What all discretised flows have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from tensornet import _check
from tensornet.linalg import Solution
from tensornet.pde.flow_case import FlowCase, positive_number
from tensornet.pde.flow_solve import (
    broadcast,
    check_states,
    coloured,
    finite,
    mixed,
    pseudo_time,
    refuse_long_steps,
    told,
)
from tensornet.pde.grid import expanded


class Flow(ABC):
    """An incompressible flow, discretised in space and time.

    A step of time from `state` to `state_next` is where `residual` is zero. With ``theta = 1``
    this is Euler's implicit step, with ``theta = 1/2`` the implicit midpoint rule, of second order.
    Any batch may stand in front of states.

    Args:
        case: The grid, the sides, the viscosity and the steps.

    Attributes:
        case: As given. Its parts are attributes too: `grid`, `dt`, `viscosity`, `theta`, `sides`,
            `dtype` and `device`, described at `FlowCase`.
        state_shape: Shape of a state, without a batch.
    """

    state_shape: tuple[int, ...]
    _reach = 1  # of the stencil of the residual, along an axis

    def __init__(self, case: FlowCase) -> None:
        self.case = case
        self.grid, self.dt, self.viscosity = case.grid, case.dt, case.viscosity
        self.sides, self.theta = case.sides, case.theta
        self.dtype, self.device = case.dtype, case.device
        self._pinned: list[int] = []  # numbers of a state that may be anything, one per part

    @abstractmethod
    def _residual(self, after: Tensor, before: Tensor) -> Tensor:  # (b, *state_shape) each
        """Do what `residual` does, on one axis of batch."""

    @abstractmethod
    def _precondition(self, residual: Tensor) -> Tensor:  # (b, *state_shape)
        """Do what `precondition` does, on one axis of batch."""

    @abstractmethod
    def _mass(self, x: Tensor) -> Tensor:  # (b, *state_shape)
        """What the change of the state is multiplied with in the residual, times dt."""

    @abstractmethod
    def _rest(self, x: Tensor) -> Tensor:  # (b, *state_shape)
        """The residual of a state that does not change."""

    @abstractmethod
    def _explicit(self, x: Tensor) -> Tensor:  # (b, *state_shape)
        """Do one explicit step."""

    @abstractmethod
    def _speeds(self, x: Tensor) -> tuple[Tensor, ...]:  # each (b, ...), one per axis
        """Components of the velocity somewhere, for the limit of explicit steps."""

    @abstractmethod
    def _held_speeds(self) -> tuple[Tensor, ...]:
        """Components of velocities that sides hold."""

    @abstractmethod
    def _turbulence(self, batch: int, peak: float, generator: torch.Generator) -> Tensor:
        """Random states of any speed, ``(b, *state_shape)``."""

    @abstractmethod
    def _taylor_green(self) -> Tensor:  # (*state_shape)
        """The vortices of Taylor and Green."""

    @abstractmethod
    def _at_rest(self) -> Tensor:  # (*state_shape)
        """A fluid that does not move, but where it is held."""

    @abstractmethod
    def energy(self, state: Tensor) -> Tensor:  # (..., *state_shape) -> (...)
        """Return the kinetic energy, ``½ ∫ |u|²``, per unit of density.

        Args:
            state: The state.

        Returns:
            One number per state, (...).
        """

    def initial(
        self,
        kind: str = "rest",
        *,
        batch: int | Sequence[int] = (),
        speed: float = 1.0,
        peak: float = 4.0,
        seed: int = 0,
    ) -> Tensor:  # (*batch, *state_shape)
        """Make states to begin with.

        Args:
            kind: ``"rest"``; ``"taylor_green"``, in a periodic box the vortices ``u = cos x sin y
                (cos z)``, ``v = -sin x cos y (cos z)`` over one period of each axis; or
                ``"turbulence"``, random velocities with the spectrum ``k^4 exp(-2 (k / peak)^2)``,
                that go to zero at walls.
            batch: Shape of the batch.
            speed: Largest velocity of the vortices; root of the mean square of the turbulence.
            peak: Wave number of the largest energy, in waves per longest side.
            seed: Of the random numbers.

        Returns:
            The states; pressures are zero.

        Raises:
            ValueError: If the kind is unknown, vortices are asked between walls, or numbers are
                not positive and finite.

        References:
            Taylor & Green, Proc. R. Soc. A 158, 499 (1937).
        """
        _check.one_of("initial", ("rest", "taylor_green", "turbulence"), kind=kind)
        positive_number("initial", "speed", speed)
        positive_number("initial", "peak", peak)
        sizes = (batch,) if isinstance(batch, int) else tuple(batch)
        for n in sizes:
            _check.at_least("initial", 0, batch=n)
        if kind == "rest":
            return self._at_rest().expand(*sizes, *self.state_shape).clone()
        if kind == "taylor_green":
            if any(low.kind != "periodic" for low, _ in self.sides):
                raise ValueError(
                    "`initial(kind='taylor_green')` must be asked in a periodic box. Got walls."
                )
            return (speed * self._taylor_green()).expand(*sizes, *self.state_shape).clone()
        generator = torch.Generator().manual_seed(seed)
        made = self._turbulence(prod(sizes), peak, generator)
        volume = prod(self.grid.lengths)
        scale = speed / (2 * self.energy(made) / volume).sqrt()
        made = made * scale.reshape(-1, *(1,) * len(self.state_shape))
        return made.reshape(*sizes, *self.state_shape)

    def residual(
        self,
        state_next: Tensor,  # (..., *state_shape)
        state: Tensor,  # (..., *state_shape)
    ) -> Tensor:  # (..., *state_shape)
        """Discretised equation of a step; zero where `state_next` follows `state`.

        Args:
            state_next: The state after the step.
            state: The state before, of the same batch or one that broadcasts.

        Returns:
            The residual, ``(..., *state_shape)``.

        Raises:
            TypeError: If a state is no tensor of the dtype of the flow.
            ValueError: If a shape or the device is another.

        Derivatives:
            Any order, in both states.
        """
        self._check("residual", state_next=state_next, state=state)
        after, before = broadcast("residual", state_next=state_next, state=state)
        return self._residual(self._rows(after), self._rows(before)).reshape(after.shape)

    def precondition(self, residual: Tensor) -> Tensor:  # (..., *state_shape) twice
        """Apply the inverse of the linear part of the step, by fast diagonalisation.

        Where the flow is slow, ``state_next - precondition(residual(state_next, state))`` is the
        state after the step. As a loss its square weighs errors of the state, not of its high
        derivatives.

        Args:
            residual: What `residual` gave, or anything of this shape.

        Returns:
            A change of the state, of the same shape.

        Raises:
            TypeError: If it is no tensor of the dtype of the flow.
            ValueError: If the shape or the device is another.

        Derivatives:
            Any order.
        """
        self._check("precondition", residual=residual)
        return self._precondition(self._rows(residual)).reshape(residual.shape)

    def step(
        self,
        state: Tensor,  # (..., *state_shape)
        *,
        method: str = "implicit",
        rtol: float = 1e-8,
        maxiter: int = 100,
        start: Tensor | None = None,  # (..., *state_shape)
    ) -> Solution[Tensor]:
        """Do one step of time.

        The implicit step is the fixed point ``x - precondition(residual(x, state))``, reached by
        Anderson's mixing: one residual and one fast diagonalisation per iteration. The explicit
        one is the Runge-Kutta method of Shu and Osher, of third order, and must be short.

        Args:
            state: The state before.
            method: ``"implicit"`` or ``"explicit"``.
            rtol: Norm of the residual at which to stop, over that of the residual of a state of
                zeros that follows `state`.
            maxiter: Most iterations.
            start: Where the iteration starts; `state` by default.

        Returns:
            The state after the step, with the history of the largest relative residual.

        Raises:
            TypeError: If a state is no tensor of the dtype of the flow.
            ValueError: If a state has another shape or is not finite, or the time step is too
                long for an explicit step.

        Derivatives:
            None: the state after the step is detached. `residual` has them.

        References:
            Anderson, J. ACM 12, 547 (1965); Shu & Osher, J. Comput. Phys. 77, 439 (1988).
        """
        _check.one_of("step", ("implicit", "explicit"), method=method)
        _check.tolerance("step", rtol=rtol)
        _check.at_least("step", 1, maxiter=maxiter)
        begin = state if start is None else start
        self._check("step", state=state, start=begin)
        finite("step", state=state, start=begin)
        if not state.numel():
            return Solution(state.detach().clone(), True, "No states.", (), 0)
        with torch.no_grad():
            before = self._rows(state)
            if method == "explicit":
                self._check_limit(before)
                after = self._explicit(before).reshape(state.shape)
                return Solution(after, True, "One explicit step.", (), 1)
            rows = self._rows(expanded("step", "start", begin, state.shape)).detach()
            zero = self._quick(torch.zeros_like(before), before)
            scale = torch.linalg.vector_norm(zero.flatten(1), dim=1)
            scale = torch.where(scale > 0, scale, torch.ones_like(scale))
            found = self._solved(before.detach(), rows, scale, rtol, maxiter)
        after, error, history, counts = found
        return Solution(
            after.reshape(state.shape),
            bool((error <= rtol).all()),
            told(error, rtol, maxiter),
            tuple(history),
            int(counts.max()),
        )

    def rollout(
        self,
        state: Tensor,  # (..., *state_shape)
        n_steps: int,
        *,
        method: str = "implicit",
        rtol: float = 1e-8,
        maxiter: int = 100,
    ) -> Tensor:  # (n_steps + 1, ..., *state_shape)
        """Do many steps, each started by extrapolation from the two before.

        Args:
            state: The first state.
            n_steps: How many steps.
            method: As in `step`.
            rtol: As in `step`.
            maxiter: As in `step`.

        Returns:
            All states, the first included.

        Raises:
            TypeError: As `step`.
            ValueError: As `step`.
            RuntimeError: If a step does not converge, with its number.
        """
        _check.at_least("rollout", 0, n_steps=n_steps)
        self._check("rollout", state=state)
        states = [state.detach()]
        for k in range(n_steps):
            start = 2 * states[-1] - states[-2] if k else None
            done = self.step(states[-1], method=method, rtol=rtol, maxiter=maxiter, start=start)
            if not done.converged:
                raise RuntimeError(f"`rollout`: step {k + 1} of {n_steps} failed. {done.message}")
            states.append(done.value)
        return torch.stack(states)

    def steady(
        self,
        state: Tensor | None = None,  # (*state_shape)
        *,
        rtol: float = 1e-10,
        maxiter: int = 60,
    ) -> Solution[Tensor]:
        """Find a state that does not change, by Newton's method with sparse factorisations.

        Its first iterations are implicit steps of time, which grow as the residual falls.

        Args:
            state: Where to start; rest by default.
            rtol: Norm of the residual at which to stop, over that of rest.
            maxiter: Most iterations.

        Returns:
            The state, with the history of the relative residual.

        Raises:
            TypeError: If the state is no tensor of the dtype of the flow.
            ValueError: If it is a batch, is not finite, or the grid has three axes.
        """
        if self.grid.dim != 2:
            raise ValueError(
                "`steady(...)` must be asked in two dimensions, for it factorises matrices. Got "
                f"{self.grid.dim}. (Do steps of time until the state stands still.)"
            )
        x = state
        if x is None:
            x = torch.zeros(self.state_shape, dtype=self.dtype, device=self.device)
        self._check("steady", state=x)
        if x.ndim != len(self.state_shape):
            raise ValueError(f"`steady(state=...)` must be one state. Got {tuple(x.shape)}.")
        finite("steady", state=x)
        with torch.no_grad():
            zero = torch.zeros_like(x)[None]
            scale = float(torch.linalg.vector_norm(self._rest(zero))) or 1.0
            rings = tuple(low.kind == "periodic" for low, _ in self.sides)
            matrix = partial(coloured, shape=self.state_shape, reach=self._reach, rings=rings)
            mass = matrix(partial(self._probed, self._mass))
            slope = partial(self._probed, self._slope)
            found, history = pseudo_time(
                self._rest, mass, lambda at: matrix(partial(slope, at=at)),
                x.detach()[None], scale, rtol, maxiter, self._turnover(x[None]), self._pinned,
            )  # fmt: skip
        said = told(torch.tensor(history[-1:], dtype=torch.float64), rtol, maxiter)
        return Solution(found[0], history[-1] <= rtol, said, tuple(history), len(history) - 1)

    def _solved(
        self, before: Tensor, x: Tensor, scale: Tensor, rtol: float, maxiter: int
    ) -> tuple[Tensor, Tensor, list[float], Tensor]:
        """Find the states after a step from where they may be, as `mixed` gives them."""
        return mixed(lambda x: self._quick(x, before), self._precondition, x, scale, rtol, maxiter)

    def _quick(self, after: Tensor, before: Tensor) -> Tensor:
        """Do what `_residual` does, where no derivatives are asked."""
        return self._residual(after, before)

    def _turnover(self, x: Tensor) -> float:
        """A time in which the flow crosses the box, or viscosity does."""
        fastest = max(float(v.abs().max()) for v in (*self._speeds(x), *self._held_speeds()))
        length = min(self.grid.lengths)
        return length / fastest if fastest else length**2 / self.viscosity

    def _probed(self, call: Callable[..., Tensor], x: Tensor, **options: Tensor) -> Tensor:
        """Ask a map in double precision on the CPU, whatever the flow is in."""
        return call(x.to(self.device, self.dtype), **options).cpu().double()

    def _slope(self, x: Tensor, *, at: Tensor) -> Tensor:
        """Derivative of `_rest`, exact for it is quadratic."""
        return (self._rest(at + x) - self._rest(at - x)) / 2

    def _check_limit(self, x: Tensor) -> None:
        """Refuse explicit steps beyond the limit of stability of Shu and Osher's method."""
        spacing = self.grid.spacing
        swept = sum(
            v.abs().flatten(1).amax(1) / h for v, h in zip(self._speeds(x), spacing, strict=True)
        )
        courant = float(self.dt * torch.as_tensor(swept).max()) if len(x) else 0.0
        spread = self.dt * self.viscosity * sum(4 / h**2 for h in spacing)
        refuse_long_steps(self.dt, courant, spread)

    def _rows(self, x: Tensor) -> Tensor:
        return x.reshape(prod(self._batch(x)), *self.state_shape)

    def _batch(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[: x.ndim - len(self.state_shape)])

    def _check(self, where: str, **states: Tensor) -> None:
        check_states(where, states, self.state_shape, self.dtype, self.device)
