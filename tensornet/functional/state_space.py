"""Gaussian processes on a line with messages at points: filter and smoother in linear time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tensornet import _check
from tensornet.functional.matern import Matern, checked_kernel


@dataclass(frozen=True, eq=False)
class MarkovPosterior:
    """What messages say about independent Gaussian processes that they couple.

    Made by `smooth`. Letters: any batch of series, n coordinates, r processes, p components of the
    state of each. A state holds all processes, then all first derivatives, and so on.

    Args:
        kernel: Covariance of every process.
        coordinates: Sorted and distinct, (n,).
        mean: Posterior mean at the coordinates, (..., n, r).
        covariance: Posterior covariance at the coordinates, (..., n, r, r).
        log_evidence: Logarithm of the integral of the messages times the prior, (...).
        filtered: Mean of the state given the messages up to each coordinate, (..., n, p r).
        filtered_covariance: The same for the covariance, (..., n, p r, p r).
        adjoint: What this and later messages change in the mean of the state, in units of its
            predicted covariance, (..., n, p r).
        information: The same for the covariance, (..., n, p r, p r).
    """

    kernel: Matern
    coordinates: Tensor
    mean: Tensor
    covariance: Tensor
    log_evidence: Tensor
    filtered: Tensor
    filtered_covariance: Tensor
    adjoint: Tensor
    information: Tensor

    def at(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:  # (m,)
        """Give mean and covariance at any coordinates, in closed form from the two neighbours.

        Args:
            coordinates: In any order, (m,).

        Returns:
            Mean (..., m, r) and covariance (..., m, r, r).

        Raises:
            TypeError: If the coordinates are no tensor of floating numbers.
            ValueError: If they have other axes, are empty, or hold NaN or infinite numbers.
        """
        _check.dense("MarkovPosterior.at", "coordinates", coordinates, order=1)
        t, n, r = self.coordinates, len(self.coordinates), self.mean.shape[-1]
        after = torch.searchsorted(t, coordinates.contiguous(), right=True)  # first one beyond
        last, following = (after - 1).clamp(min=0), after.clamp(max=n - 1)
        first, end = after == 0, after == n
        eye = torch.eye(r, dtype=torch.float64)
        step = torch.where(first, 0.0, coordinates - t[last])
        a = _wide(self.kernel.transition(step), eye)
        before = torch.where(first[:, None], 0.0, self.filtered[..., last, :])
        stationary = _wide(self.kernel.stationary(), eye)
        spread = a @ self.filtered_covariance[..., last, :, :] @ a.mT
        spread = spread + _wide(self.kernel.innovation(step), eye)
        spread = torch.where(first[:, None, None], stationary, spread)
        mean = (a @ before[..., None])[..., 0]
        back = _wide(self.kernel.transition(torch.where(end, 0.0, t[following] - coordinates)), eye)
        adjoint = (back.mT @ self.adjoint[..., following, :, None])[..., 0]
        adjoint = torch.where(end[:, None], 0.0, adjoint)
        information = back.mT @ self.information[..., following, :, :] @ back
        information = torch.where(end[:, None, None], 0.0, information)
        top = spread[..., :r, :]
        mean = mean[..., :r] + (top @ adjoint[..., None])[..., 0]
        covariance = top[..., :r] - top @ information @ top.mT
        return mean, (covariance + covariance.mT) / 2


def smooth(
    kernel: Matern, coordinates: Tensor, precision: Tensor, shift: Tensor
) -> MarkovPosterior:
    """Combine Gaussian messages about the values of r processes with their Matern prior.

    At coordinate ``t_j`` the message is ``exp(shift_j . f - f . precision_j f / 2)`` about the
    values ``f`` of the processes there. Precisions may be singular or zero; they couple the
    processes, which are independent and alike in the prior. Cost: ``O(n (p r)^3)``.

    Args:
        kernel: Covariance of every process.
        coordinates: Strictly increasing, (n,).
        precision: Symmetric and positive semi-definite, (..., n, r, r).
        shift: Precision times mean of the messages, (..., n, r).

    Returns:
        The posterior at the coordinates, which gives it anywhere.

    Raises:
        TypeError: If the kernel is something else, or a tensor is not of float64.
        ValueError: If shapes do not fit, or coordinates do not increase.

    Derivatives:
        First order in the hyper-parameters, the coordinates and the messages; with any of them
        requiring a gradient the scan runs in torch and is slow.

    References:
        Sarkka & Svensson, Bayesian Filtering and Smoothing (2023); de Jong, Biometrika 76 (1989),
        for the smoother, which inverts no covariance.

    Examples:
        >>> two = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> posterior = smooth(Matern(0.5), two, two.new_ones(2, 1, 1), two.new_ones(2, 1))
        >>> print(f"{float(posterior.mean[0, 0]):.6f}")
        0.577681
    """
    checked_kernel("smooth", kernel)
    _check.shapes(
        "smooth", coordinates=(coordinates, "n"), precision=(precision, "...n r r"),
        shift=(shift, "...n r"),
    )  # fmt: skip
    parts = {"coordinates": coordinates, "precision": precision, "shift": shift}
    for name, x in parts.items():
        if x.dtype != torch.float64:
            raise TypeError(f"`smooth({name}=...)` must be of float64. Got {x.dtype}.")
        _check.dense("smooth", name, x)
    if precision.shape[:-1] != shift.shape:
        raise ValueError(
            f"`smooth(shift=...)` must have shape {tuple(precision.shape[:-1])}, that of the "
            f"precision without its last axis. Got {tuple(shift.shape)}."
        )
    steps = torch.diff(coordinates)
    if not bool((steps > 0).all()):
        raise ValueError(
            "`smooth(coordinates=...)` must increase strictly. Got "
            f"{int((steps <= 0).sum())} steps that do not. (Sort them, and add up the messages of "
            "equal ones.)"
        )
    transition, innovation = _steps(kernel, coordinates)
    inputs = (transition, innovation, precision, shift)
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    found = (scan_reference if differentiable else _scan)(*inputs)
    return MarkovPosterior(kernel, coordinates, *found)


def log_evidence(kernel: Matern, coordinates: Tensor, precision: Tensor, shift: Tensor) -> float:
    """Give the logarithmic evidence that `smooth` gives, of one series, by the filter alone.

    Args:
        kernel: As for `smooth`.
        coordinates: The same.
        precision: (n, r, r).
        shift: (n, r).
    """
    from tensornet.functional.state_space_scan import forwards

    steps = [x.contiguous().numpy() for x in (*_steps(kernel, coordinates), precision, shift)]
    n, r = shift.shape
    size = r * kernel.n_states
    out = [shift.new_empty(n, *shape).numpy() for shape in ((size,), (size, size)) * 2]
    return float(forwards(*steps, *out, shift.new_empty(n, r, r).numpy(), shift.clone().numpy()))


def _steps(kernel: Matern, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Give transition and innovation to each coordinate; the first begins from the prior."""
    steps = torch.diff(coordinates)
    transition = kernel.transition(torch.cat([steps.new_zeros(1), steps]))
    innovation = torch.cat([kernel.stationary()[None], kernel.innovation(steps)])
    return transition, innovation


