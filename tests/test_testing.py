"""The public assertions pass what is right, and fail what is wrong by 0.1 % or less."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from tensornet.formats import CP, Format
from tensornet.layers import EquivariantLinear
from tensornet.models import LennardJones
from tensornet.models.lennard_jones import LennardJonesConfig
from tensornet.pde import LinearOperator
from tensornet.products import Certificate, ClebschGordanProduct, CPProduct, EdgeProduct, Product
from tensornet.so3 import spherical_harmonics
from tensornet.testing import (
    TOLERANCE,
    assert_close,
    assert_equivariant,
    assert_format_contract,
    assert_gradients,
    assert_operator_contract,
    assert_potential_contract,
    assert_product_contract,
)

# --- equivariance ---------------------------------------------------------------------------


@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_layers_and_products_turn(l_max: int) -> None:
    assert_equivariant(EquivariantLinear(l_max, 3, 2), l_max)
    assert_equivariant(EdgeProduct(l_max, "separable"), l_max)
    assert_equivariant(EdgeProduct(l_max, "path", odd_paths=False), l_max, inversion=True)


def test_inputs_can_be_given_and_the_result_may_have_another_degree() -> None:
    x, y = torch.randn(2, 9, 3), torch.randn(2, 9, 3)

    def scalars(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-2, keepdim=True)

    assert_equivariant(scalars, 2, inputs=[x, y], l_max_out=0)
    with pytest.raises(AssertionError, match=r"must give features of shape \(..., 9, c\)"):
        assert_equivariant(scalars, 2, inputs=[x, y])


def stretched(x: Tensor) -> Tensor:
    return torch.cat([x[..., :1, :], x[..., 1:2, :] * (1 + 1e-9), x[..., 2:, :]], -2)


def shifted(x: Tensor) -> Tensor:
    return x + torch.tensor([0.0, 1e-3, 0.0, 0.0])[:, None]


@pytest.mark.parametrize("function", [torch.tanh, stretched, shifted])
def test_what_does_not_turn_fails(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError, match="under a rotation: the largest error is") as caught:
        assert_equivariant(function, 1)
    assert "seed 20260704, transformation\n[[" in str(caught.value)


def test_what_turns_but_does_not_mirror_fails() -> None:
    odd = EdgeProduct(1)
    assert_equivariant(odd, 1)
    with pytest.raises(AssertionError, match="under inversion"):
        assert_equivariant(odd, 1, inversion=True)
    scalar_times_vector = [torch.randn(4, 4, 3), torch.randn(4, 4, 3)]

    def cross(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x[:, :1], torch.linalg.cross(x[:, 1:], y[:, 1:], dim=1)], 1)

    assert_equivariant(cross, 1, inputs=scalar_times_vector, inversion=False)
    with pytest.raises(AssertionError, match="under inversion"):
        assert_equivariant(cross, 1, inputs=scalar_times_vector)


def test_no_entries_prove_nothing() -> None:
    with pytest.raises(AssertionError, match="x: there are no entries, which proves nothing"):
        assert_close(torch.zeros(0), torch.zeros(0), 1e-3, "x")


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_zeros_and_nan_prove_nothing(value: float) -> None:
    with pytest.raises(AssertionError, match="proves nothing"):
        assert_equivariant(lambda x: x * value, 1)


def test_nan_in_one_place_fails() -> None:
    def sometimes(x: Tensor) -> Tensor:
        return torch.where((x - first).abs().max() == 0, x, x / (x != x.max()))

    first = torch.randn(4, 4, 3)
    with pytest.raises(AssertionError, match="largest error is inf"):
        assert_equivariant(sometimes, 1, inputs=[first])


def test_precision_is_that_of_the_stored_numbers() -> None:
    assert TOLERANCE[torch.float64] < 1e-9 < TOLERANCE[torch.float32]
    low = ClebschGordanProduct(2).float()
    assert_equivariant(low, 2)
    assert low.values.dtype == torch.float32
    assert_equivariant(low, 2, tolerance=1e-12)  # its constants are exact again in float64


def test_random_numbers_of_others_stay() -> None:
    torch.manual_seed(8128)
    expected = torch.rand(2)
    torch.manual_seed(8128)
    assert_equivariant(EdgeProduct(1, "shared"), 1)
    assert_gradients(torch.sin, [torch.linspace(0, 1, 3)])
    assert torch.equal(torch.rand(2), expected)


# --- gradients ------------------------------------------------------------------------------


class Wrong(torch.autograd.Function):
    """x³ with a first or second derivative that is off by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: float, second: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factors = first, second
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        first, second = ctx.factors
        slope = 3 * first * (x * x)
        # The value of the slope stays, its derivative changes.
        return grads[0] * (second * slope + (1 - second) * slope.detach()), None, None


