"""Equivariance, and the contract of products: values, symmetry, derivatives, certificates."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tensornet.products import Certificate, Product
from tensornet.so3 import dim, wigner_d
from tensornet.testing.closeness import SEED, TOLERANCE, assert_close, assert_gradients, name_of

N_ROTATIONS = 3


def assert_equivariant(
    function: Callable[..., Tensor],
    l_max: int,
    *,
    inputs: Sequence[Tensor] | None = None,  # each (..., m, c), m = (l_max + 1)²
    l_max_out: int | None = None,
    inversion: bool | None = None,
    tolerance: float | None = None,
    seed: int = SEED,
) -> None:
    """Assert that a function of features turns with space: f(D x) = D f(x).

    Use it for layers and products of your own. Everything is computed in float64, modules on a
    copy. Features have natural parity: under inversion degree l gets the sign (-1)^l.

    Args:
        function: A product of `tensornet.products`, or any function or module that takes features
            and gives one, ``(..., (l_max_out + 1)², c)``.
        l_max: Highest degree of the inputs.
        inputs: The features to call it with; all of them are turned. By default random ones: what
            a product takes, with random weights that do not turn, or else one of shape (4, m, 3).
        l_max_out: Highest degree of the result. By default `l_max`.
        inversion: Whether to try inversion and rotations with inversion too. By default yes,
            except for a product that keeps odd paths: that is equivariant under rotations only.
        tolerance: Largest error relative to the largest entry of the result. By default that of
            `TOLERANCE` for the dtype in which the module stores its numbers.
        seed: Seed of inputs and rotations.

    Raises:
        AssertionError: If it does not turn, with the transformation and the largest error; or if
            the result is zero or not a number, which says nothing.

    Examples:
        >>> from tensornet.layers import EquivariantLinear
        >>> assert_equivariant(EquivariantLinear(2, 3, 5), 2)
        >>> assert_equivariant(torch.relu, 1)
        Traceback (most recent call last):
        ...
        AssertionError: `relu` is not equivariant under a rotation: the largest error is ...
    """
    rng = torch.Generator().manual_seed(seed)
    tolerance = TOLERANCE[_dtype(function)] if tolerance is None else tolerance
    name, call, made = name_of(function), _double(function), [_random(rng, 4, dim(l_max), 3)]
    if isinstance(call, Product):
        inversion = not call.odd_paths if inversion is None else inversion
        call, made = _with_weight(call, rng)
    features = made if inputs is None else [x.detach().to(torch.float64) for x in inputs]
    expected = call(*features)
    d = dim(l_max if l_max_out is None else l_max_out)
    if expected.ndim < 2 or expected.shape[-2] != d:
        raise AssertionError(
            f"`{name}` must give features of shape (..., {d}, c). Got {tuple(expected.shape)}."
        )
    for title, turn in _turns(rng, inversion is not False):
        before = wigner_d(l_max, turn)
        after = before if d == dim(l_max) else wigner_d(math.isqrt(d) - 1, turn)
        assert_close(
            call(*(before @ x for x in features)),
            after @ expected,
            tolerance,
            f"`{name}` is not equivariant under {title}",
            f"seed {seed}, transformation\n{np.array2string(turn.numpy(), precision=17)}",
        )


def assert_product_contract(product: Product, *, exact: bool = True, seed: int = SEED) -> None:
    """Assert everything that a product promises.

    It computes what `to_dense` says, with its weights where they belong; this is the target
    (`exact`); it turns with space, under all of O(3) without odd paths; it is bilinear, takes any
    batch and has correct derivatives of first and second order; the certificate is true, compared
    with the distance to the target and with an average over all rotations, by quadrature.

    Args:
        product: Any product; the dtype of its numbers decides the tolerance, `TOLERANCE`.
        exact: Whether it must reach its target. Otherwise its error may be anything, and the
            certificate must say it.
        seed: Seed of the random inputs.

    Raises:
        AssertionError: If a promise is broken.

    Examples:
        >>> from tensornet.products import CPProduct
        >>> assert_product_contract(CPProduct(1))
        >>> assert_product_contract(CPProduct(1, 6))
        Traceback (most recent call last):
        ...
        AssertionError: `CPProduct` does not store its target: the largest error is ...
        >>> assert_product_contract(CPProduct(1, 6), exact=False)
    """
    name, tolerance = name_of(product), TOLERANCE[_dtype(product)]
    where = f"seed {seed}"
    rng = torch.Generator().manual_seed(seed)
    own: Product = _double(product)
    dense, target = own.to_dense().detach(), own.target()
    x1, x2, weight = _arguments(own, rng, n=4, channels=3)
    extra = () if weight is None else (weight,)
    out = own(x1, x2, *extra)
    what = f"`{name}` does not compute its own `to_dense`"
    assert_close(out, _definition(own, dense, x1, x2, weight), tolerance, what, where)
    if exact:
        assert_close(dense, target, tolerance, f"`{name}` does not store its target")
        assert_equivariant(product, own.l_max, seed=seed)
    y1, y2, _ = _arguments(own, rng, n=4, channels=3)
    what = f"`{name}` is not bilinear"
    for whole, parts in (
        (own(x1 - 3 * y1, x2, *extra), own(x1, x2, *extra) - 3 * own(y1, x2, *extra)),
        (own(x1, x2 - 3 * y2, *extra), own(x1, x2, *extra) - 3 * own(x1, y2, *extra)),
    ):
        assert_close(whole, parts, tolerance, what, where)
    doubled = own(*(torch.stack([x, 2 * x]) for x in (x1, x2)), *extra)
    assert_close(doubled, torch.stack([out, 4 * out]), tolerance, f"`{name}`, batches", where)
    if own(x1[:0], x2[:0], *(w[:0] for w in extra)).shape != out[:0].shape:
        raise AssertionError(f"`{name}` must give no rows for no rows.")
    few = [x for x in _arguments(own, rng, n=1, channels=1) if x is not None]
    assert_gradients(own, few, seed=seed)
    _assert_true(own.certificate(), name, dense, target)


# --- parts ----------------------------------------------------------------------------------


def _assert_true(stated: Certificate, name: str, dense: Tensor, target: Tensor) -> None:
    """Compare a certificate with the same numbers found in another way."""
    l_max = math.isqrt(len(dense)) - 1
    degree = torch.arange(len(dense)).sqrt().floor()
    odd = (degree[:, None, None] + degree[:, None] + degree) % 2 == 1
    found = {
        "approximation": float((dense - target).norm() / target.norm()),
        "equivariance": _mean_defect(dense, l_max),
        "parity": float(dense[odd].norm() / dense.norm()),
    }
    for key, value in found.items():
        said = float(getattr(stated, key))
        if not abs(said - value) <= TOLERANCE[torch.float64]:
            raise AssertionError(f"`{name}.certificate().{key}` is {said:.6e}, not {value:.6e}.")


def _mean_defect(dense: Tensor, l_max: int) -> float:
    """Average |R M - M|² / |M|² over all rotations: exact, by quadrature in the Euler angles.

    As a function of a rotation the square has degree 3 l_max, so 3 l_max + 1 equal steps of two
    angles and half as many nodes in the cosine of the third are enough.
    """
    n = 3 * l_max + 1
    steps = [wigner_d(l_max, _about(1, 2 * math.pi * k / n)) for k in range(n)]
    nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 1)
    total = 0.0
    for x, w in zip(nodes, weights, strict=True):
        tilt = wigner_d(l_max, _about(0, math.acos(x)))
        for first, last in itertools.product(steps, repeat=2):
            D = first @ tilt @ last
            turned = torch.einsum("ijk,ai,bj,ck->abc", dense, D, D, D)
            total += float(w / 2 * (turned - dense).square().sum()) / n**2
    return math.sqrt(total) / float(dense.norm())


def _definition(
    product: Product, dense: Tensor, x1: Tensor, x2: Tensor, weight: Tensor | None
) -> Tensor:
    """Sum over all blocks of degrees, each with its weight, as `Product` describes them."""
    mode, degrees = product.path_weights, range(product.l_max + 1)
    blocks = product.paths() if mode == "path" else itertools.product(degrees, repeat=3)
    out = torch.zeros_like(x1)
    for p, (a, b, c) in enumerate(blocks):
        i, j, k = (slice(l * l, (l + 1) ** 2) for l in (a, b, c))
        other = x2[..., j, :].expand(*x2.shape[:-2], 2 * b + 1, x1.shape[-1])
        part = torch.einsum("ijk,...ic,...jc->...kc", dense[i, j, k], x1[..., i, :], other)
        if weight is not None:
            part = part * _block_weight(mode, weight, p, a, c)[..., None, :]
        out[..., k, :] += part
    return out


def _block_weight(mode: str, weight: Tensor, p: int, first: int, out: int) -> Tensor:  # (..., c)
    if mode == "path":
        return weight[..., p, :]
    if mode == "separable":
        return weight[..., 0, first, :] * weight[..., 1, out, :]
    return weight


def _arguments(
    product: Product, rng: torch.Generator, *, n: int, channels: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    x1, x2 = _random(rng, n, product.dim, channels), _random(rng, n, product.dim, 1)
    if product.path_weights == "none":
        return x1, x2, None
    return x1, x2, _random(rng, n, *product.weight_shape(channels))


def _with_weight(
    product: Product, rng: torch.Generator
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    x1, x2, weight = _arguments(product, rng, n=4, channels=3)
    return lambda *features: product(*features, weight), [x1, x2]


def _turns(rng: torch.Generator, inversion: bool) -> list[tuple[str, Tensor]]:
    proper = []
    for _ in range(N_ROTATIONS):
        Q, R = torch.linalg.qr(_random(rng, 3, 3))
        Q = Q * R.diagonal().sign()
        proper.append(Q * torch.linalg.det(Q).sign())
    turns = [("a rotation", turn) for turn in proper]
    if inversion:
        turns.append(("inversion", -torch.eye(3, dtype=torch.float64)))
        turns += [("a rotation with inversion", -turn) for turn in proper]
    return turns


def _about(axis: int, angle: float) -> Tensor:  # (3, 3)
    one, other = (k for k in range(3) if k != axis)
    turn = torch.eye(3, dtype=torch.float64)
    turn[one, one] = turn[other, other] = math.cos(angle)
    turn[one, other], turn[other, one] = -math.sin(angle), math.sin(angle)
    return turn


def _random(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def _double(function: Any) -> Any:
    """Give a float64 copy of a module, and anything else as it is."""
    return copy.deepcopy(function).double() if isinstance(function, nn.Module) else function


def _dtype(function: Any) -> torch.dtype:
    """Give the lowest precision in which a module stores its numbers."""
    if not isinstance(function, nn.Module):
        return torch.float64
    stored = itertools.chain(function.parameters(), function.buffers())
    found = {x.dtype for x in stored if x.is_floating_point()}
    return torch.float64 if found <= {torch.float64} else torch.float32
