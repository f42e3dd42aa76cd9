"""Ground states: exact energies, laws of the variation, and bad input."""

import math

import pytest
import torch
from torch import Tensor

from tensornet.formats import MPS, TensorTrain, TTMatrix, neighbour_chain, spin_chain
from tensornet.formats.hamiltonians import spin_operators
from tensornet.linalg import ground_state


def random_hermitian(dims: tuple[int, ...], dtype: torch.dtype) -> TTMatrix:
    """A sum of a TT-matrix and its adjoint, each mode of its own size."""
    ranks = [1, *[2] * (len(dims) - 1), 1]
    cores = tuple(
        torch.randn(a, d, d, b, dtype=dtype)
        for a, d, b in zip(ranks, dims, ranks[1:], strict=False)
    )
    half = TTMatrix(cores)
    return half + half.adjoint()


@pytest.mark.parametrize(
    ("length", "couplings", "energy"),
    [
        pytest.param(4, (1.0, 1.0, 1.0), -1.6160254038, id="heisenberg-4"),
        pytest.param(10, (1.0, 1.0, 1.0), -4.2580352073, id="heisenberg-10"),
        pytest.param(16, (1.0, 1.0, 1.0), -6.9117371456, id="heisenberg-16"),
        pytest.param(12, (1.0, 1.0, 0.5), -4.3381483309, id="xxz-12"),
        pytest.param(16, (1.0, 1.0, 0.0), -4.9189757237, id="xx-16"),
    ],
)
def test_energies_of_spin_chains(
    length: int, couplings: tuple[float, float, float], energy: float
) -> None:
    xx, yy, zz = couplings
    found = ground_state(spin_chain(length, xx=xx, yy=yy, zz=zz))
    assert found.converged, found.message
    assert found.energy == pytest.approx(energy, abs=1e-8)
    assert math.sqrt(found.variance) < 1e-3


def test_periodic_chain() -> None:
    found = ground_state(spin_chain(8, xx=1.0, yy=1.0, zz=1.0, periodic=True))
    assert found.energy == pytest.approx(-3.6510934089, abs=1e-8)


def test_spin_one() -> None:
    found = ground_state(spin_chain(6, xx=1.0, yy=1.0, zz=1.0, spin=1.0))
    assert found.energy == pytest.approx(-7.3702749694, abs=1e-8)


def test_critical_ising_chain() -> None:
    """H = - sum XX - sum Z with Pauli matrices has E = 1 - 1 / sin(pi / (2 (2 L + 1)))."""
    L = 32
    found = ground_state(spin_chain(L, xx=-4.0, z=-2.0))
    assert found.energy == pytest.approx(1 - 1 / math.sin(math.pi / (2 * (2 * L + 1))), abs=1e-7)


def test_aklt_chain_is_an_exact_product_of_matrices() -> None:
    """Rank 2, energy -2/3 per bond, and entropies that tend to ln 2 in the bulk."""
    S = spin_operators(1.0)
    signs = (1.0, -1.0, 1.0)  # Sy Sy = -(i Sy)(i Sy)
    pairs = [(sign * A, A) for sign, A in zip(signs, S, strict=True)]
    squares = [
        (s * t / 3 * A @ B, A @ B)
        for s, A in zip(signs, S, strict=True)
        for t, B in zip(signs, S, strict=True)
    ]
    L = 12
    # A field on both ends would choose one of the four ground states; any of them has the energy.
    found = ground_state(neighbour_chain(L, [*pairs, *squares]), tolerance=1e-11)
    assert found.energy == pytest.approx(-2 / 3 * (L - 1), abs=1e-9)
    assert found.variance < 1e-8


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("n_sites", [1, 2])
def test_agrees_with_dense_eigenvalues(dtype: torch.dtype, n_sites: int) -> None:
    H = random_hermitian((3, 2, 4, 3), dtype)
    dense = H.to_matrix()
    values, vectors = torch.linalg.eigh(dense)
    found = ground_state(H, n_sites=n_sites, max_rank=12, tolerance=1e-13)
    assert found.energy == pytest.approx(float(values[0]), abs=1e-9 * float(values.abs().max()))
    overlap = torch.vdot(found.value.to_dense().flatten(), vectors[:, 0]).abs()
    assert float(overlap) == pytest.approx(1.0, abs=1e-8)


def test_one_site_and_one_mode() -> None:
    x = torch.randn(5, 5)
    found = ground_state(TTMatrix(((x + x.mT)[None, :, :, None],)))
    assert found.energy == pytest.approx(float(torch.linalg.eigvalsh(x + x.mT)[0]), abs=1e-10)


