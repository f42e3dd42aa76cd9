"""Contraction plans against `torch.einsum`, in every pattern that it has."""

import random
import zlib

import pytest
import torch
from torch import Tensor

import tensornet.formats
from tensornet.linalg import Plan, contract, mode_product, plan
from tensornet.linalg.contraction import SEARCHES

PATTERNS = [
    "ab,bc->ac", "abc,za,zb,zc->z", "ab,ab->", "a,b->ab", "ab,b->a", "ab->ba", "ab->", "ab,cb",
    "ii->i", "ii->", "iij,jk->ik", "iijj->ji", "ij,ij,ij->i", "a,a,a->a", "a,->a", ",->",
    "zab,zbc->zac", "zab,zbc,zcd->adz", "xyz,xya->zax", "z,za,zb->zab", "abz,bcz,caz->z",
    "abc,abd,acd->bcd", "aab,bcc->ac", "abcd,cdef,efab->", "ab,bc,cd,de,ea->",
    "...ab,...bc->...ac", "...a,ab->b...", "...a,...->...", "...,...", "a...,a->...",
]  # fmt: skip


def operands(pattern: str, sizes: dict[str, int], batch: tuple[int, ...]) -> list[Tensor]:
    words = pattern.split("->")[0].split(",")
    found = []
    for word in words:
        front, dots, back = word.partition("...")
        shape = [sizes[c] for c in front] + list(batch if dots else ()) + [sizes[c] for c in back]
        found.append(torch.randn(shape))
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
def test_agrees_with_einsum(pattern: str) -> None:
    draw = random.Random(zlib.crc32(pattern.encode()))
    for batch in ((), (3,), (2, 3)):
        sizes = {c: draw.randint(1, 4) for c in "abcdefijkxyz"}
        tensors = operands(pattern, sizes, batch)
        expected = torch.einsum(pattern, *tensors)
        for given in (tensors, [_strided(x) for x in tensors]):
            found = contract(pattern, *given)
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def _strided(x: Tensor) -> Tensor:
    """Give the same values with the axes in another order in memory."""
    back = list(range(x.ndim))[::-1]
    return x.permute(back).contiguous().permute(back)


def test_batch_of_size_one_is_spread() -> None:
    x, y, z = torch.randn(5, 1, 2, 3), torch.randn(4, 3, 2), torch.randn(2)
    found = contract("...ab,...bc,c->...a", x, y, z)
    assert torch.allclose(found, torch.einsum("...ab,...bc,c->...a", x, y, z), atol=1e-12)
    assert found.shape == (5, 4, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.int64])
def test_keeps_the_dtype_and_conjugates_nothing(dtype: torch.dtype) -> None:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    tensors = [(7 * torch.randn(2, 3, 4, dtype=wide)).to(dtype) for _ in range(2)]
    found = contract("abc,abd->cd", *tensors)
    expected = (tensors[0][..., :, None] * tensors[1][..., None, :]).sum((0, 1))
    assert found.dtype == dtype
    assert torch.allclose(found, expected, rtol=1e-5)


def test_zero_sizes() -> None:
    assert torch.equal(contract("ab,bc->ac", torch.ones(2, 0), torch.ones(0, 3)), torch.zeros(2, 3))
    assert contract("ab,bc->ac", torch.ones(0, 2), torch.ones(2, 3)).shape == (0, 3)