def scan_reference(
    transition: Tensor, innovation: Tensor, precision: Tensor, shift: Tensor
) -> tuple[Tensor, ...]:
    """Filter and smooth in torch, step by step: slow, differentiable, the oracle of the kernel.

    Args:
        transition: From the coordinate before, (n, p, p).
        innovation: The same; the first is the stationary covariance, (n, p, p).
        precision: Of the messages, (..., n, r, r).
        shift: Precision times mean of the messages, (..., n, r).

    Returns:
        The last seven tensors of `MarkovPosterior`.
    """
    *batch, n, r = shift.shape
    eye = torch.eye(r, dtype=shift.dtype)
    a, q = _wide(transition, eye), _wide(innovation, eye)
    size = a.shape[-1]
    mean, covariance = shift.new_zeros(*batch, size, 1), shift.new_zeros(*batch, size, size)
    log_evidence = shift.new_zeros(batch)
    predicted, filtered, gains = [], [], []
    for t in range(n):
        mean, covariance = a[t] @ mean, a[t] @ covariance @ a[t].mT + q[t]
        predicted.append((mean, covariance))
        message, spread = precision[..., t, :, :], covariance[..., :r, :r]
        rest = shift[..., t, :, None] - message @ mean[..., :r, :]
        gain_and_push = torch.linalg.solve(
            eye + message @ spread, torch.cat([message, rest], dim=-1)
        )
        gain, push = gain_and_push[..., :r], gain_and_push[..., r:]
        gain = (gain + gain.mT) / 2
        linear = (shift[..., t, :, None] + rest).mT @ mean[..., :r, :]
        log_evidence = log_evidence + 0.5 * (
            (linear + rest.mT @ spread @ push)[..., 0, 0]
            - torch.linalg.slogdet(eye + message @ spread).logabsdet
        )
        cross = covariance[..., :r]
        mean = mean + cross @ push
        covariance = covariance - cross @ gain @ cross.mT
        covariance = (covariance + covariance.mT) / 2
        filtered.append((mean, covariance))
        gains.append((gain, push))
    adjoint, information = torch.zeros_like(mean), torch.zeros_like(covariance)
    results = []
    for t in reversed(range(n)):
        if t < n - 1:
            adjoint, information = a[t + 1].mT @ adjoint, a[t + 1].mT @ information @ a[t + 1]
        (mean, covariance), (gain, push) = predicted[t], gains[t]
        top = torch.eye(size, r, dtype=shift.dtype)
        left = torch.eye(size, dtype=shift.dtype) - top @ gain @ covariance[..., :r, :]
        adjoint = left @ adjoint + top @ push
        information = left @ information @ left.mT + top @ gain @ top.mT
        rows = covariance[..., :r, :]
        value = (mean[..., :r, :] + rows @ adjoint)[..., 0]
        results.append((value, rows[..., :r] - rows @ information @ rows.mT, adjoint, information))
    back = [torch.stack(x, dim=len(batch)) for x in zip(*reversed(results), strict=True)]
    ahead = [torch.stack(x, dim=len(batch)) for x in zip(*filtered, strict=True)]
    return back[0], back[1], log_evidence, ahead[0][..., 0], ahead[1], back[2][..., 0], back[3]