def test_the_energy_is_an_upper_bound_and_that_of_the_state() -> None:
    """At a rank too low as well, and the variance is that of the state."""
    H = spin_chain(10, xx=1.0, yy=1.0, zz=1.0)
    energies = []
    for rank in (2, 4, 8):
        found = ground_state(H, max_rank=rank)
        psi: MPS = found.value
        assert max(psi.ranks) <= rank
        assert found.energy == pytest.approx(float(psi.expectation(H)), abs=1e-10)
        v, dense = psi.to_dense().flatten(), H.to_matrix()
        assert float(v.norm()) == pytest.approx(1.0, abs=1e-12)
        variance = float(v @ dense @ dense @ v - (v @ dense @ v) ** 2)
        assert found.variance == pytest.approx(variance, abs=1e-10)
        assert "was cut off" in found.message
        energies.append(found.energy)
    assert energies[0] > energies[1] > energies[2] > -4.2580352073


def test_the_scale_of_the_operator_scales_the_energy() -> None:
    H = spin_chain(6, xx=1.0, yy=1.0, zz=1.0)
    scaled = TTMatrix(H.cores, torch.tensor(3.0))
    assert ground_state(scaled).energy == pytest.approx(
        math.exp(3.0) * ground_state(H).energy, rel=1e-10
    )
    large = ground_state(TTMatrix(H.cores, torch.tensor(400.0)))  # its square is out of range
    assert large.energy == pytest.approx(math.exp(400.0) * ground_state(H).energy, rel=1e-10)


def test_an_energy_of_zero_is_reached() -> None:
    """Where nothing is relative to the energy: the shifted chain, and the operator zero."""
    H = spin_chain(8, xx=1.0, yy=1.0, zz=1.0)
    lowest = float(torch.linalg.eigvalsh(H.to_matrix())[0])
    found = ground_state(H + (-lowest) * TTMatrix.identity((2,) * 8))
    assert found.converged, found.message
    assert abs(found.energy) < 1e-9
    nothing = ground_state(0.0 * H)
    assert nothing.converged
    assert nothing.energy == 0


def test_starts_from_a_given_state_and_repeats_itself() -> None:
    H = spin_chain(8, xx=1.0, yy=1.0, zz=1.0)
    first, again = ground_state(H, seed=5), ground_state(H, seed=5)
    assert first.energy == again.energy
    warm = ground_state(H, start=first.value, max_sweeps=2)
    assert warm.energy == pytest.approx(first.energy, abs=1e-9)
    neel = MPS.product([torch.eye(2)[k % 2] for k in range(8)])
    assert ground_state(H, start=neel).energy == pytest.approx(-3.3749325987, abs=1e-8)


def test_few_sweeps_are_said_not_to_converge() -> None:
    found = ground_state(spin_chain(20, xx=1.0, yy=1.0, zz=1.0), max_sweeps=2)
    assert not found.converged
    assert "more than the tolerance" in found.message
    assert len(found.residuals) == found.n_iterations == 2


def test_float32() -> None:
    found = ground_state(spin_chain(8, xx=1.0, yy=1.0, zz=1.0, dtype=torch.float32))
    assert found.value.dtype == torch.float32
    assert found.energy == pytest.approx(-3.3749325987, abs=1e-4)


def bad(change: Tensor) -> TTMatrix:
    """A chain with another core in the middle."""
    H = spin_chain(4, zz=1.0)
    return TTMatrix((*H.cores[:2], H.cores[2] + change, H.cores[3]))


def test_bad_input() -> None:
    H = spin_chain(4, zz=1.0)
    with pytest.raises(ValueError, match=r"`ground_state\(H=...\)` must be Hermitian"):
        ground_state(bad(torch.randn(3, 2, 2, 3)))
    with pytest.raises(ValueError, match="must be finite"):
        ground_state(bad(torch.full((3, 2, 2, 3), math.nan)))
    with pytest.raises(ValueError, match=r"must be square in each mode. Got 2 x 3 in mode 0"):
        ground_state(TTMatrix((torch.ones(1, 2, 3, 1),)))
    with pytest.raises(ValueError, match=r"`ground_state\(max_rank=...\)` must be at least 1"):
        ground_state(H, max_rank=0)
    with pytest.raises(ValueError, match=r"log_scale of at most 700.0.* Got 800.0"):
        ground_state(TTMatrix(H.cores, torch.tensor(800.0)))
    with pytest.raises(TypeError, match=r"must be a TTMatrix\. Got Tensor"):
        ground_state(torch.eye(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be 1 or 2"):
        ground_state(H, n_sites=3)
    with pytest.raises(ValueError, match=r"must have the shape \(2, 2, 2, 2\)"):
        ground_state(H, start=TensorTrain((torch.ones(1, 3, 1),) * 4))
    with pytest.raises(ValueError, match="must not be zero"):
        ground_state(H, start=TensorTrain((torch.zeros(1, 2, 1),) * 4))
    with pytest.raises(TypeError, match="must have the dtype"):
        ground_state(H, start=TensorTrain((torch.ones(1, 2, 1, dtype=torch.float32),) * 4))