def test_right_gradients_pass_for_several_inputs_and_integers() -> None:
    x, y, index = torch.randn(3), torch.randn(3), torch.tensor([2, 0])
    assert_gradients(lambda x, y, k: (x * y.sin())[k], [x, y, index])
    assert_gradients(harmonics, [torch.randn(2, 3)])


def harmonics(r: Tensor) -> Tensor:
    return spherical_harmonics(r, 2)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [(1.0, 1.0, ""), (1.001, 1.0, "first derivative"), (1.0, 1.001, "second derivative")],
)
def test_gradients_wrong_by_a_thousandth_fail(first: float, second: float, words: str) -> None:
    def function(x: Tensor) -> Tensor:
        result: Tensor = Wrong.apply(x, first, second)  # type: ignore[no-untyped-call]
        return result

    x = torch.tensor([0.7, 1.3])
    if not words:
        assert_gradients(function, [x])
        return
    with pytest.raises(AssertionError, match=f"`function`: the {words} disagrees"):
        assert_gradients(function, [x])


def test_low_precision_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be float64. Got torch.float32 in number 1"):
        assert_gradients(torch.add, [torch.ones(1), torch.ones(1, dtype=torch.float32)])


# --- products -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["none", "shared", "separable", "path"])
@pytest.mark.parametrize("kind", [ClebschGordanProduct, EdgeProduct])
def test_right_products_keep_the_contract(kind: type[Product], weights: str) -> None:
    assert_product_contract(kind(1, weights))
    assert_product_contract(kind(2, weights, odd_paths=False))


def test_decompositions_keep_the_contract() -> None:
    assert_product_contract(CPProduct(1, path_weights="separable"))
    assert_product_contract(CPProduct(1).float())
    low = CPProduct(1, 5, path_weights="shared")
    assert_product_contract(low, exact=False)
    with pytest.raises(AssertionError, match="does not store its target: the largest error is"):
        assert_product_contract(low)


class WrongTensor(ClebschGordanProduct):
    """One path is too strong by 1e-9: symmetric, but not the target."""

    def __init__(self) -> None:
        super().__init__(1)
        self.values[0] *= 1 + 1e-9
        self.unfolded[0, 0] *= 1 + 1e-9


class WrongWeights(EdgeProduct):
    """The weights of input and output are exchanged."""

    def expand(self, weight: Tensor) -> Tensor:
        return super().expand(weight).flip(-3)


class WrongCall(EdgeProduct):
    """What is computed is not what is stored."""

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        return super().multiply(x1, prepared, expanded) * (1 + 1e-9)


class NotBilinear(EdgeProduct):
    """Right where it is usually looked at, and not linear."""

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        out = super().multiply(x1, prepared, expanded)
        return torch.where(x1.abs().max() > 5, out * (1 + 1e-9), out)


class WrongGradient(EdgeProduct):
    """The right numbers, and a derivative that is wrong by a thousandth."""

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        out = super().multiply(x1, prepared, expanded)
        return 1.001 * out - 0.001 * out.detach()


class NoBatch(EdgeProduct):
    """Forgets what no rows look like."""

    def multiply(self, x1: Tensor, prepared: Tensor, expanded: Tensor | None) -> Tensor:
        return super().multiply(x1, prepared, expanded) if len(x1) else x1[..., :1]


