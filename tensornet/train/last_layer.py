"""Uncertainties of energies from the last layer of one model: what they cost is one fit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tensornet.models.network import Network
from tensornet.train.batches import Batches

RIDGES = tuple(10.0**k for k in range(-10, 1))


def fit_spread(
    model: Network,
    train: Any,
    valid: Any,
    *,
    batch_size: int = 16,
    max_edges: int | None = None,
) -> str:
    """Fit how uncertain a model's last weights are, and how large its errors are for that.

    The weights of the last layer h are those of a linear regression of energies per atom on h.
    Its covariance, from the training structures, makes the variance of a prediction h·C h; ridge
    and size are those that make the errors on the validation structures most likely.

    Args:
        model: The model; its `spread` is set.
        train: Graphs it was trained on, with energies.
        valid: Graphs whose errors give the size.
        batch_size: Structures evaluated at once.
        max_edges: Largest number of edges at once.

    Returns:
        What was found, as a sentence; also where there are too few energies to fit anything, and
        the spread stays unknown.

    References:
        Bigi, Chong, Ceriotti & Grasselli, A prediction rigidity formalism for low-cost
        uncertainties in trained neural networks (2024).
    """
    model.spread.zero_()
    known, _ = _layers(model, train, batch_size, max_edges)
    tried, errors = _layers(model, valid, batch_size, max_edges)
    if len(known) < 2 or len(tried) < 2:
        return "energy uncertainties: too few energies to fit them"
    values, vectors = torch.linalg.eigh(known.mT @ known)
    size = float(values.mean())
    if not size > 0:
        return "energy uncertainties: the last layer is zero"
    best, chosen, alpha = -math.inf, vectors, 0.0
    for ridge in RIDGES:
        root = vectors * (values.clamp(min=0) + ridge * size).rsqrt()  # of the inverse
        lengths = (tried @ root).square().sum(1)
        factor = float((errors.square() / lengths).mean())
        likelihood = -0.5 * float((factor * lengths).log().sum())  # the rest does not depend on it
        if likelihood > best and factor > 0:
            best, chosen, alpha = likelihood, root, factor**0.5
    model.spread.copy_(alpha * chosen)
    return f"energy uncertainties: fitted on {len(known)} structures, sized on {len(tried)}"


def _layers(
    model: Network, graphs: Any, batch_size: int, max_edges: int | None
) -> tuple[Tensor, Tensor]:
    """Last layers per atom and errors of energies per atom, where there is an energy."""
    before = model.training
    model.eval()
    layers, errors = [], []
    try:
        for batch in Batches(graphs, batch_size=batch_size, max_edges=max_edges, keep=False):
            batch = batch.to(model.device)
            said, n_atoms = model(batch, forces=False), torch.diff(batch.ptr)
            layers.append(said["last_layer"] / n_atoms[:, None])
            errors.append((said["interaction_energy"] - batch.interaction_energy) / n_atoms)
    finally:
        model.train(before)
    layer, error = torch.cat(layers), torch.cat(errors)
    there = error.isfinite()
    return layer[there], error[there]
