"""Operators and vectors in train format, seen from one place of the train.

A sweep walks over a train and holds everything on one side of its place in an *environment*.
Both sides are stored alike, the outer end first, so that one set of functions serves both
directions:

- a core is (outer, d, inner), where *inner* is the bond towards the place;
- a core of an operator is (outer, d_out, d_in, inner);
- an environment is (r', w, r): bond of the conjugated train, of the operator, of the train;
- a block is an environment with the next core of the operator, (r' d_out, v, r d_in).

With a block M on the near side and a block or environment N on the far side, the operator acts on
the unknown X (m, n) there as ``sum over v of M_v X N_v^T``: two matrix products without a
transposition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from tensornet import _check


class Train(Protocol):
    """What the solvers ask of a train: cores (r, d, r') and the logarithm of a factor."""

    @property
    def cores(self) -> Sequence[Tensor]:
        """Cores, in order."""

    @property
    def log_scale(self) -> Tensor | None:
        """Logarithm of a positive factor, or none."""


class StateTrain(Train, Protocol):
    """A train that can be made again from other cores."""

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make a value of parts named core_0, core_1, ... and log_scale."""


def mirrored(core: Tensor) -> Tensor:
    """Exchange the two bonds of a core of a vector (three axes) or of an operator (four)."""
    return core.transpose(0, -1).contiguous()


def block(
    environment: Tensor,  # (r', w, r)
    core: Tensor,  # (w, d_out, d_in, v)
) -> Tensor:  # (r' d_out, v, r d_in)
    """Join an environment and the next core of the operator."""
    a, w, b = environment.shape
    _, i, j, v = core.shape
    joined = environment.transpose(1, 2).reshape(a * b, w) @ core.reshape(w, i * j * v)
    return joined.view(a, b, i, j, v).permute(0, 2, 4, 1, 3).contiguous().view(a * i, v, b * j)


def shrink(
    bra: Tensor,  # (m', r')
    joined: Tensor,  # (m', v, m)
    ket: Tensor,  # (m, r)
) -> Tensor:  # (r', v, r)
    """Make the next environment of a block and the cores as matrices (outer d, inner)."""
    m, v, n = joined.shape
    right = (joined.reshape(m * v, n) @ ket).view(m, v * ket.shape[1])
    return (bra.mH @ right).view(bra.shape[1], v, ket.shape[1])


def block_vector(
    environment: Tensor,  # (r', w)
    core: Tensor,  # (w, d, v)
) -> Tensor:  # (r' d, v)
    """Join the environment of a right-hand side and its next core."""
    w, d, v = core.shape
    return (environment @ core.reshape(w, d * v)).view(environment.shape[0] * d, v)


@dataclass(frozen=True)
class LocalOperator:
    """The operator on the unknown (m, n) of one place: X -> sum over v of near_v X far_v^T.

    Args:
        near: (m', v, m).
        far: (n', v, n).
    """

    near: Tensor
    far: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Sizes m and n of the unknown."""
        return self.near.shape[2], self.far.shape[2]

    def __call__(
        self,
        x: Tensor,  # (m, n)
    ) -> Tensor:  # (m', n')
        """Apply the operator."""
        m, v, n = self.near.shape
        y = (self.near.view(m * v, n) @ x).view(m, -1)
        return y @ self.far.view(self.far.shape[0], -1).mT

    def dense(self) -> Tensor:  # (m' n', m n)
        """The matrix on the flattened unknown."""
        m, v, k = self.near.shape
        n, _, l = self.far.shape
        near = self.near.transpose(1, 2).reshape(m * k, v)
        far = self.far.transpose(0, 1).reshape(v, n * l)
        return (near @ far).view(m, k, n, l).transpose(1, 2).reshape(m * n, k * l)


def log_scale(train: Train) -> float:
    """Logarithm of the factor of a train, as a number."""
    return 0.0 if train.log_scale is None else float(train.log_scale)


def checked_cores(where: str, name: str, train: Train, n_axes: int) -> list[Tensor]:
    """Give the cores of a train: finite tensors of one kind whose bonds fit, with outer ranks one.

    Args:
        where: Name of the public call.
        name: Name of the argument that is the train.
        train: The train.
        n_axes: Three for a vector, four for an operator.

    Returns:
        The cores, without their autograd history.

    Raises:
        TypeError: If it is no train, or dtypes differ.
        ValueError: If the cores are no train.
    """
    if not hasattr(train, "cores"):
        kind = "TensorTrain" if n_axes == 3 else "TTMatrix"
        raise TypeError(f"`{where}({name}=...)` must be a {kind}. Got {type(train).__name__}.")
    cores = [core.detach() for core in train.cores]
    if not cores:
        raise ValueError(f"`{where}({name}=...)` must have at least one core. Got none.")
    for k, core in enumerate(cores):
        _check.dense(where, f"{name}.cores[{k}]", core, order=n_axes)
    _check.one_kind(where, **{f"{name}.cores[{k}]": core for k, core in enumerate(cores)})
    bonds = [1, *(core.shape[-1] for core in cores)]
    if [core.shape[0] for core in cores] != bonds[:-1] or bonds[-1] != 1:
        shapes = ", ".join(str(tuple(core.shape)) for core in cores)
        raise ValueError(
            f"`{where}({name}=...)` must have cores whose bonds fit, with outer ranks 1. Got the "
            f"shapes {shapes}."
        )
    return cores


def summed(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:  # (r, d, r') each
    """Give cores of the sum of two trains: beside each other at the ends, blocks in between.

    Args:
        first: Cores of one train.
        second: Cores of the other, of the same shape.

    Returns:
        Cores whose inner ranks are the sums of the two.
    """
    if len(first) == 1:
        return [first[0] + second[0]]
    cores = [torch.cat([first[0], second[0]], 2)]
    for a, b in zip(first[1:-1], second[1:-1], strict=True):
        up = torch.cat([a, a.new_zeros(a.shape[0], a.shape[1], b.shape[2])], 2)
        down = torch.cat([b.new_zeros(b.shape[0], b.shape[1], a.shape[2]), b], 2)
        cores.append(torch.cat([up, down], 0))
    cores.append(torch.cat([first[-1], second[-1]], 0))
    return cores


def random_cores(
    dims: Sequence[int], rank: int, like: Tensor, generator: torch.Generator
) -> list[Tensor]:  # each (r, d, r')
    """Draw the cores of a random train of bonds at most `rank`."""
    bonds = [1]
    for k, d in enumerate(dims):
        after = math.prod(dims[k + 1 : k + 1 + rank.bit_length()])
        bonds.append(max(1, min(rank, bonds[-1] * d, after)))
    return [
        torch.randn(a, d, b, generator=generator, dtype=like.dtype).to(like.device)
        for a, d, b in zip(bonds, dims, bonds[1:], strict=False)
    ]
