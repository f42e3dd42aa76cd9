"""What every equivariant product shares: the call, its weights, and what it certifies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.products.coupling import Path, block, coupling, even_part, paths
from tensornet.so3 import degrees, dim, wigner_3j

PATH_WEIGHTS = ("none", "shared", "separable", "path")


@dataclass(frozen=True)
class Certificate:
    """How far a product is from its target and from its symmetry: closed forms, all relative.

    Args:
        approximation: Frobenius distance from the target coupling, over the target's norm.
        equivariance: Root mean square defect under rotation of the output, for white inputs and
            uniformly random rotations, over the root mean square output. Zero up to rounding for
            an exact product.
        parity: Share of the tensor's norm on paths of odd l1 + l2 + l3, which features of natural
            parity cannot carry: zero for an O(3) product, positive for an SO(3) one.
    """

    approximation: float
    equivariance: float
    parity: float


@dataclass(frozen=True)
class Cost:
    """What one call costs.

    Args:
        multiplies: Number of multiplications.
        bytes: Size in float64 of the inputs, the weights, the output and what `Product.prepare`
            makes of the second input: what has to pass through memory.
    """

    multiplies: int
    bytes: int


def dimension(listed: Sequence[Path], copies: int) -> int:
    """Count the independent weights of paths that are sums of products of three scales.

    The dimension of the set of all ``sum over s < copies of a[s, l1] b[s, l2] c[s, l3]``: the rank
    of its derivative at a random point.

    Args:
        listed: The paths (l1, l2, l3).
        copies: Number of terms of a sum.

    Returns:
        At most the number of paths.
    """
    n = 1 + max(max(path) for path in listed)
    generator = torch.Generator().manual_seed(20260118)
    shape = (copies, 3, n)
    scales = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
    derivative = torch.zeros(len(listed), *shape, dtype=torch.float64)
    for row, path in zip(derivative, listed, strict=True):
        chosen = torch.stack([scales[:, k, l] for k, l in enumerate(path)])
        for k, l in enumerate(path):
            row[:, k, l] = chosen.prod(0) / chosen[k]
    return int(torch.linalg.matrix_rank(derivative.flatten(1)))


def one_batch(
    x1: Tensor,  # (..., i, c)
    x2: Tensor,  # (..., j, b)
) -> tuple[Tensor, Tensor, torch.Size]:  # (n, i, c), (n, j, b)
    """Broadcast the batch axes of two features, and make one axis of them.

    Args:
        x1: First feature.
        x2: Second feature.

    Returns:
        Both features, and the batch axes to give back to the result.
    """
    batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    n = math.prod(batch)
    one, two = (x.expand(*batch, -1, -1).reshape(n, *x.shape[-2:]) for x in (x1, x2))
    return one, two, batch


def _casts(device: torch.device) -> bool:
    """Whether autocast is on, which makes one dtype of several itself."""
    return device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)


class Constants(nn.Module):
    """A module with constant tensors, which are exact again when it returns to float64."""

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def _constant(self, name: str, exact: Tensor) -> None:
        """Register a float64 constant as a buffer that follows the module's dtype.

        Whole numbers are registered as they are.
        """
        if not exact.is_floating_point():
            self.register_buffer(name, exact, persistent=False)
            return
        self._exact[name] = exact
        dtype = torch.get_default_dtype()
        self.register_buffer(name, exact.to(dtype).contiguous(), persistent=False)

    def _dtype(self) -> torch.dtype | None:
        """Give the dtype of the constants, none if there are none but whole numbers."""
        for name in self._exact:
            found = self._buffers[name]
            return None if found is None else found.dtype
        return None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # A model that was float32 and becomes float64 must be equivariant to float64 again.
        for name, exact in self._exact.items():
            now = getattr(self, name)
            setattr(self, name, exact.to(now.device, now.dtype).contiguous())
        return self


class Product(Constants, ABC):
    """A bilinear equivariant map of features ``(..., (l_max + 1)², channels)``.

    Harmonics are flattened in e3nn's order and component normalisation, channels last; channels
    do not mix. The second input may have one channel, by custom the harmonics of an edge.

    Args:
        l_max: Highest degree of both inputs and the output.
        path_weights: ``"none"``; ``"shared"``: one weight per channel, (..., c); ``"separable"``:
            one per degree of the first input and one per degree of the output,
            (..., 2, l_max + 1, c); ``"path"``: one per path, in the order of `paths`, (..., p, c),
            or (..., p, 1) where all channels share them.
        odd_paths: Whether paths of odd l1 + l2 + l3 are kept. Without them the product is
            equivariant under all of O(3) for features of natural parity (-1)^l.

    Raises:
        TypeError: If `l_max` is no whole number.
        ValueError: If `l_max` is negative, or `path_weights` unknown.
    """

    kind: str = "clebsch_gordan"

    def __init__(self, l_max: int, path_weights: str = "none", *, odd_paths: bool = True) -> None:
        super().__init__()
        name = type(self).__name__
        _check.at_least(name, 0, l_max=l_max)
        _check.one_of(name, PATH_WEIGHTS, path_weights=path_weights)
        self.l_max = l_max
        self.dim = dim(l_max)
        self.path_weights = path_weights
        self.odd_paths = odd_paths
        self.register_buffer("degrees", degrees(l_max), persistent=False)
        self.degrees: Tensor

    def forward(
        self,
        x1: Tensor,  # (..., i, c)
        x2: Tensor,  # (..., j, c) or (..., j, 1)
        weight: Tensor | None = None,
    ) -> Tensor:  # (..., k, c)
        """Multiply two features, with the weights that `path_weights` promised.

        Args:
            x1: First input.
            x2: Second input, all channels or one.
            weight: Last axes as `weight_shape` says, any batch in front.

        Returns:
            The product, its batch that of all arguments broadcast.

        Raises:
            TypeError: If an argument is no tensor, or the dtypes of the inputs and of the product
                differ.
            ValueError: If shapes, weights or devices do not fit.
        """
        self._check_call(x1, x2, weight)
        return self._product(x1, x2, None if weight is None else self.expand(weight))

    def _product(self, x1: Tensor, x2: Tensor, expanded: Tensor | None) -> Tensor:
        return self.multiply(x1, self.prepare(x2), expanded)

    # Layers that use one edge many times call `prepare`, `expand` and `multiply` themselves.

    @abstractmethod
    def prepare(
        self,
        x2: Tensor,  # (..., j, c) or (..., j, 1)
    ) -> Tensor:
        """Do what concerns the second input, `x2`, alone; `multiply` takes it."""

    @abstractmethod
    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        """Multiply `x1` with what was `prepared` and `expanded` before. No checks."""

    def expand(
        self,
        weight: Tensor,  # (..., *weight_shape)
    ) -> Tensor:  # (..., c), (..., 2, k, c) or (..., row, c)
        """Repeat weights for the components they act on. Linear: it may act on a last layer."""
        if self.path_weights == "separable":
            return weight.index_select(-2, self.degrees)
        return weight

    @abstractmethod
    def to_dense(self) -> Tensor:  # (i, j, k)
        """Give the coupling that is really computed, path weights one."""

    @abstractmethod
    def cost(self, n: int, channels: int) -> Cost:
        """Count the work of a call on `n` pairs of `channels`, the second input of one."""

    def paths(self) -> tuple[Path, ...]:
        """List the degrees (l1, l2, l3) that may couple, in the order of their weights."""
        return paths(self.l_max, odd_paths=self.odd_paths)

    def target(self) -> Tensor:  # (i, j, k)
        """Give the coupling that the product stands for, float64."""
        tensor = coupling(self.kind, self.l_max)
        return tensor if self.odd_paths else even_part(tensor)

    def certificate(self) -> Certificate:
        """Compare the tensor that is computed with the target, and with its own symmetric part.

        The equivariant part P M of a tensor M is its projection on all `wigner_3j` blocks. For
        white inputs and uniform rotations the mean square defect is 2 |M - P M|².
        """
        computed = self.to_dense().detach().to("cpu", torch.float64)
        target = self.target()
        symmetric = torch.zeros_like(computed)
        for path in paths(self.l_max):
            W = wigner_3j(*path)
            symmetric[block(path)] = (computed[block(path)] * W).sum() * W
        norm, wanted = float(computed.norm()) or 1.0, float(target.norm()) or 1.0
        return Certificate(
            approximation=float((computed - target).norm()) / wanted,
            equivariance=math.sqrt(2) * float((computed - symmetric).norm()) / norm,
            parity=float((computed - even_part(computed)).norm()) / norm,
        )

    def interactability(self) -> tuple[Path, ...]:
        """List the paths that really couple, found in the tensor that is computed.

        A path of `paths` may be missing: some 6j symbols are zero, and so are some couplings.

        References:
            Xie et al., The Price of Freedom (2025).
        """
        computed = self.to_dense().detach()
        rounding = 30 * torch.finfo(computed.dtype).eps
        computed = computed.to("cpu", torch.float64)
        found = paths(self.l_max)
        sizes = torch.stack([(computed[block(p)] * wigner_3j(*p)).sum().abs() for p in found])
        there = (sizes > rounding * sizes.max()).tolist()
        return tuple(p for p, keep in zip(found, there, strict=True) if keep)

    def expressivity(self, copies: int = 1) -> int:
        """Count the independent bilinear maps that it makes with linear maps around it.

        For one channel, equivariant linear maps scale each degree of inputs and output, so the
        path (l1, l2, l3) gets the weight a[l1] b[l2] c[l3], and a sum of products has a sum of
        those. This is the dimension of the set of all such weights: the rank of its derivative
        at a random point. With a weight per path it is the number of paths.

        Args:
            copies: Number of products of this kind that are added up, each with scales of its own.

        Raises:
            ValueError: If `copies` is below one.

        References:
            Xie et al., The Price of Freedom (2025), there for outputs up to 2 l_max.
        """
        _check.at_least(f"{type(self).__name__}.expressivity", 1, copies=copies)
        found = self.interactability()
        if self.path_weights == "path":
            return len(found)
        return dimension(found, copies)

    def weight_shape(self, channels: int) -> tuple[int, ...]:
        """Give the last axes of `weight`, empty if there is none.

        Args:
            channels: Number of channels of the first input.
        """
        if self.path_weights == "path":
            return len(self.paths()), channels
        return {
            "none": (),
            "shared": (channels,),
            "separable": (2, self.l_max + 1, channels),
        }[self.path_weights]

    def _check_call(self, x1: Tensor, x2: Tensor, weight: Tensor | None) -> None:
        if weight is None and self.path_weights == "none" and self._plain(x1, x2):
            return
        name = type(self).__name__
        self._check_dtypes(name, x1, x2)
        d = self.dim
        channels = _check.shapes(name, x1=(x1, f"... {d} c"), x2=(x2, f"... {d} b"))
        if channels["b"] not in (1, channels["c"]):
            raise ValueError(
                f"`{name}(x2=...)` must have 1 channel or the {channels['c']} of `x1`. "
                f"Got {channels['b']}."
            )
        expected = self.weight_shape(channels["c"])
        if (weight is None) != (self.path_weights == "none"):
            needed = "no weight" if self.path_weights == "none" else f"shape (..., {expected})"
            raise ValueError(
                f"`{name}(weight=...)` must fit path_weights={self.path_weights!r}: {needed}. "
                f"Got {'none' if weight is None else tuple(weight.shape)}."
            )
        alike = (*expected[:-1], 1) if self.path_weights == "path" else expected
        if weight is not None and tuple(weight.shape[-len(expected) :]) not in (expected, alike):
            raise ValueError(
                f"`{name}(weight=...)` must end in shape {expected}. Got {tuple(weight.shape)}."
            )
        batches = [tuple(x1.shape[:-2]), tuple(x2.shape[:-2])]
        if weight is not None:
            batches.append(tuple(weight.shape[: -len(expected)]))
        try:
            torch.broadcast_shapes(*batches)
        except RuntimeError as error:
            raise ValueError(
                f"`{name}(x1, x2, weight)` must have batches that broadcast. "
                f"Got {', '.join(map(str, batches))}."
            ) from error

    def _check_dtypes(self, name: str, x1: Tensor, x2: Tensor) -> None:
        own = self._dtype()
        if isinstance(x1, Tensor) and isinstance(x2, Tensor) and x1.device == x2.device:
            alike = x1.dtype == x2.dtype and own in (None, x1.dtype)
            if (alike and x1.is_floating_point()) or _casts(x1.device):
                return
        _check.one_kind(name, x1=x1, x2=x2)
        if own is not None and x1.dtype != own:
            raise TypeError(
                f"`{name}(x1=...)` must have the dtype {own} of the product. Got {x1.dtype}. "
                "(Take `product.to(dtype)`.)"
            )

    def _check_one_channel(self, x2: Tensor) -> None:
        if x2.shape[-1] != 1:
            raise ValueError(
                f"`{type(self).__name__}(x2=...)` must have 1 channel. Got {x2.shape[-1]}. "
                "(Take `ClebschGordanProduct` or `CPProduct`.)"
            )

    def _plain(self, x1: Tensor, x2: Tensor) -> bool:
        """Whether two inputs fit, seen at a glance."""
        if not isinstance(x1, Tensor) or not isinstance(x2, Tensor) or min(x1.ndim, x2.ndim) < 2:
            return False
        (*batch1, d1, c1), (*batch2, d2, c2) = x1.shape, x2.shape
        alike = batch1 == batch2 and x1.dtype == x2.dtype and self._dtype() in (None, x1.dtype)
        return alike and d1 == self.dim and d2 == self.dim and c2 in (1, c1)

    def _on_input(self, x1: Tensor, expanded: Tensor | None) -> Tensor:
        if expanded is None or self.path_weights != "separable":
            return x1
        return x1 * expanded[..., 0, :, :]

    def _on_output(self, out: Tensor, expanded: Tensor | None) -> Tensor:
        if expanded is None or self.path_weights == "path":
            return out
        if self.path_weights == "shared":
            return out * expanded[..., None, :]
        return out * expanded[..., 1, :, :]

    def _traffic(self, n: int, channels: int) -> int:
        """Bytes of both inputs, the weights and the output in float64."""
        weights = math.prod(self.weight_shape(channels)) if self.path_weights != "none" else 0
        return 8 * n * (2 * self.dim * channels + self.dim + weights)

    def extra_repr(self) -> str:
        """Say the settings in `print(model)`."""
        return f"l_max={self.l_max}, path_weights={self.path_weights!r}, odd_paths={self.odd_paths}"
