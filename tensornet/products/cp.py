"""The Clebsch-Gordan product in CP format: the core of tensor decomposition networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tensornet import _check
from tensornet.kernels import edge_convolution
from tensornet.products.cp_factors import factors
from tensornet.products.terms import TermProduct
from tensornet.so3 import dim

SCHEDULES = ("tdn", "linear", "log", "full")


class CPProduct(TermProduct):
    """The product as a sum of `rank` products of numbers: out = Cᵀ ((A x1) * (B x2)).

    At the ranks known to be exact, the default, it is equivariant to round-off. Their factors are
    shipped up to degree three, where the rank is about as low as can be, and made directly above,
    with half as many terms as there are pairs of inputs. A lower rank is an approximation that
    breaks equivariance; `certificate` says by how much. Its factors come from `formats.cp`,
    which takes seconds, once per process, and always gives the same ones.

    Where the second input has one channel, as the harmonics of an edge, `EdgeProduct` is exact,
    has weights per path, and is faster at every degree; the CP format is for two inputs of many
    channels.

    Args:
        l_max: Highest degree.
        rank: Number of terms. By default the smallest known exact rank. Or a schedule of the paper
            by name: ``"tdn"``, its default, 7 l_max²: 2 to 5 % from the coupling and from
            equivariance; ``"linear"``, 7 l_max; ``"log"``, 16 ln²(l_max + 1), rounded;
            ``"full"``, (l_max + 1)⁴, always exact. From an exact rank on, fewer terms may do.
        tolerance: Largest allowed relative error of the factors at an exact rank.
        path_weights: ``"none"``, ``"shared"`` or ``"separable"``, as in `Product`.
        odd_paths: As in `Product`.

    Raises:
        TypeError: If `l_max`, `rank` or `tolerance` is of another kind.
        ValueError: If weights per path are asked for (one CP mixes the paths), or `rank` is
            below one or no schedule.
        RuntimeError: If `tolerance` is not met at an exact rank.

    Derivatives:
        Any order, to all inputs.

    References:
        Lin et al., Tensor Decomposition Networks (2025), section 3.

    Examples:
        >>> CPProduct(1).double().certificate().equivariance < 1e-12
        True
        >>> paper = CPProduct(1, "tdn")
        >>> paper.rank, round(paper.certificate().equivariance, 2)
        (7, 0.02)
    """

    def __init__(
        self,
        l_max: int,
        rank: int | str | None = None,
        tolerance: float = 1e-12,
        *,
        path_weights: str = "none",
        odd_paths: bool = True,
    ) -> None:
        super().__init__(l_max, path_weights, odd_paths=odd_paths)
        if path_weights == "path":
            raise ValueError(
                "`CPProduct(path_weights=...)` must be none, shared or separable, since one CP "
                "mixes the paths. Got 'path'. (Take `ClebschGordanProduct` or `EdgeProduct`.)"
            )
        if isinstance(rank, str):
            rank = scheduled_rank(rank, l_max)
        if rank is not None:
            _check.at_least("CPProduct", 1, rank=rank)
        _check.tolerance("CPProduct", tolerance=tolerance)
        value = factors(l_max, rank, tolerance, odd_paths=odd_paths)
        for name, factor in zip("ABC", value.factors, strict=True):
            self._constant(name, factor.mT)
        self.rank = value.rank

    def convolve(
        self,
        x: Tensor,  # (v, i, c)
        y: Tensor,  # (e, j)
        weight: Tensor | None,  # (e, c)
        sender: Tensor,  # (e,)
        receiver: Tensor,  # (e,)
        n: int,
    ) -> Tensor:  # (n, k, c)
        """Multiply features of senders by harmonics of edges, weigh, and sum at receivers.

        The product of ``x[sender]`` and `y`, summed at receivers. Nodes are taken to the terms and
        back, not edges: an edge only multiplies and adds its `rank` terms. That pays at ranks up to
        about (l_max + 1)². At exact ranks it moves more memory than it saves multiplications:
        `kernels.edge_convolution` with the whole coupling as one path is then faster, and exact.

        Args:
            x: Features of the nodes that send.
            y: Harmonics of the edges.
            weight: One weight per edge and channel, if `path_weights` is ``"shared"``; none if
                ``"none"``.
            sender: For each edge the node it comes from.
            receiver: For each edge the node it goes to, 0 to n - 1.
            n: Number of nodes that receive.

        Returns:
            The features received, zero at nodes without edges.

        Raises:
            TypeError: If the dtypes differ, or indices are not of int64.
            ValueError: If shapes or weights do not fit, or `path_weights` is ``"separable"``.
            IndexError: If an index is out of range. On a GPU the numbers it concerns are NaN.

        Derivatives:
            Any order, in the features, harmonics and weights.

        Examples:
            >>> product, x = CPProduct(1), torch.ones(2, 4, 3)
            >>> sender, receiver = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
            >>> product.convolve(x, torch.ones(3, 4), None, sender, receiver, 2).shape
            torch.Size([2, 4, 3])
        """
        where = "CPProduct.convolve"
        if self.path_weights not in ("none", "shared"):
            raise ValueError(
                f"`{where}` must have path_weights none or shared. Got {self.path_weights!r}."
            )
        if (weight is None) != (self.path_weights == "none"):
            raise ValueError(
                f"`{where}(weight=...)` must fit path_weights={self.path_weights!r}. "
                f"Got {'none' if weight is None else tuple(weight.shape)}."
            )
        sizes = _check.shapes(where, x=(x, f"v {self.dim} c"), y=(y, f"e {self.dim}"))
        if weight is None:
            weight = y.new_ones(1, 1).expand(sizes["e"], sizes["c"])
        _check.shapes(where, x=(x, "v d c"), y=(y, "e d"), weight=(weight, "e c"))
        r = torch.arange(self.rank, device=x.device)
        ones, zeros = self.B.new_ones(self.rank), torch.zeros_like(r)
        terms, scales = self.A @ x, y @ self.B.mT
        summed = edge_convolution(
            terms, scales, weight[:, None], sender, receiver, r, r, r, zeros, ones, n, self.rank
        )
        return self.C.mT @ summed


def scheduled_rank(schedule: str, l_max: int) -> int:
    """Give the rank that a schedule of the paper on tensor decomposition networks prescribes.

    Args:
        schedule: ``"tdn"``, ``"linear"``, ``"log"`` or ``"full"``, as `CPProduct` has them.
        l_max: Highest degree.

    Returns:
        The rank, at least one.

    Raises:
        ValueError: If there is no such schedule.

    Examples:
        >>> [scheduled_rank("tdn", l_max) for l_max in (1, 2, 3)]
        [7, 28, 63]
    """
    _check.one_of("CPProduct", SCHEDULES, rank=schedule)
    ranks = {
        "tdn": 7 * l_max**2,
        "linear": 7 * l_max,
        "log": round(16 * math.log(l_max + 1) ** 2),
        "full": dim(l_max) ** 2,
    }
    return max(1, ranks[schedule])