class Flattering(CPProduct):
    """Certifies less than the truth in one number."""

    number = "approximation"

    def certificate(self) -> Certificate:
        numbers = vars(super().certificate())
        return Certificate(**{**numbers, self.number: numbers[self.number] * 0.999})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(WrongTensor, "does not store its target", id="tensor"),
        pytest.param(lambda: WrongWeights(1, "separable"), "does not compute", id="weights"),
        pytest.param(lambda: WrongCall(1), "does not compute", id="call"),
        pytest.param(lambda: NotBilinear(1), "is not bilinear", id="bilinear"),
        pytest.param(lambda: WrongGradient(1), "first derivative", id="gradient"),
        pytest.param(lambda: NoBatch(1), "no rows for no rows", id="batch"),
    ],
)
def test_wrong_products_fail(make: Callable[[], Product], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        assert_product_contract(make())


@pytest.mark.parametrize("number", ["approximation", "equivariance", "parity"])
def test_flattering_certificates_fail(number: str) -> None:
    product = Flattering(1, 5)
    product.number = number
    with pytest.raises(AssertionError, match=rf"certificate\(\)\.{number}` is"):
        assert_product_contract(product, exact=False)


# --- formats and operators ------------------------------------------------------------------


def test_formats_that_stay_in_their_dtype_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Format, "kinds", dict(Format.kinds))  # where a subclass enters itself

    class Stubborn(CP):
        """Stays in its dtype."""

        def to(self, *args: Any, **options: Any) -> Any:
            return self

    x, y = (tuple(torch.randn(d, 2) for d in (3, 4)) for _ in range(2))
    assert_format_contract(CP(x), CP(y))
    with pytest.raises(AssertionError, match=r"`Stubborn.to\(torch.float32\)` gave torch.float64"):
        assert_format_contract(Stubborn(x), Stubborn(y), gradients=False)


class Crooked(LinearOperator):
    """Says that it is symmetric, and is off by a thousandth."""

    symmetric = True
    shape, dtype, device = (3, 3), torch.float64, torch.device("cpu")

    def _apply(self, x: Tensor) -> Tensor:
        matrix = torch.tensor([[2.0, 1.0, 0.0], [1.001, 2.0, 1.0], [0.0, 1.0, 2.0]])
        return x @ matrix.mT


def test_operators_that_are_not_symmetric_fail() -> None:
    with pytest.raises(AssertionError, match=r"transpose|symmetric"):
        assert_operator_contract(Crooked())


# --- potentials -----------------------------------------------------------------------------


def copper() -> Atoms:
    return bulk("Cu", a=3.7, cubic=True)


def potential(kind: type[LennardJones] = LennardJones) -> LennardJones:
    config = LennardJonesConfig(cutoff=4.0, epsilon=0.01, sigma=2.3)
    return kind(config, elements=[29], reference_energies={29: -1.0})


class SharpCutoff(LennardJones):
    """The energy jumps at the cutoff."""

    switch_on = 0.999


class WrongForces(LennardJones):
    """Forces are wrong by 1e-5."""

    def forward(self, graph: Any, *, forces: bool = True) -> dict[str, Tensor]:
        output = super().forward(graph, forces=forces)
        return {k: v * (1 + 1e-5) if k == "forces" else v for k, v in output.items()}


def test_a_right_potential_keeps_the_contract() -> None:
    report = assert_potential_contract(potential(), copper(), besides=(), md_steps=20)
    assert report.passed


@pytest.mark.parametrize(
    ("kind", "row"), [(SharpCutoff, "cutoff"), (WrongForces, "forces")], ids=["cutoff", "forces"]
)
def test_wrong_potentials_fail_with_the_table(kind: type[LennardJones], row: str) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_potential_contract(potential(kind), copper())
    words = str(caught.value)
    assert row in words.splitlines()[0]
    assert "Validation of a lennard_jones model" in words
    assert "FAILED" in words


def test_excuses_must_name_checks() -> None:
    assert_potential_contract(potential(WrongForces), copper(), besides=("forces", "dimers"))
    with pytest.raises(ValueError, match=r"must name checks: .*forces.* Got force\."):
        assert_potential_contract(potential(), copper(), besides=("force",))
