"""Products with small matrices and readouts in Numba, against torch."""

import numpy as np
import pytest
import torch

from tensornet.kernels._tile import BYTES
from tensornet.kernels.nodes.cpu import multiply, readout
from tensornet.layers import ScalarReadout

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 21])
def test_multiplies_by_component_and_by_group(dtype: torch.dtype, n: int) -> None:
    lanes = BYTES // dtype.itemsize
    x = torch.randn(n, 4, 2 * lanes, dtype=dtype)
    by_component, by_group = (torch.randn(3, 2 * lanes, 3 * lanes, dtype=dtype) for _ in range(2))
    group = torch.arange(n) % 3
    order = torch.argsort(group, stable=True).numpy()
    starts = np.concatenate([[0], np.bincount(group, minlength=3).cumsum()])
    out = np.full((n, 5, 3 * lanes), 7.0, by_group.numpy().dtype)
    multiply(order, np.array([0, n]), x.numpy(), by_component.numpy(), out)
    wanted = torch.einsum("nmc,mcd->nmd", x[:, :3], by_component)
    scale = TOLERANCE[dtype] * float(wanted.abs().max())
    np.testing.assert_allclose(out[:, :3], wanted, rtol=0, atol=scale)
    assert (out[:, 3:] == 7).all()
    multiply(order, starts, x.numpy(), by_group.numpy(), out, 2)
    wanted = torch.einsum("nmc,ncd->nmd", x[:, :2], by_group[group])
    np.testing.assert_allclose(out[:, :2], wanted, rtol=0, atol=scale)


def test_reads_as_the_layer_does() -> None:
    layer, x = ScalarReadout(16).double(), torch.randn(5, 4, 16)
    weight, bias, of_output = (
        p.detach().numpy() for p in (layer.hidden.weight, layer.hidden.bias, layer.out.weight[0])
    )
    output = np.ones(5)
    inwards = np.ascontiguousarray(weight.T)
    last, slope = readout(np.arange(5)[::-1].copy(), x.numpy(), inwards, bias, of_output, output)
    scalars = x[:, 0].clone().requires_grad_()
    wanted = layer(scalars)
    (g,) = torch.autograd.grad(wanted.sum(), scalars)
    np.testing.assert_allclose(last, layer.last_layer(scalars).detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(output, 1 + wanted.detach(), rtol=1e-13)
    np.testing.assert_allclose(slope, g, rtol=1e-12, atol=1e-14)
