"""Matrix-product states: gauges, entropies of known states, sampling, optimal cuts, bad input."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tensornet.formats import MPS, TTMatrix, load, neighbour_chain, spin_chain, spin_operators


def random_state(dims: tuple[int, ...], rank: int, dtype: torch.dtype = torch.float64) -> MPS:
    ranks = [1, *[rank] * (len(dims) - 1), 1]
    shapes = zip(ranks, dims, ranks[1:], strict=False)
    return MPS(tuple(torch.randn(*shape, dtype=dtype) for shape in shapes))


def ghz(n: int) -> MPS:
    """(|00...> + |11...>) / sqrt 2."""
    core = torch.diag_embed(torch.eye(2)).movedim(0, 1)
    ends = torch.eye(2)
    scale = torch.tensor(-0.5 * math.log(2))
    return MPS((ends[None], *[core] * (n - 2), ends[..., None]), log_scale=scale)


def dimers(n: int) -> MPS:
    """Singlets on sites (0, 1), (2, 3), ..."""
    left = torch.eye(2)[None] / math.sqrt(2)
    right = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])[..., None]
    return MPS((left, right) * (n // 2))


def aklt(n: int) -> MPS:
    """The spin-1 state of rank two, with free ends of spin 1/2 fixed."""
    up, zero, down = torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2)
    up[0, 1], down[1, 0] = math.sqrt(2 / 3), -math.sqrt(2 / 3)
    zero[0, 0], zero[1, 1] = -math.sqrt(1 / 3), math.sqrt(1 / 3)
    core = torch.stack([up, zero, down], 1)
    return MPS((core[:1], *[core] * (n - 2), core[..., :1]))


def gauge_error(psi: MPS) -> float:
    """How far the cores are from orthonormal towards the centre."""
    center, worst = psi.center, 0.0
    assert center is not None
    for k, core in enumerate(psi.cores):
        if k < center:
            gram = torch.einsum("adb,adc->bc", core.conj(), core)
        elif k > center:
            gram = torch.einsum("adb,cdb->ac", core.conj(), core)
        else:
            continue
        worst = max(worst, float((gram - torch.eye(len(gram))).abs().max()))
    return worst


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_canonical_forms_are_the_same_state(dtype: torch.dtype) -> None:
    psi = random_state((2, 3, 4, 2, 3), 4, dtype)
    dense = psi.to_dense()
    state = psi
    for center in (2, 0, 4, -2, 1):  # moves a known centre, too
        state = state.canonical(center)
        assert state.center == center % 5
        assert gauge_error(state) < 1e-13
        torch.testing.assert_close(state.to_dense(), dense)
        torch.testing.assert_close(state.norm(), dense.norm())
        core = state.cores[state.center]
        assert float(torch.linalg.vector_norm(core)) == pytest.approx(1.0, abs=1e-13)


def test_operations_keep_the_centre_where_they_may() -> None:
    psi = random_state((2, 3, 2), 3, torch.complex128).canonical(1)
    assert (-2.5 * psi).center == 1
    assert psi.conj().center == 1
    assert gauge_error(psi.conj()) < 1e-13
    assert (0 * psi).center is None
    assert (psi + psi).center is None
    torch.testing.assert_close((psi + psi).to_dense(), 2 * psi.to_dense())
    torch.testing.assert_close((0 * psi).norm(), torch.zeros(()))
    assert psi.to(torch.complex64).center == 1
    assert float(psi.normalized().norm()) == pytest.approx(1.0, abs=1e-14)


def test_files_keep_the_centre(tmp_path: Path) -> None:
    psi = random_state((2, 3, 2), 2).canonical(2)
    psi.save(tmp_path / "psi.safetensors")
    read = load(tmp_path / "psi.safetensors")
    assert isinstance(read, MPS)
    assert read.center == 2
    assert torch.equal(read.to_dense(), psi.to_dense())


def test_entropies_of_known_states() -> None:
    ln2 = math.log(2)
    torch.testing.assert_close(ghz(8).entropies(), torch.full((7,), ln2))
    expected = torch.tensor([ln2, 0.0] * 4)[:-1]
    torch.testing.assert_close(dimers(8).entropies(), expected, atol=1e-13, rtol=0)
    bulk = aklt(40).entropies()[15:25]
    torch.testing.assert_close(bulk, torch.full((10,), ln2), atol=1e-6, rtol=0)
    up = MPS.product([torch.tensor([3.0, 4.0])] * 5)
    assert float(up.norm()) == pytest.approx(5.0**5, rel=1e-14)
    assert float(up.entropies().abs().max()) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_schmidt_values_are_singular_values_in_every_gauge(dtype: torch.dtype) -> None:
    psi = random_state((3, 2, 3, 2), 4, dtype)
    dense = psi.to_dense() / psi.norm()
    for state in (psi, psi.canonical(2), 7.0 * psi.canonical(3)):
        for k, s in enumerate(state.schmidt_values(), 1):
            rows = math.prod(psi.shape[:k])
            exact = torch.linalg.svdvals(dense.reshape(rows, -1))
            torch.testing.assert_close(s, exact[: len(s)], atol=1e-13, rtol=0)
        torch.testing.assert_close(state.entropies(), psi.entropies(), atol=1e-12, rtol=0)


def test_entropies_have_a_derivative_where_schmidt_values_coincide() -> None:
    core = ghz(4).cores[1].requires_grad_()

    def total(c: Tensor) -> Tensor:
        x = ghz(4)
        return MPS((x.cores[0], c, *x.cores[2:])).entropies().sum()

    noise = 0.1 * torch.randn_like(core)
    (slope,) = torch.autograd.grad(total(core), core)
    step = 1e-5
    with torch.no_grad():
        finite = (total(core + step * noise) - total(core - step * noise)) / (2 * step)
    assert float((slope * noise).sum()) == pytest.approx(float(finite), abs=1e-7)


def test_samples_have_the_frequencies_of_the_squares() -> None:
    """Chi-square over all 24 configurations; 23 degrees of freedom, so 60 is never."""
    psi = random_state((2, 3, 2, 2), 3, torch.complex128)
    p = (psi.to_dense().abs().square() / psi.norm().square()).flatten()
    n = 20_000
    drawn = psi.sample(n, seed=1)
    assert drawn.shape == (n, 4)
    flat = ((drawn[:, 0] * 3 + drawn[:, 1]) * 2 + drawn[:, 2]) * 2 + drawn[:, 3]
    counts = torch.bincount(flat, minlength=24)
    assert float(((counts - n * p).square() / (n * p)).sum()) < 60
    assert torch.equal(psi.sample(50, seed=3), psi.sample(50, seed=3))
    assert not torch.equal(psi.sample(50, seed=3), psi.sample(50, seed=4))
    same = ghz(30).sample(64, seed=0)
    assert bool((same == same[:, :1]).all())
    assert 10 < int(same[:, 0].sum()) < 54


def test_a_cut_costs_what_it_drops_and_nothing_more() -> None:
    """True error over discarded weight is one, at every bond, and the best of its rank."""
    psi = random_state((3, 3, 3, 3, 3), 6)
    dense, schmidt = psi.to_dense(), psi.schmidt_values()
    for bond in range(4):
        cut = psi.truncate_bond(bond, max_rank=2)
        assert cut.value.ranks[bond + 1] == 2
        true = float((cut.value.to_dense() - dense).norm() / dense.norm())
        assert true / cut.relative_error == pytest.approx(1.0, abs=1e-10)
        assert cut.relative_error == pytest.approx(float(schmidt[bond][2:].norm()), rel=1e-10)
        assert not cut.converged
    whole = psi.truncate_bond(1, tolerance=1e-12)
    assert whole.converged
    assert whole.relative_error < 1e-12


def test_rounding_is_within_the_tolerance_and_leaves_a_centre() -> None:
    psi = random_state((3, 3, 3, 3), 5)
    double = psi + psi
    rounded = double.round(tolerance=1e-10)
    assert rounded.center == 3
    assert gauge_error(rounded) < 1e-13
    assert rounded.ranks == psi.round(tolerance=1e-12).ranks
    torch.testing.assert_close(rounded.to_dense(), 2 * psi.to_dense())
    rough = psi.round(tolerance=0.3)
    assert float((rough.to_dense() - psi.to_dense()).norm() / psi.norm()) <= 0.3


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_expectations_agree_with_dense_ones(dtype: torch.dtype) -> None:
    dims = (2, 3, 2, 3)
    psi = 3.0 * random_state(dims, 3, dtype)
    v = psi.to_dense().flatten()
    v = v / v.norm()
    ranks = (1, 2, 3, 2, 1)
    H = TTMatrix(
        tuple(
            torch.randn(a, d, d, b, dtype=dtype)
            for a, d, b in zip(ranks, dims, ranks[1:], strict=False)
        )
    )
    torch.testing.assert_close(psi.expectation(H), torch.vdot(v, H.to_matrix() @ v))
    A, B = torch.randn(3, 3, dtype=dtype), torch.randn(2, 2, dtype=dtype)
    eye2, eye3 = torch.eye(2, dtype=dtype), torch.eye(3, dtype=dtype)
    dense = torch.kron(torch.kron(eye2, A), torch.kron(B, eye3))
    for state in (psi, psi.canonical(0), psi.canonical(1), psi.canonical(3)):
        torch.testing.assert_close(state.local_expectation({1: A, 2: B}), torch.vdot(v, dense @ v))


def test_aklt_energy_and_correlation_length() -> None:
    """-2/3 per bond; spin correlations fall by -1/3 per site."""
    x, iy, z = spin_operators(1.0)
    first = [(x, x), (-iy, iy), (z, z)]
    second = [(A @ C / 3, B @ D) for A, B in first for C, D in first]
    psi = aklt(16)
    energy = psi.expectation(neighbour_chain(16, [*first, *second]))
    assert float(energy) == pytest.approx(-2 / 3 * 15, abs=1e-12)
    long = aklt(60)
    near = float(long.local_expectation({25: z, 31: z}))
    far = float(long.local_expectation({25: z, 34: z}))
    assert far / near == pytest.approx(-1 / 27, rel=1e-9)


def test_gates() -> None:
    psi = random_state((2, 3, 2, 2), 3)
    gate = torch.randn(6, 6)
    moved = psi.apply_gate(gate, 0)
    dense = torch.einsum("xyab,abcd->xycd", gate.reshape(2, 3, 2, 3), psi.to_dense())
    torch.testing.assert_close(moved.value.to_dense(), dense)
    assert moved.value.center == 1
    cut = psi.apply_gate(torch.randn(2, 2, 2, 2), 2, max_rank=1)
    assert cut.value.ranks[3] == 1
    assert gauge_error(cut.value) < 1e-13


def test_imaginary_time_finds_the_ground_state() -> None:
    """Trotter steps of exp(-t h) on the Heisenberg chain of four."""
    bond = spin_chain(2, xx=1.0, yy=1.0, zz=1.0).to_matrix()
    H = spin_chain(4, xx=1.0, yy=1.0, zz=1.0)
    psi = MPS.product([torch.eye(2)[k % 2] for k in range(4)])
    t = 0.15
    half, whole = torch.linalg.matrix_exp(-t / 2 * bond), torch.linalg.matrix_exp(-t * bond)
    for _ in range(50):
        for gate, k in ((half, 0), (half, 2), (whole, 1), (half, 2), (half, 0)):
            psi = psi.apply_gate(gate, k, tolerance=1e-12).value
        psi = psi.normalized()
    assert float(psi.expectation(H)) == pytest.approx(-1.6160254038, abs=2e-4)


def test_two_thousand_sites_stay_in_range() -> None:
    n = 2000
    psi = MPS((torch.randn(1, 2, 3), *[torch.randn(3, 2, 3)] * (n - 2), torch.randn(3, 2, 1)))
    state = psi.canonical(1000)
    assert float(state.log_norm()) == pytest.approx(float(psi.log_norm()), rel=1e-12)
    assert float(state.normalized().norm()) == pytest.approx(1.0, abs=1e-9)
    z = torch.diag(torch.tensor([0.5, -0.5]))
    short = MPS((psi.cores[0], *psi.cores[1:299], psi.cores[-1]), log_scale=torch.tensor(700.0))
    total = short.expectation(neighbour_chain(300, [(0 * z, z)], local=torch.eye(2)))
    assert float(total) == pytest.approx(300, rel=1e-9)
    assert short.sample(3).shape == (3, 300)


def test_bad_input() -> None:
    psi = random_state((2, 2, 2), 2)
    with pytest.raises(ValueError, match=r"`MPS\(center=1\)` must have cores orthonormal towards"):
        MPS(psi.cores, 1)
    with pytest.raises(IndexError, match="must be a site of a chain of 3"):
        psi.canonical(3)
    with pytest.raises(TypeError, match="must be a whole number"):
        psi.canonical(1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have a state that is not zero"):
        (0 * psi).sample(1)
    with pytest.raises(ValueError, match="must have a state that is not zero"):
        (0 * psi).normalized()
    with pytest.raises(ValueError, match=r"`MPS.sample\(n=...\)` must be at least 1"):
        psi.sample(0)
    with pytest.raises(IndexError, match=r"`MPS.truncate_bond\(bond=...\)` must be in 0 to 1"):
        psi.truncate_bond(2)
    with pytest.raises(ValueError, match=r"must have shape \(4, 4\) or \(2, 2, 2, 2\)"):
        psi.apply_gate(torch.eye(2), 0)
    with pytest.raises(ValueError, match="must not send the state to zero"):
        psi.apply_gate(torch.zeros(4, 4), 0)
    with pytest.raises(ValueError, match=r"gate=...\)` must be finite"):
        psi.apply_gate(torch.full((4, 4), math.nan), 0)
    with pytest.raises(ValueError, match=r"`MPS.apply_gate\(tolerance=...\)`"):
        psi.apply_gate(torch.eye(4), 0, tolerance=-1.0)
    with pytest.raises(ValueError, match=r"`MPS.truncate_bond\(max_rank=...\)` must be at least 1"):
        psi.truncate_bond(0, max_rank=0)
    with pytest.raises(ValueError, match="must have a state that is not zero"):
        (0 * psi).expectation(TTMatrix.identity((2, 2, 2)))
    with pytest.raises(ValueError, match="must have a state that is not zero"):
        (0 * psi).local_expectation({1: torch.eye(2)})
    with pytest.raises(ValueError, match="must act on the shape"):
        psi.expectation(TTMatrix.identity((2, 2)))
    with pytest.raises(ValueError, match="must not be empty"):
        psi.local_expectation({})
    with pytest.raises(ValueError, match=r"operators\[1\]=...\)` must have shape \(2, 2\)"):
        psi.local_expectation({1: torch.eye(3)})
    with pytest.raises(ValueError, match="must not be zero"):
        MPS.product([torch.zeros(2)])
    with pytest.raises(ValueError, match="must have at least one pair"):
        neighbour_chain(4, [])
    with pytest.raises(ValueError, match=r"`spin_chain\(length=...\)` must be at least 3"):
        spin_chain(2, zz=1.0, periodic=True)
    with pytest.raises(ValueError, match="multiple of one half"):
        spin_chain(4, zz=1.0, spin=0.3)


def test_spin_operators_commute_as_spins_do() -> None:
    for spin in (0.5, 1.0, 1.5):
        x, iy, z = spin_operators(spin)
        torch.testing.assert_close(z @ x - x @ z, iy)  # [Sz, Sx] = i Sy
        square = x @ x - iy @ iy + z @ z
        torch.testing.assert_close(square, spin * (spin + 1) * torch.eye(len(x)))


def test_chains_agree_with_sums_of_dense_operators() -> None:
    A, B, C = torch.randn(3, 2, 2)
    eye = torch.eye(2)
    for periodic in (False, True):
        H = neighbour_chain(3, [(A, B), (C, A)], local=C, periodic=periodic).to_matrix()
        dense = torch.zeros(8, 8)
        for L, R in ((A, B), (C, A)):
            dense += torch.kron(torch.kron(L, R), eye) + torch.kron(eye, torch.kron(L, R))
            dense += torch.kron(torch.kron(R, eye), L) * periodic
        for k in range(3):
            ops = [C if j == k else eye for j in range(3)]
            dense += torch.kron(torch.kron(ops[0], ops[1]), ops[2])
        torch.testing.assert_close(H, dense)
