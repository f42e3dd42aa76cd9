import pytest
import torch

from tensornet.layers import GraphAttention, smooth_attention, smooth_leaky_relu, sum_to_receivers
from tensornet.products import EdgeProduct


def test_sum_to_receivers_by_its_definition() -> None:
    x, receiver = torch.randn(7, 2, 3), torch.tensor([0, 2, 2, 0, 3, 3, 3])
    out = sum_to_receivers(x, receiver, 5)
    for i in range(5):
        torch.testing.assert_close(out[i], x[receiver == i].sum(0))


def test_attention_by_its_definition() -> None:
    logits, envelope = torch.randn(6, 2), torch.rand(6)
    receiver = torch.tensor([0, 0, 1, 1, 1, 3])
    out = smooth_attention(logits, envelope, receiver, 4)
    weights = envelope[:, None] * logits.exp()
    total = 1 + torch.stack([weights[receiver == receiver[k]].sum(0) for k in range(6)])
    torch.testing.assert_close(out, weights / total)


def test_attention_does_not_overflow_and_forgets_smoothly() -> None:
    receiver = torch.zeros(2, dtype=torch.long)
    big = smooth_attention(torch.tensor([[800.0], [799.0]]), torch.ones(2), receiver, 1)
    assert float(big.sum()) == pytest.approx(1.0, rel=1e-12)
    leaving = smooth_attention(torch.tensor([[1.0]]), torch.tensor([1e-6]), receiver[:1], 1)
    assert float(leaving) == pytest.approx(1e-6 * torch.e, rel=1e-5)


def test_attention_gradients_to_second_order() -> None:
    receiver = torch.tensor([0, 0, 1, 1])

    def function(logits: torch.Tensor, envelope: torch.Tensor) -> torch.Tensor:
        return smooth_attention(logits, envelope, receiver, 2)

    args = (torch.randn(4, 2, requires_grad=True), torch.rand(4, requires_grad=True))
    assert torch.autograd.gradcheck(function, args, rtol=1e-6, atol=1e-8)
    assert torch.autograd.gradgradcheck(function, args, rtol=1e-6, atol=1e-8)


def test_smooth_leaky_relu_has_the_right_slopes() -> None:
    x = torch.tensor([-50.0, 50.0])
    torch.testing.assert_close(smooth_leaky_relu(x), torch.tensor([-10.0, 50.0]))


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="multiple of heads = 3"):
        GraphAttention(EdgeProduct(1), 4, 3, 8, 8)


def test_weights_must_be_known_and_fit_the_product() -> None:
    with pytest.raises(ValueError, match=r"weights=...\)` must be one of shared, factored, path"):
        GraphAttention(EdgeProduct(1), 4, 2, 8, 8, weights="some")
    with pytest.raises(ValueError, match=r"product=.* path_weights='path' for weights='factored'"):
        GraphAttention(EdgeProduct(1), 4, 2, 8, 8, weights="factored")
    with pytest.raises(ValueError, match=r"product=.* path_weights='none' for weights='shared'"):
        GraphAttention(EdgeProduct(1, "path"), 4, 2, 8, 8)
    with pytest.raises(ValueError, match=r"heads=...\)` must be at least 1"):
        GraphAttention(EdgeProduct(1), 4, 0, 8, 8)
