import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tensornet.layers import ZBL, BesselBasis, polynomial_envelope
from tensornet.layers.jets import evaluate, over, power, times

Function = Callable[[Tensor], Tensor]


def plain_envelope(x: Tensor, p: int) -> Tensor:
    rest = (1 - x).clamp(min=0)
    series = torch.stack([math.comb(k + 3, 3) * x**k for k in range(p)]).sum(0)
    return torch.where(x < 1, rest**4 * series, 0.0)


def plain_zbl(zbl: ZBL, species: Tensor, ends: Tensor, d: Tensor) -> Tensor:
    s, r = species[ends[0]], species[ends[1]]
    scaled = d * zbl.screening[s, r]
    terms = zip(zbl.coefficients, zbl.exponents, strict=True)
    phi = torch.stack([a * torch.exp(-b * scaled) for a, b in terms]).sum(0)
    pair = 14.399645478425668 * zbl.z[s] * zbl.z[r] / d * phi
    pair = 0.5 * pair * plain_envelope(d / zbl.range[s, r], 6)
    return torch.zeros(len(species)).index_add(0, ends[1], pair)


def plain_bessel(x: Tensor, n: int) -> Tensor:
    return math.sqrt(2) * torch.sin(torch.arange(1, n + 1) * math.pi * x[:, None]) / x[:, None]


X = torch.tensor([0.15, 0.4, 0.93, 1.2], dtype=torch.float64)
SPECIES = torch.tensor([0, 1, 1])
ENDS = torch.tensor([[0, 1, 2, 0], [1, 0, 1, 2]])
ZBL_CO = ZBL([6, 8]).double()
PAIRS = [
    *((lambda x, p=p: polynomial_envelope(x, p), lambda x, p=p: plain_envelope(x, p))
      for p in (1, 2, 6)),
    (BesselBasis(5), lambda x: plain_bessel(x, 5)),
    (lambda x: ZBL_CO(SPECIES, ENDS, x), lambda x: plain_zbl(ZBL_CO, SPECIES, ENDS, x)),
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=["p1", "p2", "p6", "bessel", "zbl"])
def test_derivatives_are_those_of_the_plain_operations(
    pair: tuple[Function, Function],
) -> None:
    weights = torch.linspace(1, 2, 4).double()
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for function, values in zip(pair, (found, wanted), strict=True):
        x = X.clone().requires_grad_()
        y = function(x)
        values.append(y)
        y = (y.flatten(1).sum(1) if y.ndim > 1 else y).sum()
        for _ in range(4):
            (g,) = torch.autograd.grad(y, x, create_graph=True)
            values.append(g)
            y = (weights * g).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_zero_times_infinity_does_not_come_up_far_away() -> None:
    x = torch.tensor([1e30], requires_grad=True)
    (g,) = torch.autograd.grad(polynomial_envelope(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    assert not g.any()
    assert not h.any()


def test_rules_of_calculus() -> None:
    x = torch.tensor([0.7, 1.9])
    sine = [(x + k * math.pi / 2).sin() for k in range(5)]
    cube = power(x, 3, 4)
    torch.testing.assert_close(cube, [x**3, 3 * x**2, 6 * x, torch.full_like(x, 6), 0 * x])
    torch.testing.assert_close(over(times(sine, power(x, 1, 4)), x), sine, rtol=1e-11, atol=1e-11)


def test_transforms_see_through() -> None:
    def jet(x: Tensor, n: int) -> list[Tensor]:
        return [(x + k * math.pi / 2).sin() for k in range(n + 1)]

    x = torch.tensor([0.3, 2.0])
    slopes = torch.func.vmap(torch.func.grad(lambda y: evaluate(jet, y)))(x)
    torch.testing.assert_close(slopes, x.cos())
    slopes = torch.func.jvp(lambda y: evaluate(jet, y), (x,), (torch.ones(2),))[1]
    torch.testing.assert_close(slopes, x.cos())