def _scan(
    transition: Tensor, innovation: Tensor, precision: Tensor, shift: Tensor
) -> tuple[Tensor, ...]:
    """Filter and smooth in Numba, one series after the other."""
    from tensornet.functional.state_space_scan import backwards, forwards

    *batch, n, r = shift.shape
    size = transition.shape[-1] * r
    series = [x.detach().contiguous() for x in (precision, shift)]
    flat = precision.new_empty
    many = series[1].numel() // (n * r)
    made = {
        name: flat(many, n, *shape)
        for name, shape in {
            "mean": (r,), "covariance": (r, r), "filtered": (size,),
            "filtered_covariance": (size, size), "adjoint": (size,), "information": (size, size),
        }.items()
    }  # fmt: skip
    log_evidence = flat(many)
    a, q = transition.detach().contiguous().numpy(), innovation.detach().contiguous().numpy()
    ready = (flat(n, size).numpy(), flat(n, size, size).numpy())
    gain, push = flat(n, r, r).numpy(), flat(n, r).numpy()
    messages, shifts = series[0].reshape(many, n, r, r), series[1].reshape(many, n, r)
    for b in range(many):
        out = {name: x[b].numpy() for name, x in made.items()}
        log_evidence[b] = forwards(
            a, q, messages[b].numpy(), shifts[b].numpy(), *ready,
            out["filtered"], out["filtered_covariance"], gain, push,
        )  # fmt: skip
        backwards(
            a, gain, push, *ready, out["adjoint"], out["information"],
            out["mean"], out["covariance"],
        )  # fmt: skip
    shaped = {name: x.reshape(*batch, *x.shape[1:]) for name, x in made.items()}
    order = ("mean", "covariance", "filtered", "filtered_covariance", "adjoint", "information")
    found = [shaped[name] for name in order]
    return (*found[:2], log_evidence.reshape(batch), *found[2:])


def _wide(small: Tensor, eye: Tensor) -> Tensor:  # (..., p, p), (r, r) -> (..., p r, p r)
    """Apply a matrix of one process to all of them."""
    p, r = small.shape[-1], len(eye)
    product = small[..., :, None, :, None] * eye[:, None, :]
    return product.reshape(*small.shape[:-2], p * r, p * r)