@pytest.mark.parametrize("pattern", ["abc,za,zb,zc->z", "iij,jk->ik", "...a,ab->b..."])
def test_derivatives(pattern: str) -> None:
    sizes = dict.fromkeys("acijkz", 2) | {"b": 3}
    tensors = [x.requires_grad_() for x in operands(pattern, sizes, (2,))]

    def function(*xs: Tensor) -> Tensor:
        return contract(pattern, *xs)

    assert torch.autograd.gradcheck(function, tensors, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(function, tensors, rtol=1e-6, atol=1e-8, fast_mode=True)


def test_order_is_the_cheap_one() -> None:
    shapes = ((2, 100), (100, 90), (90, 3), (3, 80))
    found = plan("ab,bc,cd,de->ae", *shapes)
    assert found.n_flops == 2 * (2 * 100 * 90 + 2 * 90 * 3 + 2 * 3 * 80)
    assert found.largest == 2 * 90
    assert len(found.steps) == 3


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_gives_the_same(search: str) -> None:
    tensors = [torch.randn(3, 3) for _ in range(6)]
    found = plan("ab,bc,cd,de,ef,fg->ga", *[x.shape for x in tensors], search=search)
    assert torch.allclose(found(*tensors), torch.linalg.multi_dot(tensors).mT, atol=1e-12)


def test_plans_are_remembered_and_called_without_search(monkeypatch: pytest.MonkeyPatch) -> None:
    import opt_einsum

    shapes = ((2, 3), (3, 4), (4, 5))
    first = plan("ab,bc,cd->ad", *shapes)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(opt_einsum, "contract_path", refuse)
    tensors = [torch.randn(shape) for shape in shapes]
    assert plan("ab,bc,cd->ad", *map(list, shapes)) is first
    assert torch.allclose(first(*tensors), torch.linalg.multi_dot(tensors))
    assert torch.allclose(contract("ab,bc,cd->ad", *tensors), first(*tensors))
    assert isinstance(first, Plan)
    assert tensornet.formats.plan is plan


def test_matrices_are_not_copied_to_be_turned() -> None:
    """The steps of the message of a graph network are two products and one sum of products."""
    found = plan("abc,za,zb,zc->z", (8, 8, 8), (64, 8), (64, 8), (64, 8))
    assert found.steps == ("za,zb->zab", "abc,zab->zc", "zc,zc->z")


@pytest.mark.parametrize(
    ("pattern", "shapes", "message"),
    [
        ("ab,bc->ac", ((2, 3), (4, 5)), "give 'b' one size. Got 3, and 4 in tensor 1"),
        ("...a,...->a...", ((3, 2), (4,)), "give the batch `...` one size. Got 3, and 4"),
        ("ab->ac", ((2, 3),), "have in the result letters of the tensors, each once. Got c"),
        ("ab->aa", ((2, 3),), "each once. Got a"),
        ("ab,c->", ((2, 3),), "name as many tensors as there are, 1. Got 2"),
        ("->", (), "name as many tensors as there are, 0"),
        ("a1->a", ((2, 3),), "have letters and one `...` at most per tensor. Got 'a1'"),
        ("ab", ((2,),), "give tensor 0 one letter per axis"),
        ("...a,...a->a", ((3, 2), (3, 2)), "keep the batch `...` in the result"),
    ],
)
def test_wrong_patterns_are_told_whole(
    pattern: str, shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=r"`contract\(pattern='") as caught:
        plan(pattern, *shapes)
    assert message in str(caught.value)
    assert repr(pattern) in str(caught.value)


def test_wrong_tensors_are_refused() -> None:
    product = plan("ab,b->a", (2, 3), (3,))
    with pytest.raises(ValueError, match=r"shapes \(2, 3\), \(3,\). Got \(3, 2\), \(3,\)"):
        product(torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match="must be called with tensors of shapes"):
        product(torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"one dtype\. Got torch.float64, torch.float32"):
        contract("ab,b->a", torch.ones(2, 3), torch.ones(3, dtype=torch.float32))
    with pytest.raises(TypeError, match=r"must have tensors\. Got list"):
        contract("a->a", [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be one of auto"):
        plan("a->a", (2,), search="best")


@pytest.mark.parametrize("mode", [0, 1, 2, -1])
def test_mode_product_is_the_definition(mode: int) -> None:
    x, matrix = torch.randn(3, 4, 5), torch.randn(2, (3, 4, 5)[mode])
    expected = torch.tensordot(matrix, x, dims=([1], [mode])).movedim(0, mode)
    assert torch.allclose(mode_product(x, matrix, mode), expected, atol=1e-13)
    assert torch.allclose(mode_product(_strided(x), matrix, mode), expected, atol=1e-13)


def test_mode_product_refuses() -> None:
    with pytest.raises(ValueError, match=r"mode=...\)` must be a mode of a tensor of order 2"):
        mode_product(torch.ones(2, 3), torch.ones(2, 2), 2)
    with pytest.raises(ValueError, match=r"must have shape \(r, 3\).*mode 1.*Got \(2, 2\)"):
        mode_product(torch.ones(2, 3), torch.ones(2, 2), 1)
