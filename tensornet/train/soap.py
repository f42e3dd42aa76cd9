"""SOAP: Adam in the basis in which the gradients of a weight are least correlated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOST = 512  # a longer axis keeps its own basis: eigenvectors would cost more than they give
OPEN = 1e-10  # of the largest eigenvalue: directions below it are not determined by the gradients
STILL = 1e-8  # of the mean eigenvalue: added to all, so that such directions stay as they are


class SOAP(torch.optim.Optimizer):
    """Shampoo with Adam in the preconditioner's eigenbasis.

    The second moment of the gradient of a weight is approximated by a Kronecker product with one
    factor per axis. Adam runs in the eigenbasis of the factors, which follow slowly: in each
    `every`-th step one step of orthogonal iteration is made. A vector is left to Adam. Weights of
    one shape are treated in one batch. The first step only looks at the gradients. In directions
    that have had no gradient yet the basis follows from the order of the components, not from
    rounding: in float64, runs whose gradients agree to rounding have weights that do.

    Args:
        weights: Parameters.
        lr: Learning rate.
        betas: Decay of the mean of the gradient, and of its squares and factors.
        epsilon: Added to the root of the squares.
        weight_decay: Decoupled from the gradient, as in AdamW.
        every: Steps between two updates of the bases.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, arXiv 2409.11321 (2024),
        algorithm 3. Harari et al., Beyond Adam: SOAP and Muon for machine learning interatomic
        potentials, arXiv 2607.02499 (2026).

    Examples:
        >>> w = torch.nn.Parameter(torch.ones(3, 2))
        >>> optimizer = SOAP([w], lr=0.05)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     w.square().sum().backward()
        ...     optimizer.step()
        >>> bool(w.square().sum() < 3)  # it was 6
        True
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float = 3e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
    ) -> None:
        if lr <= 0 or epsilon <= 0 or weight_decay < 0 or every < 1:
            raise ValueError(
                "`SOAP(lr=..., epsilon=..., weight_decay=..., every=...)` must be positive "
                f"(weight_decay may be 0). Got {lr}, {epsilon}, {weight_decay} and {every}."
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"`SOAP(betas=...)` must be from 0 to below 1. Got {betas}.")
        settings = {
            "lr": lr,
            "betas": betas,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
            "every": every,
        }
        super().__init__(weights, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the weights. Without a gradient, it counts as zero.

        Args:
            closure: Computes the loss and its gradients again; rarely wanted.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            batches: dict[Any, list[Tensor]] = {}
            for w in group["params"]:
                batches.setdefault((w.shape, w.dtype, w.device), []).append(w)
            for weights in batches.values():
                if any(w.grad is not None for w in weights):
                    self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], settings: dict[str, Any]) -> None:
        """Make a step with weights of one shape."""
        gradient = torch.stack([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])
        state = self.state[weights[0]]
        if not state and not bool(torch.isfinite(gradient).all()):
            return  # no basis can be made of these; whoever trains looks for NaN
        if not state:
            axes = [k for k, d in enumerate(weights[0].shape) if 1 < d <= MOST]
            state["step"] = 0
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
            state["factors"] = {k: _second(gradient, k) for k in axes if weights[0].ndim > 1}
            state["bases"] = {k: _eigenvectors(f) for k, f in state["factors"].items()}
            return
        state["step"] += 1
        t, (beta, beta2) = state["step"], settings["betas"]
        mean, square, bases = state["mean"], state["square"], state["bases"]
        mean.lerp_(gradient, 1 - beta)
        turned = gradient
        for k, q in bases.items():
            turned, mean = _along(turned, q, k), _along(mean, q, k)
        square.mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
        size = math.sqrt(1 - beta2**t) / (1 - beta**t)
        move = mean * size / (square.sqrt().add_(settings["epsilon"]))
        for k, q in bases.items():
            move = _along(move, q.mT, k)
        shrink = 1 - settings["lr"] * settings["weight_decay"]
        for w, by in zip(weights, move, strict=True):
            w.mul_(shrink).add_(by, alpha=-settings["lr"])
        for k, factor in state["factors"].items():
            factor.lerp_(_second(gradient, k), 1 - beta2)
        if t % settings["every"] == 0:
            _follow(state)


def _along(x: Tensor, q: Tensor, axis: int) -> Tensor:  # (b, ..., d, ...), (b, d, d)
    """Multiply a matrix from the right into one axis of each tensor."""
    shape = x.shape
    if axis == len(shape) - 2:
        return (x.reshape(shape[0], -1, shape[-1]) @ q).view(shape)
    before = math.prod(shape[1 : axis + 1])
    x = x.reshape(shape[0], before, shape[axis + 1], -1)
    return (q.mT[:, None] @ x).view(shape)


def _second(x: Tensor, axis: int) -> Tensor:  # (b, ..., d, ...) -> (b, d, d)
    """Products of the slices along one axis."""
    if axis == x.ndim - 2:
        x = x.reshape(len(x), -1, x.shape[-1])
        return x.mT @ x
    x = x.movedim(axis + 1, 1).reshape(len(x), x.shape[axis + 1], -1)
    return x @ x.mT


def _eigenvectors(factor: Tensor) -> Tensor:  # (b, d, d)
    """Eigenvectors; in the kernel those of a ramp over the components, which are unique."""
    values, vectors = torch.linalg.eigh(factor)
    inside = values <= OPEN * values[:, -1:]
    kernel = vectors * inside[:, None]
    d = values.shape[1]
    ramp = torch.linspace(0, 1, d, dtype=values.dtype, device=values.device)
    place = torch.arange(2, d + 2, dtype=values.dtype, device=values.device)
    # Outside of the kernel a diagonal matrix without equal entries: these vectors stay.
    within = kernel.mT @ (ramp[:, None] * kernel) + torch.diag_embed(place.where(~inside, 0.0))
    turned: Tensor = vectors @ torch.linalg.eigh(within)[1]
    return turned


def _follow(state: dict[str, Any]) -> None:
    """Turn the bases towards the eigenvectors of the factors, largest first."""
    for k, factor in state["factors"].items():
        mean = factor.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        image = factor @ state["bases"][k] + STILL * mean * state["bases"][k]
        order = (state["bases"][k] * image).sum(1).argsort(dim=1, descending=True)
        image = image.gather(2, order[:, None].expand_as(image))
        state["bases"][k] = torch.linalg.qr(image)[0]
        shape = [1] * state["square"].ndim
        shape[0], shape[k + 1] = order.shape
        index = order.view(shape).expand_as(state["square"])
        state["square"] = state["square"].gather(k + 1, index)
