"""Conjugate gradients: plain, preconditioned, flexible, and with the directions of a network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tensornet import _check
from tensornet.linalg.conjugate import ConjugateDirections
from tensornet.linalg.flexible import FlexibleDirections
from tensornet.linalg.krylov_record import Record, norms
from tensornet.linalg.linear_map import Operator
from tensornet.linalg.linear_system import Arguments, Call, Vector
from tensornet.linalg.solution import LinearSolution


def cg(
    A: Operator,  # (n, n)
    b: Vector,  # (..., n)
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Operator | None = None,  # (n, n)
    callback: Callable[[Vector], object] | None = None,
    x0: Vector | None = None,  # (..., n)
) -> LinearSolution[Vector]:  # value (..., n)
    """Solve symmetric positive definite systems by conjugate gradients.

    The arguments are those of `scipy.sparse.linalg.cg`, for any batch of right-hand sides: each
    takes its own steps, and leaves when it is done. Before a system is called converged its
    residual is recomputed from the solution; if it is above the goal the iteration goes on from
    there. What goes wrong (negative curvature, an operator that is singular or not symmetric, a
    preconditioner that is not positive) ends that system and is told in the message.

    A symmetric operator is recognised by the first two directions of each system, which costs two
    inner products; systems that take one step are not looked at.

    Args:
        A: Function or module of tensors ``(..., n)``, which keeps the shape; or a matrix of torch,
            NumPy or SciPy; or a SciPy `LinearOperator`. If it has `nullspace`, rows ``(m, n)`` that
            it maps to zero, those parts of `b` and of the solution are taken off.
        b: Right-hand sides, of torch or NumPy.
        rtol: Largest ``‖b - A x‖ / ‖b‖``.
        atol: Largest ``‖b - A x‖``; the larger of the two goals counts.
        maxiter: Largest number of iterations; by default ``10 n``.
        M: Approximate inverse, of any of these kinds, symmetric positive definite. A network of
            another dtype is given tensors of its own.
        callback: Called with the solutions after each iteration.
        x0: First guess.

    Returns:
        The solutions in the kind of `b`, with residuals and a message.

    Raises:
        TypeError: If dtypes differ, or something is no operator.
        ValueError: If shapes do not fit, or `b` is not finite.

    Derivatives:
        In `b`, and in the tensors without a graph of their own that a torch `A` is made of, of any
        order: one more system each. A system for a gradient that does not converge warns.

    References:
        Hestenes & Stiefel, J. Res. Nat. Bur. Stand. 49, 409 (1952), section 3.

    Examples:
        >>> import torch
        >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
        >>> solution = cg(A, torch.tensor([1.0, 2.0]))
        >>> [round(x, 4) for x in solution.value.tolist()], solution.n_iterations
        ([0.0909, 0.6364], 2)
    """
    return _conjugate(Arguments("cg", A, b, M, x0, rtol, atol, callback), maxiter)


def pcg(
    A: Operator,  # (n, n)
    b: Vector,  # (..., n)
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Operator,  # (n, n)
    callback: Callable[[Vector], object] | None = None,
    x0: Vector | None = None,  # (..., n)
) -> LinearSolution[Vector]:  # value (..., n)
    """Solve symmetric positive definite systems by preconditioned conjugate gradients.

    This is `cg`, where `M` must be given.

    Args:
        A: The operator, see `cg`.
        b: Right-hand sides, of torch or NumPy.
        rtol: Largest ``‖b - A x‖ / ‖b‖``.
        atol: Largest ``‖b - A x‖``; the larger of the two goals counts.
        maxiter: Largest number of iterations; by default ``10 n``.
        M: Approximate inverse, symmetric positive definite: a function, a matrix, a SciPy operator,
            `incomplete_cholesky(A)`, or ``aspreconditioner()`` of a pyamg hierarchy.
        callback: Called with the solutions after each iteration.
        x0: First guess.

    Returns:
        The solutions in the kind of `b`, with residuals and a message.

    Raises:
        TypeError: If dtypes differ, or something is no operator.
        ValueError: If shapes do not fit, or `b` is not finite.

    Derivatives:
        As `cg`. None in `M`, on which the solution does not depend.

    References:
        Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.1.

    Examples:
        >>> import torch
        >>> A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
        >>> pcg(A, torch.ones(2), M=torch.linalg.inv(A)).n_iterations
        1
    """
    return _conjugate(Arguments("pcg", A, b, M, x0, rtol, atol, callback), maxiter)


def fcg(
    A: Operator,  # (n, n)
    b: Vector,  # (..., n)
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Operator | None = None,  # (n, n)
    callback: Callable[[Vector], object] | None = None,
    x0: Vector | None = None,  # (..., n)
    mmax: int = 2,
    truncation: str = "standard",
) -> LinearSolution[Vector]:  # value (..., n)
    """Solve symmetric positive definite systems with a preconditioner that may change.

    Each proposal ``M(r)`` is made A-orthogonal to the last few directions, and the step along it is
    the best. So the error decreases in the energy norm whatever `M` is; a proposal that is not
    finite, zero or at right angles to the residual is replaced by the residual, and the message
    says how often. With a fixed symmetric positive definite `M` and ``mmax=1`` this is `pcg`.

    Args:
        A: The operator, see `cg`.
        b: Right-hand sides, of torch or NumPy.
        rtol: Largest ``‖b - A x‖ / ‖b‖``.
        atol: Largest ``‖b - A x‖``; the larger of the two goals counts.
        maxiter: Largest number of iterations; by default ``10 n``.
        M: Any function of residuals, as a network or a cycle of multigrid; or a matrix.
        callback: Called with the solutions after each iteration.
        x0: First guess.
        mmax: How many directions are remembered; zero is steepest descent. Two vectors each.
        truncation: ``"standard"`` uses all that are remembered, ``"notay"``
            ``max(1, i mod (mmax + 1))`` of them in iteration i.

    Returns:
        The solutions in the kind of `b`, with residuals and a message.

    Raises:
        TypeError: If dtypes differ, or something is no operator.
        ValueError: If shapes do not fit, or `b` is not finite.

    Derivatives:
        As `cg`, with `M` in the system for the gradient too.

    References:
        Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22, 1444 (2000), section 2.

    Examples:
        >>> import torch
        >>> A = torch.diag(torch.arange(1.0, 6.0))
        >>> solution = fcg(A, torch.ones(5), M=lambda r: r / (1 + r.abs()), rtol=1e-10)
        >>> solution.converged
        True
    """
    _check.at_least("fcg", 0, mmax=mmax)
    _check.one_of("fcg", ("standard", "notay"), truncation=truncation)
    arguments = Arguments("fcg", A, b, M, x0, rtol, atol, callback)
    return _flexible(arguments, maxiter, mmax, notay=truncation == "notay")


def deep_conjugate_direction(
    A: Operator,  # (n, n)
    b: Vector,  # (..., n)
    direction: Callable[[Tensor], Tensor],
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 100,
    n_orthogonal: int = 2,
    callback: Callable[[Vector], object] | None = None,
) -> LinearSolution[Vector]:  # value (..., n)
    """Solve symmetric positive definite systems along directions that a network proposes.

    The network sees the residual divided by its norm; the rest is `fcg`. So scaling `b` scales the
    solution, and a network that fails costs iterations, not correctness.

    Args:
        A: The operator, see `cg`.
        b: Right-hand sides, of torch or NumPy.
        direction: Network, or any function of unit residuals ``(..., n)`` that keeps the shape. It
            is given tensors of the dtype of its weights.
        tolerance: Largest ``‖b - A x‖ / ‖b‖``.
        max_iterations: Largest number of iterations, that is of calls of the network.
        n_orthogonal: To how many of the last directions the next is made A-orthogonal.
        callback: Called with the solutions after each iteration.

    Returns:
        The solutions in the kind of `b`, with residuals and a message.

    Raises:
        TypeError: If dtypes differ, or something is no operator.
        ValueError: If shapes do not fit, or `b` is not finite.

    Derivatives:
        As `cg`, with the network in the system for the gradient too; none in the network.

    References:
        Kaneda et al., A deep conjugate direction method for iteratively solving linear systems,
        ICML (2023).

    Examples:
        >>> import torch
        >>> A = torch.diag(torch.arange(1.0, 6.0))
        >>> solution = deep_conjugate_direction(A, torch.ones(5), torch.nn.Identity())
        >>> solution.converged, solution.n_iterations
        (True, 5)
    """
    where = "deep_conjugate_direction"
    _check.tolerance(where, tolerance=tolerance)
    _check.at_least(where, 0, max_iterations=max_iterations, n_orthogonal=n_orthogonal)
    arguments = Arguments(
        where, A, b, direction, None, tolerance, 0.0, callback, proposal="direction"
    )
    return _flexible(arguments, max_iterations, n_orthogonal, unit=True)


def _conjugate(arguments: Arguments[Vector], maxiter: int | None) -> LinearSolution[Vector]:
    limit = _limit(arguments, maxiter)

    def run(call: Call, b: Tensor, record: Record) -> Tensor:
        return ConjugateDirections(call.A, call.M, b, call.x0, record).run(limit(b), call.callback)

    return arguments.solve(run, symmetric=True)


def _flexible(
    arguments: Arguments[Vector],
    maxiter: int | None,
    width: int,
    *,
    notay: bool = False,
    unit: bool = False,
) -> LinearSolution[Vector]:
    limit = _limit(arguments, maxiter)

    def run(call: Call, b: Tensor, record: Record) -> Tensor:
        propose = call.M

        def of_unit(r: Tensor) -> Tensor:
            assert propose is not None
            return propose(r / norms(r)[:, None])

        states = FlexibleDirections(
            call.A,
            of_unit if unit else propose,
            b,
            call.x0,
            record,
            width=width,
            notay=notay,
            proposal=arguments.proposal,
        )
        return states.run(limit(b), call.callback)

    return arguments.solve(run, symmetric=True)


def _limit(arguments: Arguments[Vector], maxiter: int | None) -> Callable[[Tensor], int]:
    if maxiter is not None:
        _check.at_least(arguments.where, 0, maxiter=maxiter)
    return lambda b: 10 * b.shape[-1] if maxiter is None else maxiter
