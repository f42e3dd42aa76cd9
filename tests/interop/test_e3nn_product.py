"""Our TensorProduct beside e3nn's: every mode, normalisation and kind of weights."""

import copy
import pickle
import random
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import Tensor

from tensornet.interop.e3nn import TensorProduct

MODES = ("uvw", "uvu", "uvv", "uuw", "uuu", "uvuv", "uvu<v", "u<vw")


pytestmark = pytest.mark.usefixtures("interpreted")


def irreps_and_instructions(rng: random.Random, modes: tuple[str, ...]) -> tuple[Any, ...]:
    """Random blocks and paths; some blocks unused, some outputs shared."""

    def irrep() -> Any:
        return o3.Irrep(rng.choice([0, 0, 1, 1, 2, 3]), rng.choice([1, -1]))

    muls = [rng.choice([1, 2, 3, 4, 16, 32]) for _ in range(2)]
    one = [(rng.choice(muls), irrep()) for _ in range(rng.choice([1, 2, 3]))]
    two = [(rng.choice([muls[0], muls[0], 1, 2]), irrep()) for _ in range(rng.choice([1, 2, 3]))]
    out: list[Any] = []
    instructions: list[Any] = []
    for a, (m, first) in enumerate(one):
        for b, (n, second) in enumerate(two):
            for ir in first * second:
                mode, train = rng.choice(modes), rng.random() < 0.7
                train = train or mode in ("uvw", "u<vw")
                if ir.l > 3 or rng.random() < 0.3 or (m != n and mode in _EQUAL):
                    continue
                mixed = rng.choice([1, 2, 3])
                mul = {
                    "uvw": mixed, "uvu": m, "uvv": n, "uuw": mixed if train else 1, "uuu": m,
                    "uvuv": m * n, "uvu<v": m * (m - 1) // 2, "u<vw": mixed,
                }[mode]  # fmt: skip
                same = [k for k, block in enumerate(out) if block == (mul, ir)]
                if not same or rng.random() < 0.4:
                    same = [len(out)]
                    out.append((mul, ir))
                weight = (rng.choice([0.0, 0.5, 2.0]),) if rng.random() < 0.3 else ()
                instructions.append((a, b, rng.choice(same), mode, train, *weight))
    out = out or [(2, irrep())]
    rng.shuffle(instructions)
    return o3.Irreps(one), o3.Irreps(two), o3.Irreps(out), instructions


_EQUAL = ("uuw", "uuu", "uvu<v", "u<vw")


def both(*args: Any, **kwargs: Any) -> tuple[Any, TensorProduct]:
    """e3nn's product and ours, with the same weights."""
    theirs, ours = o3.TensorProduct(*args, **kwargs), TensorProduct(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def gradients(out: Tensor, inputs: list[Tensor], seed: int) -> list[Tensor]:
    """First derivatives of a number made of `out`, and those of their squares."""
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed))
    some = torch.autograd.grad(
        (out.square() * g).sum(), inputs, create_graph=True, materialize_grads=True
    )
    squares = sum((s.square().sum() for s in some), torch.zeros(()))
    return [*some, *torch.autograd.grad(squares, inputs, materialize_grads=True)]


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    """Differ by less than the tolerance, times the size of the numbers."""
    assert a.shape == b.shape
    if a.numel():
        a, b = a.detach(), b.detach()
        assert float((a - b).abs().max()) <= tolerance * (1e-3 + float(a.abs().max()))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", [*MODES, "all"])
def test_like_e3nn(mode: str, seed: int) -> None:
    rng = random.Random(f"{mode} {seed}")
    modes = MODES if mode == "all" else (mode,)
    *irreps, instructions = irreps_and_instructions(rng, modes)
    while not any(0.0 not in ins[5:] for ins in instructions):
        *irreps, instructions = irreps_and_instructions(rng, modes)
    shared = seed % 2 == 0
    arguments = {
        "in1_var": [rng.uniform(0.5, 2) for _ in irreps[0]] if seed == 1 else None,
        "in2_var": torch.rand(len(irreps[1])) + 0.5 if seed == 2 else None,
        "out_var": [rng.uniform(0.5, 2) for _ in irreps[2]] if seed == 3 else None,
        "irrep_normalization": rng.choice(["component", "norm", "none", None]),
        "path_normalization": rng.choice(["element", "path", "none", None]),
        "shared_weights": shared,
        "internal_weights": seed == 0,
    }
    theirs, ours = both(*irreps, instructions, **arguments)
    assert repr(ours) == repr(theirs)
    assert torch.equal(ours.output_mask, theirs.output_mask)
    x = torch.randn(2, 1, irreps[0].dim, requires_grad=True)
    y = torch.randn(3, irreps[1].dim, requires_grad=True)
    inputs, weight = [x, y], None
    if seed != 0 and ours.weight_numel:
        batch = () if shared else (2, 3)
        weight = torch.randn(*batch, ours.weight_numel, requires_grad=True)
        inputs.append(weight)
    for a, b in zip(theirs.instructions, ours.instructions, strict=True):
        assert tuple(a)[:5] == tuple(b)[:5]
        assert a.path_weight == pytest.approx(b.path_weight, rel=1e-14)
        assert tuple(a.path_shape) == tuple(b.path_shape)
    a, b = theirs(x, y, weight), ours(x, y, weight)
    assert_same(a, b)
    own = [[p.weight] if ours.weight_numel and weight is None else [] for p in (theirs, ours)]
    expected, made = (gradients(out, inputs + w, seed) for out, w in zip((a, b), own, strict=True))
    for one, two in zip(expected, made, strict=True):
        assert_same(one, two)


