"""Eigenvectors of one axis of a box, as a trigonometric transform or as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tensornet.linalg.mode_product import mode_multiplied
from tensornet.pde.boundary import Side
from tensornet.pde.domain import Domain

MOST = 4096  # cells along an axis whose dense eigenbasis is made
_FAST = {1: 512, 2: 192, 4: 192}  # cells from which a transform is faster than a matrix, by type


class Axis:
    """The second difference along one axis, with the sides of the axis, diagonalised.

    Short axes are multiplied by the matrix of eigenvectors. Long ones take a fast sine or cosine
    transform of SciPy, where there is one and tensors are on the CPU.

    Args:
        where: Name of the public call, for messages.
        n: Number of cells.
        low: Lower side.
        high: Upper side.
        spacing: Width of a cell.

    Attributes:
        values: The eigenvalues, in float64 on the CPU, (n,).

    Raises:
        ValueError: If there is no transform, and the axis is too long for a matrix.
    """

    def __init__(self, where: str, n: int, low: Side, high: Side, spacing: float) -> None:
        self.n, self.sides, self.spacing = n, (low, high), spacing
        kind = _word(low), _word(high)
        transforms = {
            ("df", "df"): ("dst", 2, 1.0, n),
            ("n", "n"): ("dct", 2, 0.0, n),
            ("df", "n"): ("dst", 4, 0.5, n),
            ("n", "df"): ("dct", 4, 0.5, n),
            ("dc", "dc"): ("dst", 1, 1.0, n + 1),
        }
        self._transform = transforms.get(kind)
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        if self._transform is not None:
            _, _, first, length = self._transform
            angles = math.pi * (torch.arange(n, dtype=torch.float64) + first) / length
            self.values = (2 * torch.sin(angles / 2) / spacing) ** 2
            return
        if n > MOST:
            raise ValueError(
                f"`{where}` must have at most {MOST} cells along an axis with these sides, for it "
                f"uses dense eigenvectors. Got {n}."
            )
        values, vectors = torch.linalg.eigh(line_operator(n, low, high))
        if low.kind == "periodic":
            values[0] = 0
        self.values = values / spacing**2
        self._kept[torch.float64, torch.device("cpu")] = vectors

    def analysed(self, x: Tensor, axis: int = 0) -> Tensor:
        """Coefficients of eigenvectors.

        Args:
            x: Fields.
            axis: Which axis of the tensor is this one.

        Derivatives:
            Any order.
        """
        return self._turned(x, axis, False)

    def made(self, x: Tensor, axis: int = 0) -> Tensor:
        """What has these coefficients.

        Args:
            x: Coefficients.
            axis: Which axis of the tensor is this one.

        Derivatives:
            Any order.
        """
        return self._turned(x, axis, True)

    def _turned(self, x: Tensor, axis: int, back: bool) -> Tensor:
        if self._transform is None or x.device.type != "cpu" or self.n < _FAST[self._transform[1]]:
            V = self.vectors(x.dtype, x.device)
            return mode_multiplied(x, V if back else V.mT, axis)
        word, kind, *_ = self._transform
        turned: Tensor = _Transform.apply(x, axis, word, kind, back)  # type: ignore[no-untyped-call]
        return turned

    def vectors(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:  # (n, n)
        """The eigenvectors, in columns.

        Args:
            dtype: Of the numbers.
            device: Where to put them.
        """
        key = dtype, torch.device(device)
        if key not in self._kept:
            home = torch.float64, torch.device("cpu")
            if home not in self._kept:
                assert self._transform is not None
                word, kind, *_ = self._transform
                one = torch.eye(self.n, dtype=torch.float64)
                self._kept[home] = _transformed(one, 0, word, kind, True)
            self._kept[key] = self._kept[home].to(device, dtype)
        return self._kept[key]

    @property
    def n_bytes(self) -> int:
        """Memory of what is kept."""
        return self.values.nbytes + sum(V.nbytes for V in self._kept.values())

    def multiplied(self, x: Tensor, axis: int = 0) -> Tensor:
        """The second difference with the sides of the axis, from neighbours.

        Args:
            x: Fields.
            axis: Which axis of the tensor is this one.
        """
        x = x.movedim(axis, 0)
        low, high = self.sides
        y = 2 * x
        y[1:] -= x[:-1]
        y[:-1] -= x[1:]
        if low.kind == "periodic":
            y[0] -= x[-1]
            y[-1] -= x[0]
        else:
            y[0] += (low.weight - 1) * x[0]
            y[-1] += (high.weight - 1) * x[-1]
        return (y / self.spacing**2).movedim(0, axis)


class _Transform(torch.autograd.Function):
    """An orthogonal map; its derivative is its inverse."""

    @staticmethod
    def forward(context: Any, x: Tensor, axis: int, word: str, kind: int, back: bool) -> Tensor:
        context.how = axis, word, kind, not back
        return _transformed(x, axis, word, kind, back)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        found = _Transform.apply(gradients[0], *context.how)  # type: ignore[no-untyped-call]
        return found, None, None, None, None


def _transformed(x: Tensor, axis: int, word: str, kind: int, back: bool) -> Tensor:
    import scipy.fft

    call = getattr(scipy.fft, f"i{word}" if back else word)
    return torch.from_numpy(call(x.detach().numpy(), type=kind, axis=axis, norm="ortho"))


def _word(side: Side) -> str:
    """Its first letter, and that of where a value is held."""
    return side.kind[0] + (side.at[0] if side.kind == "dirichlet" else "")


def box_axes(where: str, domain: Domain) -> list[Axis]:
    """Diagonalise the axes of the box around a domain.

    Args:
        where: Name of the public call, for messages.
        domain: The box; a mask is not looked at.
    """
    grid = domain.grid
    return [
        Axis(where, n, *pair, h)
        for n, h, pair in zip(grid.shape, grid.spacing, domain.sides, strict=True)
    ]


def in_eigenvectors(axes: Sequence[Axis], x: Tensor, values: Tensor) -> Tensor:
    """Multiply fields by a function of the box operator: its eigenvectors, and these eigenvalues.

    Args:
        axes: Of the box.
        x: Fields, ``(b, *shape)``.
        values: Eigenvalues of the function, ``(*shape)``.

    Returns:
        The products, ``(b, *shape)``.

    Derivatives:
        Any order, in the fields and the eigenvalues.
    """
    for k, axis in enumerate(axes, 1):
        x = axis.analysed(x, k)
    x = x * values
    for k, axis in enumerate(axes, 1):
        x = axis.made(x, k)
    return x


def outer_sum(values: Sequence[Tensor], shift: float = 0.0) -> Tensor:  # (d_1, ..., d_n)
    """Add numbers along each axis up.

    Args:
        values: Numbers ``(d,)``, per axis.
        shift: Added to every sum.

    Examples:
        >>> outer_sum([torch.tensor([1.0, 2.0]), torch.tensor([0.0, 10.0])])
        tensor([[ 1., 11.],
                [ 2., 12.]])
    """
    total = values[0] + shift
    for value in values[1:]:
        total = total[..., None] + value
    return total


def line_operator(n: int, low: Side, high: Side) -> Tensor:  # (n, n)
    """The operator of one axis as a matrix, for spacing and coefficient one.

    Args:
        n: Number of cells.
        low: Lower side.
        high: Upper side.
    """
    off = torch.full((n - 1,), -1.0, dtype=torch.float64)
    matrix = torch.diag(off, 1) + torch.diag(off, -1)
    matrix += torch.diag(torch.full((n,), 2.0, dtype=torch.float64))
    if low.kind == "periodic":
        matrix[0, -1] -= 1
        matrix[-1, 0] -= 1
        return matrix
    matrix[0, 0] += low.weight - 1
    matrix[-1, -1] += high.weight - 1
    return matrix
