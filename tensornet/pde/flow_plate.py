"""The linear part of a step for the stream function, inverted: a plate that resists bending."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Plate(ABC):
    """The inverse of ``mass K + stiffness K²``, with K the negative five-point Laplacian.

    Args:
        shape: Of the fields.
        spacing: Along both axes.
        mass: At least zero.
        stiffness: At least zero, one of both positive.
        dtype: Of the numbers.
        device: Where they are.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        mass: float,
        stiffness: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.shape, self.spacing = shape, spacing
        self.mass, self.stiffness = mass, stiffness
        self.dtype, self.device = dtype, device

    @abstractmethod
    def eigen(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Orthonormal bases of both axes, what `solve` multiplies with, and Woodbury's matrix."""

    @abstractmethod
    def solve(self, x: Tensor) -> Tensor:  # (b, m, n) -> (b, m, n)
        """Apply the inverse."""

    def _reciprocal(self, *angles: Tensor) -> Tensor:
        """One over the eigenvalues; zero for the constant."""
        a, b = ((2 * torch.sin(t / 2) / h) ** 2 for t, h in zip(angles, self.spacing, strict=True))
        k = a[:, None] + b
        values = self.mass * k + self.stiffness * k**2
        return torch.where(k > 0, 1 / values, torch.zeros_like(k))


class PeriodicPlate(Plate):
    """Periodic along both axes, by Fourier's transform; the mean is left out."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        m, n = self.shape
        angles = (2 * math.pi * torch.fft.fftfreq(m, dtype=torch.float64),
                  2 * math.pi * torch.fft.rfftfreq(n, dtype=torch.float64))  # fmt: skip
        self._inverse = self._reciprocal(*angles).to(self.device, self.dtype)

    def eigen(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Cosines and sines, what they are multiplied with, and nothing."""
        bases, angles = [], []
        for n in self.shape:
            k = torch.arange(n, dtype=torch.float64)
            wave = torch.minimum(k, n - k) * (2 * math.pi / n)
            phase = torch.where(k <= n / 2, 0.25 * math.pi, -0.25 * math.pi)
            # cos + sin for one sign of the wave, cos - sin for the other: Hartley's basis
            found = math.sqrt(2 / n) * torch.cos(k[:, None] * wave - phase)
            bases.append(found.to(self.device, self.dtype))
            angles.append(wave)
        inverse = self._reciprocal(*angles).to(self.device, self.dtype)
        return tuple(bases), inverse, inverse.new_zeros(0, 0)

    def solve(self, x: Tensor) -> Tensor:  # (b, m, n) -> (b, m, n)
        """Apply the inverse."""
        found: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * self._inverse, s=self.shape)
        return found


class WalledPlate(Plate):
    """Zero at the walls, and clamped: the wall vorticity is Thom's, ``-2 ψ / h²``.

    Were the vorticity on the walls zero, the sine transform would be all. Thom's adds
    ``2 stiffness / h⁴`` to the diagonal next to every wall, which is taken into account by
    Woodbury's formula with one unknown per place next to a wall.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        bases, angles = [], []
        for n in self.shape:
            p = torch.arange(1, n + 1, dtype=torch.float64)
            angles.append(math.pi * p / (n + 1))
            bases.append(math.sqrt(2 / (n + 1)) * torch.sin(p[:, None] * angles[-1]))
        inverse = self._reciprocal(*angles)
        self._bases = tuple(V.to(self.device, self.dtype) for V in bases)
        self._ends = tuple(V[[0, -1]].to(self.device, self.dtype) for V in bases)
        self._inverse = inverse.to(self.device, self.dtype)
        self._capacitance = self._clamped(bases, inverse).to(self.device, self.dtype)

    def eigen(self) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Sines, what they are multiplied with, and Woodbury's matrix."""
        return self._bases, self._inverse, self._capacitance

    def _clamped(self, bases: list[Tensor], inverse: Tensor) -> Tensor:
        """Invert the small matrix of Woodbury's formula."""
        (V, W), (m, n) = bases, self.shape
        a, b = V[[0, -1]], W[[0, -1]]
        rows = torch.einsum("ak,ck,kl->acl", a, a, inverse)  # between ends of the first axis
        columns = torch.einsum("bl,dl,kl->bdk", b, b, inverse)
        first = torch.einsum("jl,acl,il->ajci", W, rows, W).reshape(2 * n, 2 * n)
        second = torch.einsum("jk,bdk,ik->jbid", V, columns, V).reshape(2 * m, 2 * m)
        mixed = torch.einsum("ak,jl,kl,ik,bl->ajib", a, W, inverse, V, b).reshape(2 * n, 2 * m)
        whole = torch.cat([torch.cat([first, mixed], 1), torch.cat([mixed.mT, second], 1)])
        stiff = [2 * self.stiffness / h**4 for h in self.spacing]
        ties = torch.cat([whole.new_full((2 * n,), stiff[0]), whole.new_full((2 * m,), stiff[1])])
        # (1 / ties + whole)^-1 = ties^1/2 (1 + ties^1/2 whole ties^1/2)^-1 ties^1/2
        root = ties.sqrt()
        inner = torch.eye(len(root), dtype=torch.float64) + root[:, None] * whole * root
        small: Tensor = torch.linalg.inv(inner)
        return root[:, None] * small * root

    def solve(self, x: Tensor) -> Tensor:  # (b, m, n) -> (b, m, n)
        """Apply the inverse."""
        (V, W), (a, b), (m, n) = self._bases, self._ends, self.shape
        held = (V @ x @ W) * self._inverse
        rows, columns = (a @ held) @ W, V @ (held @ b.mT)
        ties = torch.cat([rows.flatten(1), columns.flatten(1)], 1) @ self._capacitance
        rows, columns = ties[:, : 2 * n].reshape(-1, 2, n), ties[:, 2 * n :].reshape(-1, m, 2)
        push = a.mT @ (rows @ W) + (V @ columns) @ b
        return V @ (held - push * self._inverse) @ W