def test_single_precision() -> None:
    args = "16x0e+16x1o", "0e+1o+2e", "16x0e+16x1o+16x1e", [
        (0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True), (1, 1, 0, "uvu", True),
        (1, 2, 1, "uvu", True), (1, 1, 2, "uvu", False),
    ]  # fmt: skip
    theirs, ours = both(*args, shared_weights=False)
    x, y, w = torch.randn(9, 64), torch.randn(9, 9), torch.randn(9, 64)
    exact = theirs(x, y, w)
    single = ours.to(torch.float32)(x.float(), y.float(), w.float())
    assert single.dtype == torch.float32
    assert_same(exact, single.double(), 1e-6)
    assert not torch.equal(exact, single.double())
    assert_same(exact, ours.double()(x, y, w))  # exact again, though it was rounded before


def test_batches() -> None:
    args = "2x0e+1o", "1o", "2x1o+1e", [(0, 0, 0, "uvu", True), (1, 0, 1, "uvw", True)]
    theirs, ours = both(*args, shared_weights=False)
    shapes: list[tuple[tuple[int, ...], ...]] = [
        ((4,), (1,), (4,)), ((1,), (4,), (4,)), ((2, 3), (3,), (2, 1)), ((3,), (3,), (1,)),
        ((0,), (0,), (0,)), ((0,), (1,), (0,)), ((2, 0), (1,), (2, 1)), ((), (3,), (3,)),
    ]  # fmt: skip
    for first, second, third in shapes:
        x, y, w = torch.randn(*first, 5), torch.randn(*second, 3), torch.randn(*third, 3)
        made = ours(x, y, w)
        assert made.shape[:-1] == torch.broadcast_shapes(first, second, third)
        assert_same(theirs(x, y, w), made)
    theirs, ours = both(*args)
    shapes = [((), ()), ((), (4,)), ((5, 1), (4,))]
    for first, second in shapes:
        x, y = torch.randn(*first, 5), torch.randn(*second, 3)
        assert_same(theirs(x, y), ours(x, y))


def test_rows_may_have_gaps() -> None:
    theirs, ours = both("3x1o", "1o", "3x1e", [(0, 0, 0, "uvu", True)], shared_weights=False)
    x, y, w = torch.randn(9, 5).T, torch.randn(5, 6)[:, ::2], torch.randn(3, 5).T
    assert_same(theirs(x, y, w), ours(x, y, w))


def test_nothing_to_do() -> None:
    for args in (
        ("2x1o", "1o", "2x0e", []),
        ("", "1o", "0e", []),
        ("1o", "1o", "", []),
        ("0x1o+1e", "1o", "2x1e", [(0, 0, 0, "uvw", True)]),
        ("2x0e+0x1o", "0e", "2x0e+0x1o", [(0, 0, 0, "uvu", True), (1, 0, 1, "uvu", True)]),
        ("1x1o", "1x1o", "0x0e", [(0, 0, 0, "uvu<v", False)]),
        ("2x1o", "3x1o", "0x0e", [(0, 0, 0, "uvw", True)]),
    ):
        theirs, ours = both(*args)
        x, y = torch.randn(4, ours.irreps_in1.dim), torch.randn(4, ours.irreps_in2.dim)
        made = ours(x, y)
        if ours.irreps_out.dim:  # e3nn fails where there is no output
            assert_same(theirs(x, y), made)
        assert made.shape == (4, ours.irreps_out.dim)


