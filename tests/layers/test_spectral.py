"""Spectral convolutions: explicit Fourier sums are the oracle."""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tensornet.formats import CP, TensorTrain, Tucker
from tensornet.layers import SpectralConvolution
from tensornet.layers.spectral_transform import analyse, kept_modes, synthesise

FORMATS = pytest.mark.parametrize("factorization", [None, "CP", "Tucker", "TT"])


def by_sums(
    layer: SpectralConvolution, x: Tensor, out: Sequence[int] | None = None
) -> Tensor:  # (n, out, *grid)
    """Compute a layer by its definition, frequency by frequency."""
    grid = x.shape[2:]
    out = grid if out is None else out
    weight, order = layer.weight.detach(), len(grid)
    y = torch.zeros(len(x), layer.out_channels, *out)

    def wave(k: Sequence[int], sizes: Sequence[int]) -> Tensor:
        phase = torch.zeros(())
        for axis, (frequency, n) in enumerate(zip(k, sizes, strict=True)):
            angle = 2 * math.pi * frequency * torch.arange(n) / n
            phase = phase + angle.reshape([-1 if a == axis else 1 for a in range(len(sizes))])
        return torch.polar(torch.ones_like(phase), phase)

    for j in itertools.product(*(range(m) for m in layer.modes)):
        k = [i - m // 2 for i, m in zip(j[:-1], layer.modes[:-1], strict=True)] + [j[-1]]
        pairs = [(f, s[axis]) for s in (grid, out) for axis, f in enumerate(k[:-1])]
        if any(not -(n // 2) <= f <= (n - 1) // 2 for f, n in pairs):
            continue
        if any(k[-1] > s[-1] // 2 for s in (grid, out)):
            continue
        w = weight.flatten(-order)[..., int(np.ravel_multi_index(j, layer.modes))]
        x_k = (x * wave(k, grid).conj()).mean(list(range(2, 2 + order)))  # (n, in)
        y_k = x_k * w if layer.separable else x_k @ w
        twice = 1 if k[-1] in (0, out[-1] / 2) else 2
        y += twice * (y_k.reshape(*y_k.shape, *[1] * order) * wave(k, out)).real
    return y if layer.bias is None else y + layer.bias.detach()


def make(factorization: str | None, n_modes: Any, **words: Any) -> SpectralConvolution:
    layer = SpectralConvolution(3, 2, n_modes, factorization=factorization, rank=2, **words)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


@FORMATS
@pytest.mark.parametrize(
    ("n_modes", "grid", "out"),
    [
        ((6,), (16,), None),
        (5, (9,), None),
        ((8,), (8,), None),  # the highest frequency of the grid is kept
        ((12,), (7,), None),  # more modes than the grid has
        ((6,), (16,), (11,)),
        ((4, 6), (8, 10), None),
        ((5, 6), (9, 7), None),
        ((8, 8), (8, 8), None),
        ((9, 8), (5, 4), None),
        ((6, 6), (9, 12), (16, 7)),
        ((4, 3, 4), (6, 5, 8), None),
        ((4, 4, 4), (4, 3, 4), (5, 6, 3)),
    ],
)
def test_explicit_sums(factorization: str | None, n_modes: Any, grid: Any, out: Any) -> None:
    layer = make(factorization, n_modes)
    x = torch.randn(2, 3, *grid)
    expected = by_sums(layer, x, out)
    for implementation in ("auto", "factorized", "reconstructed"):
        layer.implementation = implementation
        torch.testing.assert_close(layer(x, out), expected, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(layer(x, out), expected, rtol=1e-10, atol=1e-12)


@FORMATS
def test_separable_by_sums(factorization: str | None) -> None:
    layer = SpectralConvolution(3, 3, (4, 6), separable=True, factorization=factorization, rank=2)
    x = torch.randn(2, 3, 8, 9)
    torch.testing.assert_close(layer(x), by_sums(layer, x), rtol=1e-10, atol=1e-12)
    assert layer.weight.shape == (3, 4, 4)


def test_weight_is_its_format() -> None:
    """Entries written out: the rank is exact."""
    layer = make("CP", (4, 4))
    parts = [torch.view_as_complex(p.detach()) for p in layer.parts()]
    assert isinstance(layer.tensor(), CP)
    expected = torch.einsum("ir,or,ar,br->ioab", *parts)
    torch.testing.assert_close(layer.weight, expected)
    layer = make("Tucker", (4, 4))
    parts = [torch.view_as_complex(p.detach()) for p in layer.parts()]
    assert isinstance(layer.tensor(), Tucker)
    torch.testing.assert_close(layer.weight, torch.einsum("rstu,ir,os,at,bu->ioab", *parts))
    layer = make("TT", (4, 4))
    parts = [torch.view_as_complex(p.detach()) for p in layer.parts()]
    assert isinstance(layer.tensor(), TensorTrain)
    torch.testing.assert_close(layer.weight, torch.einsum("wir,ros,sat,tbw->ioab", *parts))
    for unfolded in (layer.weight.flatten(1), layer.weight.flatten(0, 1).flatten(1)):
        assert int(torch.linalg.matrix_rank(unfolded.detach(), rtol=1e-10)) == 2
    dense = make(None, (4, 4))
    assert dense.weight.shape == (3, 2, 4, 3)
    (part,) = dense.parts()
    torch.testing.assert_close(
        dense.weight[1, 0, 3, 2], torch.view_as_complex(part.detach())[3, 2, 1, 0]
    )


@FORMATS
@pytest.mark.parametrize("grid", [(8, 12), (9, 11)])
def test_translations(factorization: str | None, grid: tuple[int, int]) -> None:
    layer = make(factorization, (8, 12))
    x = torch.randn(2, 3, *grid)
    for shift in ((1, 0), (3, 5), (-2, 1)):
        moved = layer(torch.roll(x, shift, (2, 3)))
        torch.testing.assert_close(
            moved, torch.roll(layer(x), shift, (2, 3)), rtol=1e-9, atol=1e-12
        )


@FORMATS
def test_resolution_and_linearity(factorization: str | None) -> None:
    """What has only low frequencies is mapped alike on every grid."""
    layer = make(factorization, (6, 8))
    coefficients = torch.randn(7, 4, 2, 3, dtype=torch.complex128)
    kept = ((-3, 4), (0, 4))
    coarse, fine = (synthesise(coefficients, kept, grid) for grid in ((8, 9), (24, 36)))
    torch.testing.assert_close(fine[:, :, ::3, ::4], coarse, rtol=1e-10, atol=1e-12)
    out = layer(fine)
    torch.testing.assert_close(out[:, :, ::3, ::4], layer(coarse), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer(coarse, (24, 36)), out, rtol=1e-10, atol=1e-12)
    plain = make(factorization, (6, 8), bias=False)
    x, y = torch.randn(2, 2, 3, 8, 8)
    both = plain(2 * x - 3 * y)
    torch.testing.assert_close(both, 2 * plain(x) - 3 * plain(y), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("grid", "n_modes"),
    [((6,), (4,)), ((5,), (3,)), ((4, 4), (4, 3)), ((3, 4), (2, 2)), ((2, 3, 2), (2, 2, 2))],
)
def test_transforms_are_adjoint_and_differentiable(grid: Any, n_modes: Any) -> None:
    kept = kept_modes(n_modes, grid)
    x = torch.randn(1, 1, *grid, requires_grad=True)
    y = torch.randn(*(b - a for a, b in kept), 1, 1, dtype=torch.complex128, requires_grad=True)
    for function, value in (
        (lambda v: torch.view_as_real(analyse(v, kept)), x),
        (lambda v: synthesise(v, kept, grid), y),
    ):
        assert torch.autograd.gradcheck(function, (value,), rtol=1e-6, atol=1e-8)
        assert torch.autograd.gradgradcheck(function, (value,), rtol=1e-6, atol=1e-8)


@FORMATS
@pytest.mark.parametrize("implementation", ["factorized", "reconstructed"])
def test_derivatives_of_both_orders(factorization: str | None, implementation: str) -> None:
    layer = SpectralConvolution(
        2, 1, (2, 2), factorization=factorization, rank=1, implementation=implementation
    )
    x = torch.randn(1, 2, 3, 4, requires_grad=True)
    named = dict(layer.named_parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        parts = dict(zip(named, values, strict=True))
        found: Tensor = torch.func.functional_call(layer, parts, (x,))
        return found

    values = [p.detach().clone().requires_grad_() for p in named.values()]
    assert torch.autograd.gradcheck(run, (x, *values), rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(run, (x, *values), rtol=1e-6, atol=1e-8)


@FORMATS
def test_what_is_kept_follows_the_weights(factorization: str | None) -> None:
    layer = make(factorization, (4, 4)).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        layer(x)
        layer(x[:, :, :3])  # fewer modes are kept under a name of their own
        for part in layer.parts():
            part.add_(0.5 * torch.randn_like(part))
        torch.testing.assert_close(layer(x), by_sums(layer, x), rtol=1e-10, atol=1e-12)
        small = x[:, :, :3]
        torch.testing.assert_close(layer(small), by_sums(layer, small), rtol=1e-10, atol=1e-12)
        twin = copy.deepcopy(layer)
        assert not twin._kept
        torch.testing.assert_close(twin(x), layer(x))
        if factorization is None:  # batches of other sizes share what has only one way
            kept = kept_modes(layer.modes, (8, 8))
            layer(torch.cat([x, x, x]))
            assert layer._kept[(2, kept)][1] is layer._kept[(0, kept)][1]


@FORMATS
def test_precision_changes_as_in_other_modules(factorization: str | None) -> None:
    """Parts are pairs of real numbers, so that nothing loses its imaginary half."""
    layer = make(factorization, (4, 4))
    x = torch.randn(1, 3, 8, 8)
    expected = layer(x)
    single = copy.deepcopy(layer).float()
    assert single(x.float()).dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), expected, rtol=1e-4, atol=1e-5)
    again = SpectralConvolution(3, 2, (4, 4), factorization=factorization, rank=2)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), expected)
    assert all(not value.is_complex() for value in layer.state_dict().values())


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "TT"])
def test_shares(factorization: str) -> None:
    layer = SpectralConvolution(16, 16, (8, 8), factorization=factorization, rank=0.1)
    dense = SpectralConvolution(16, 16, (8, 8))
    assert layer.n_parameters / dense.n_parameters == pytest.approx(0.1, rel=0.2)
    stack = [
        SpectralConvolution(8, 8, (8, 8), factorization=factorization, rank=0.5).weight.detach()
        for _ in range(40)
    ]
    power = torch.stack(stack).abs().square().mean()
    assert float(power) == pytest.approx(2 / 16, rel=0.3)


def test_empty_batch() -> None:
    for factorization in (None, "CP", "Tucker", "TT"):
        layer = make(factorization, (4, 4))
        y = layer(torch.ones(0, 3, 8, 8))
        assert y.shape == (0, 2, 8, 8)
        y.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in layer.parts())


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"n_modes": ()}, ValueError, "must hold one to three numbers. Got ()"),
        ({"n_modes": (2, 2, 2, 2)}, ValueError, "must hold one to three numbers"),
        ({"n_modes": (4, 0)}, ValueError, "n_modes=...)` must be at least 1. Got 0"),
        ({"n_modes": (4, 2.5)}, TypeError, "must be a whole number"),
        ({"in_channels": 0}, ValueError, "must be at least 1"),
        ({"separable": True}, ValueError, "as many out_channels as in_channels. Got 2 and 3"),
        ({"factorization": "svd"}, ValueError, "must be one of cp, tucker, tensor_train"),
        ({"factorization": "cp", "rank": 0}, ValueError, "must be at least 1"),
        ({"implementation": "fast"}, ValueError, "must be one of auto, factorized"),
        ({"init_std": -1.0}, ValueError, "must be 'auto' or a finite number"),
        ({"init_std": "big"}, ValueError, "must be 'auto' or a finite number"),
        ({"dtype": torch.complex64}, TypeError, "must be float32 or float64"),
    ],
)
def test_wrong_arguments(words: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        SpectralConvolution(**{"in_channels": 3, "out_channels": 2, "n_modes": (4, 4), **words})
    assert message in str(caught.value)


def test_wrong_inputs() -> None:
    layer = make(None, (4, 4))
    for shape in ((3, 8, 8), (1, 2, 8, 8), (1, 3, 8), (1, 3, 8, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ValueError, match=r"must have shape \(n, 3, \*grid\) with 2 sizes"):
            layer(torch.ones(shape))
    for dtype in (torch.float32, torch.complex128, torch.int64):
        with pytest.raises(TypeError, match=r"must be real and of the layer's dtype torch.float64"):
            layer(torch.ones(1, 3, 8, 8, dtype=dtype))
    for out in ((8,), (0, 8), (8, 4.0)):
        with pytest.raises(ValueError, match="must hold 2 whole numbers above zero"):
            layer(torch.ones(1, 3, 8, 8), out)


def _peer(layer: SpectralConvolution, factorization: str | None) -> Any:
    """Give neuraloperator's layer with the same weights."""
    module = pytest.importorskip("neuralop.layers.spectral_convolution")
    peer = module.SpectralConv(
        3, 2, layer.n_modes, factorization=factorization, rank=2 if factorization else 1.0,
        implementation="reconstructed",
    ).double()  # fmt: skip
    with torch.no_grad():
        peer.bias.copy_(layer.bias)
        parts = [torch.view_as_complex(part.detach().clone()) for part in layer.parts()]
        if factorization is None:
            peer.weight.tensor = torch.nn.Parameter(layer.weight.detach().clone())
            return peer
        if factorization == "Tucker":
            peer.weight.core = torch.nn.Parameter(parts.pop(0))
        if factorization == "CP":
            peer.weight.weights = torch.nn.Parameter(torch.ones(2, dtype=torch.complex128))
        for k, part in enumerate(parts):
            peer.weight.factors[k] = torch.nn.Parameter(part)
    return peer


@FORMATS
@pytest.mark.parametrize(
    ("n_modes", "grid"),
    [((6,), (16,)), ((6, 6), (16, 12)), ((8, 8), (8, 8)), ((4, 4, 4), (6, 8, 6))],
)
@pytest.mark.filterwarnings("ignore")
def test_as_neuraloperator(factorization: str | None, n_modes: Any, grid: Any) -> None:
    pytest.importorskip("neuralop")
    layer = make(factorization, n_modes)
    peer = _peer(layer, factorization)
    x = torch.randn(2, 3, *grid)
    torch.testing.assert_close(layer(x), peer(x).to(x.dtype), rtol=1e-5, atol=1e-5)
