"""Networks that propose conjugate directions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet._typing import AnyPath
from tensornet.models.container import Container
from tensornet.models.direction_grid import Hierarchy, hierarchy
from tensornet.models.direction_linear import Direction, LinearDirection, propose
from tensornet.models.direction_relu import SIZES, ReluDirection, ReluProposal
from tensornet.pde import StencilOperator
from tensornet.pde.operator import check_symmetric, check_weights

CONTAINER = Container("tensornet.direction", 1, "DirectionNet file")


class DirectionNet(nn.Module):
    """Propose conjugate directions for residuals, for operators of `tensornet.pde`.

    ``mode="linear"``, the default, has no biases and no activations: it is a V-cycle with learned
    stencils. On every grid it computes

    ``M r = Q (G'G + f) Q r + g C M_next C' r``

    with a diagonal Q > 0 (one over the root of the diagonal of the operator), G a product of
    symmetric stencils of 3 cells along each axis, f and g positive, C the interpolation from the
    next grid and the same form on it, down to a grid whose matrix is inverted. Every term is
    symmetric, none is negative, and ``f Q²`` is positive, so that M is symmetric positive definite
    whatever the weights are: it can go into `linalg.pcg`. Stencils, interpolation and f, g are
    learned. Next to walls and held values, the diagonals of G and C follow numbers that say which
    share of the neighbours of a cell is missing (solid) and which value is held (air, Dirichlet);
    how they follow is learned too. Weights of the last of `grids` serve all coarser ones, so that
    one network runs on grids of any size.

    ``mode="relu"`` is the network of the paper, see `models.direction_relu`. It is for
    `linalg.deep_conjugate_direction` only.

    Args:
        dim: Number of axes of the grids.
        mode: ``"linear"`` or ``"relu"``.
        grids: Linear: how many grids have weights of their own.
        steps: Linear: of how many stencils G is a product.
        channels: ReLU: number of channels.
        size: ReLU: 64 or 128, the depth that the paper takes for grids of this size.
        seed: ReLU: of the first weights. The linear network begins as plain multigrid.

    Attributes:
        config: The arguments.
        trained_for: What kind of operators it was trained on, or None; see `stencil_kind`.
        provenance: What its file says of its training.

    Raises:
        TypeError: If a number is no whole number.
        ValueError: If there is no such mode, number of axes or size.

    Derivatives:
        Of `propose` any order, in weights and vectors; of what `bind` gives in the vectors.

    References:
        Kaneda et al., A deep conjugate direction method for iteratively solving linear systems,
        ICML (2023); Lan et al., A neural-preconditioned Poisson solver for mixed Dirichlet and
        Neumann boundary conditions, ICML (2024), for networks that are linear in the residual;
        Trottenberg, Oosterlee & Schueller, Multigrid (2001).

    Examples:
        >>> from tensornet.linalg import deep_conjugate_direction
        >>> from tensornet.pde import Grid, poisson
        >>> problem = poisson(Grid((16, 16), spacing=1 / 16), source=1.0)
        >>> M = DirectionNet(dim=2).bind(problem.operator)
        >>> deep_conjugate_direction(problem.operator, problem.rhs, M).n_iterations < 12
        True
    """

    def __init__(
        self,
        *,
        dim: int = 3,
        mode: str = "linear",
        grids: int = 3,
        steps: int = 1,
        channels: int = 16,
        size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check.one_of("DirectionNet", ("linear", "relu"), mode=mode)
        _check.at_least("DirectionNet", 1, grids=grids, steps=steps, channels=channels)
        _check.at_least("DirectionNet", 1 if mode == "linear" else 2, dim=dim)
        if dim > 3:
            raise ValueError(f"`DirectionNet(dim=...)` must be at most 3. Got {dim}.")
        if size not in SIZES:
            raise ValueError(
                f"`DirectionNet(size=...)` must be one of {sorted(SIZES)}. Got {size}."
            )
        self.config: dict[str, Any] = {"dim": dim, "mode": mode}
        self.net: LinearDirection | ReluDirection
        if mode == "linear":
            self.config |= {"grids": grids, "steps": steps}
            self.net = LinearDirection(dim, grids, steps)
        else:
            self.config |= {"channels": channels, "size": size, "seed": seed}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.net = ReluDirection(dim, size, channels)
        self.net.to(torch.float32)
        self.trained_for: dict[str, list[Any]] | None = None
        self.provenance: dict[str, Any] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.parameters()).dtype

    def grids_of(self, A: StencilOperator) -> Hierarchy | None:
        """What `propose` needs to know of an operator.

        Args:
            A: The operator.

        Returns:
            Its grids for a linear network; None for a ReLU network, which needs none.

        Raises:
            TypeError: If `A` is no operator of `pde`.
            ValueError: If it has another number of axes, is not symmetric, or has negative weights.
        """
        self._refuse(A, "grids_of", unseen=True)
        return hierarchy(A, self.dtype) if isinstance(self.net, LinearDirection) else None

    def propose(
        self,
        A: StencilOperator,
        r: Tensor,  # (b, n)
        grids: Hierarchy | None,
    ) -> Tensor:  # (b, n)
        """Propose directions with derivatives in the weights, for training.

        Args:
            A: The operator.
            r: Residuals, of the dtype of the weights.
            grids: What `grids_of` gave.

        Returns:
            Directions, not normalised.
        """
        if isinstance(self.net, LinearDirection):
            assert grids is not None
            return propose(self.net, grids, A.domain, r)
        found: Tensor = ReluProposal(self.net, A.domain)(r)
        return found

    def bind(
        self,
        A: StencilOperator,
        *,
        precision: torch.dtype = torch.float32,
        unseen: bool = False,
    ) -> Direction | ReluProposal:
        """Give the network as a map of vectors of the active cells of an operator.

        Args:
            A: A symmetric operator of `pde`, of diffusion.
            precision: What a linear network computes in. In double precision it is symmetric to
                1e-16, in single precision, which is twice as fast, to 1e-7.
            unseen: Take operators of a kind that it was not trained on.

        Returns:
            For a linear network an operator, ``M`` of `linalg.pcg` and the direction of
            `linalg.deep_conjugate_direction`; its `to_scipy` is the ``M`` of scipy's solvers. It
            keeps a copy of the weights. For a ReLU network a module, for the second only.

        Raises:
            TypeError: If `A` is no operator of `pde`, or the precision is another dtype.
            ValueError: If it has another number of axes, is not symmetric, has negative weights, or
                is of a kind that the network was not trained on.
        """
        self._refuse(A, "bind", unseen)
        if precision not in (torch.float32, torch.float64):
            raise TypeError(f"`bind(precision=...)` must be float32 or float64. Got {precision}.")
        if isinstance(self.net, LinearDirection):
            return Direction(self.net, A, precision)
        return ReluProposal(self.net, A.domain)

    def _refuse(self, A: StencilOperator, where: str, unseen: bool) -> None:
        check_symmetric(where, A)
        if A.domain.grid.dim != self.config["dim"]:
            raise ValueError(
                f"`{where}(A=...)` must have {self.config['dim']} axes, as the network. Got "
                f"{A.domain.grid.dim}."
            )
        check_weights(where, A)
        if self.trained_for is None or unseen:
            return
        for name, seen in self.trained_for.items():
            new = [value for value in stencil_kind(A)[name] if value not in seen]
            if new:
                raise ValueError(
                    f"`{where}(A=...)` must be of a kind that the network was trained on: {name} "
                    f"in {seen}. Got {new[0]}. (Train it on such operators too, or pass "
                    "unseen=True and watch the iterations.)"
                )

    def note_training(self, operators: Sequence[StencilOperator]) -> None:
        """Note of which kinds the operators are that it is trained on; more may come later.

        Args:
            operators: The operators.
        """
        seen = dict(self.trained_for or {})
        for A in operators:
            for name, values in stencil_kind(A).items():
                known = seen.get(name, [])
                seen[name] = known + [value for value in values if value not in known]
        self.trained_for = seen

    def save(self, path: AnyPath) -> None:
        """Write the network to one safetensors file.

        Args:
            path: Name of the file, by custom ending in ``.safetensors``.

        Raises:
            OSError: If writing fails; a previous file of this name is then untouched.
        """
        header = {
            "config": self.config,
            "trained_for": self.trained_for,
            "provenance": self.provenance,
        }
        CONTAINER.write(path, self, header)

    @classmethod
    def load(cls, path: AnyPath) -> DirectionNet:
        """Read a network from a file. No code of the file is run.

        Args:
            path: A file written by `save`.

        Returns:
            The network in evaluation mode, with what it was trained for.

        Raises:
            FileNotFoundError: If there is no such file.
            ModelFileError: If the file is foreign, truncated or of a newer format, or has a weight
                that is not a finite number.
        """
        header, tensors = CONTAINER.read(path)
        with CONTAINER.promises(path):
            net = cls(**json.loads(header["config"]))
            first, *_ = tensors.values()
            net.to(first.dtype).load_state_dict(tensors)
            net.trained_for = json.loads(header["trained_for"])
            net.provenance = json.loads(header["provenance"])
        return net.eval()


def stencil_kind(A: StencilOperator) -> dict[str, list[Any]]:
    """Say of what kind an operator is, for networks that are trained on some.

    Args:
        A: A symmetric operator.

    Returns:
        One value each of ``coefficient`` (``"constant"`` or ``"varying"``), ``reaction`` (whether
        cells are tied to anything but held values) and ``spacing`` (in shares of the smallest); and
        of ``boundaries`` the words for all that the sides of its cells are.

    Examples:
        >>> from tensornet.pde import Grid, poisson
        >>> stencil_kind(poisson(Grid((4, 4), spacing=0.25)).operator)["boundaries"]
        ['dirichlet at faces']
    """
    domain, grid = A.domain, A.domain.grid
    present = [side for pair in domain.sides for side in pair]
    outside = ~domain.active
    if domain.air is not None and bool(domain.air.any()):
        present.append(domain.surface)
        outside = outside & ~domain.air
    if bool(outside.any()):
        present.append(domain.wall)
    at = {"face": " at faces", "center": " at centres"}
    words = {s.kind + (at[s.at] if s.kind == "dirichlet" else "") for s in present}
    least = min(grid.spacing)
    return {
        "coefficient": ["varying" if isinstance(A.coefficient, Tensor) else "constant"],
        "reaction": [A.shift != 0],
        "spacing": [[round(h / least, 3) for h in grid.spacing]],
        "boundaries": sorted(words),
    }