def test_weights() -> None:
    args = "4x0e+2x1o", "3x1o", "2x0e+4x1o", [
        (0, 0, 1, "uvw", True), (1, 0, 0, "uvu", False), (1, 0, 0, "uvw", True),
    ]  # fmt: skip
    theirs, ours = both(*args)
    x, y = torch.randn(5, 10), torch.randn(5, 9)
    assert [v.shape for v in ours.weight_views()] == [(4, 3, 4), (2, 3, 2)]
    assert torch.equal(ours.weight_view_for_instruction(2), ours.weight[48:].view(2, 3, 2))
    numbers = [(n, ins.i_out) for n, ins, _ in ours.weight_views(yield_instruction=True)]
    assert numbers == [(0, 1), (2, 0)]
    with torch.no_grad():
        for view in ours.weight_views():
            view[:] = 2.0
    assert torch.equal(ours.weight, torch.full((60,), 2.0))
    parts = [torch.randn(4, 3, 4), torch.randn(2, 3, 2)]
    flat = torch.cat([part.flatten() for part in parts])
    assert_same(theirs(x, y, flat), ours(x, y, flat))
    assert_same(theirs(x, y, parts), ours(x, y, parts))
    rows, own = both(*args, shared_weights=False)
    weight = torch.randn(5, 60)
    views = [view.clone() for view in own.weight_views(weight)]
    assert_same(rows(x, y, weight), own(x, y, views))
    with pytest.raises(ValueError, match=r"weight_view_for_instruction.* Got 1\."):
        ours.weight_view_for_instruction(1)


def test_right() -> None:
    args = "2x0e+1o", "1o", "2x1o+1e", [(0, 0, 0, "uvu", True), (1, 0, 1, "uvw", True)]
    for shared in (True, False):
        theirs, ours = both(*args, shared_weights=shared, compile_right=True)
        y, weight = torch.randn(4, 3), None if shared else torch.randn(4, 3)
        matrix = ours.right(y, weight)
        assert_same(theirs.right(y, weight), matrix)
        x = torch.randn(4, 5)
        assert_same(ours(x, y, weight), torch.einsum("ni,nik->nk", x, matrix))
    free = TensorProduct("1o", "1o", "1e", [(0, 0, 0, "uuu", False)])
    assert_same(free.right(torch.tensor([0.0, 1.0, 0.0]))[2], torch.tensor([-(0.5**0.5), 0.0, 0.0]))


def test_copies() -> None:
    ours = TensorProduct("2x0e+1o", "1o", "3x1o", [(0, 0, 0, "uvw", True)])
    x, y = torch.randn(4, 5), torch.randn(4, 3)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(ours(x, y), other(x, y))
        assert repr(other) == repr(ours)
        with torch.no_grad():
            other.weight.zero_()
        assert not torch.equal(ours(x, y), other(x, y))
    assert set(ours.state_dict()) == {"weight", "output_mask"}
    compiled = o3.TensorProduct("2x1o", "1o", "2x1e", [(0, 0, 0, "uvu", True)])
    other = TensorProduct.from_product(compiled)
    assert torch.equal(other.weight, compiled.weight)
    x = torch.randn(4, 6)
    assert_same(compiled(x, y), other(x, y))


def test_state_of_e3nn_inside_a_model() -> None:
    arguments = "2x1o", "1o", "2x1e", [(0, 0, 0, "uvu", True)]
    theirs = torch.nn.Sequential(o3.TensorProduct(*arguments))
    ours = torch.nn.Sequential(TensorProduct(*arguments))
    state = theirs.state_dict()
    state["0._compiled_main_left_right._w3j_1_1_1"] = torch.zeros(3, 3, 3)
    ours.load_state_dict(state)
    assert torch.equal(ours.state_dict()["0.weight"], state["0.weight"])
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ours.load_state_dict({**state, "0.other": torch.zeros(1)})


def test_old_name_of_the_normalization() -> None:
    args = "2x1o", "1o", "2x1e", [(0, 0, 0, "uvu", False)]
    with pytest.warns(DeprecationWarning, match="irrep_normalization"):
        old = TensorProduct(*args, normalization="norm")
    new = TensorProduct(*args, irrep_normalization="norm")
    assert old.instructions == new.instructions != TensorProduct(*args).instructions


def test_compiled_without_a_graph_break() -> None:
    ours = TensorProduct("4x0e+4x1o", "1o", "4x1o", [(0, 0, 0, "uvu", True)])
    fast = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x, y = torch.randn(5, 16, requires_grad=True), torch.randn(5, 3)
    assert_same(ours(x, y), fast(x, y))
    some, other = (torch.autograd.grad(f(x, y).square().sum(), x)[0] for f in (ours, fast))
    assert_same(some, other)


@pytest.mark.parametrize(
    ("instructions", "says"),
    [
        ([(0, 0, 0, "uvx", True)], "mode of uvw, uvu"),
        ([(0, 0, 0, "uvu")], r"\(i_1, i_2, i_out, mode, train\[, path_weight\]\)"),
        ([(0, 0, 1, "uvw", True)], "parity"),
        ([(0, 0, 2, "uvw", True)], "triangle"),
        ([(0, 0, 0, "uvu", True)], "multiplicities of in1 and out for mode uvu"),
        ([(0, 0, 0, "uuu", True)], "multiplicities of in1 and in2 for mode uuu"),
        ([(0, 0, 0, "uvuv", True)], "multiplicities of in1 x in2 and out for mode uvuv"),
        ([(0, 0, 0, "uvw", False)], "weights for mode uvw"),
        ([(0, 0, 0, "uvw", True, -1.0)], "finite and not negative"),
        ([(0, 0, 0, "uvw", True, float("nan"))], "finite and not negative"),
    ],
)
def test_bad_instructions(instructions: Any, says: str) -> None:
    for kind in (ValueError, AssertionError):
        with pytest.raises(kind, match=says):
            TensorProduct("4x1o", "2x1o", "3x1e+3x1o+3x3e", instructions)


def test_bad_arguments() -> None:
    args = "4x1o", "1o", "4x1e", [(0, 0, 0, "uvu", True)]
    with pytest.raises(IndexError, match=r"`TensorProduct\(instructions=\.\.\.\)`"):
        TensorProduct("4x1o", "1o", "4x1e", [(0, 1, 0, "uvu", True)])
    with pytest.raises(ValueError, match=r"in1_var=.* one number per block .* Got 2\."):
        TensorProduct(*args, in1_var=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"path_normalization=.* Got 'norm'\."):
        TensorProduct(*args, path_normalization="norm")
    with pytest.raises(ValueError, match=r"internal_weights=.*must be False"):
        TensorProduct(*args, internal_weights=True, shared_weights=False)
    with pytest.raises(ValueError, match="Irrep"):
        TensorProduct("4x1z", "1o", "4x1e", [])
    ours = TensorProduct(*args, internal_weights=False)
    x, y, w = torch.randn(2, 12), torch.randn(2, 3), torch.randn(4)
    with pytest.raises(RuntimeError, match=r"weight=.* needs 4\."):
        ours(x, y)
    with pytest.raises(ValueError, match=r"weight=.* must have shape \(4,\)\. Got \(2, 4\)\."):
        ours(x, y, w.expand(2, 4))
    with pytest.raises(ValueError, match=r"x=.* must have shape \(\.\.\., 12\)\. Got \(2, 11\)\."):
        ours(x[:, 1:], y, w)
    with pytest.raises(ValueError, match=r"y=.* must have shape \(\.\.\., 3\)"):
        ours(x, y[:, 1:], w)
    with pytest.raises(TypeError, match=r"y=.* must have the dtype torch.float64 of `x`"):
        ours(x, y.float(), w)
    with pytest.raises(ValueError, match=r"batches that broadcast. Got \(2,\), \(3,\)\."):
        ours(x, torch.randn(3, 3), w)
    rows = TensorProduct(*args, shared_weights=False)
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., 4\), with a batch"):
        rows(x, y, w)
    assert ours(x * torch.nan, y, w).isnan().all()
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"in2_var=.* finite numbers of at least zero"):
            TensorProduct(*args, in2_var=[bad])
    with pytest.raises(TypeError, match=r"from_product\(product=.* Got Linear\."):
        TensorProduct.from_product(torch.nn.Linear(1, 1))


def test_weights_by_instruction() -> None:
    paths = [(0, 0, 0, "uvw", True), (1, 0, 0, "uvw", True)]
    ours = TensorProduct("2x0e+3x0e", "2x0e", "4x0e", paths, internal_weights=False)
    x, y = torch.randn(5, 5), torch.randn(5, 2)
    first, second = torch.randn(2, 2, 4), torch.randn(3, 2, 4)
    expected = ours(x, y, torch.cat([first.flatten(), second.flatten()]))
    assert torch.equal(ours(x, y, [first, second]), expected)
    assert torch.equal(ours(x, y, [first.flatten(), second]), expected)
    for wrong in ([first], [second, first], [first, second, first], [first, second.mT], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"weight=.* one tensor per instruction"):
            ours(x, y, wrong)
