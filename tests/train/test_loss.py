import pytest
import torch
from torch_geometric.data import Data

from tensornet.train.loss import Loss, errors
from tensornet.train.recipe import LossBlock

NAN = float("nan")


@pytest.fixture
def batch() -> Data:
    """Two structures of 2 and 1 atoms; the second has no energy, one force and a stress."""
    return Data(
        ptr=torch.tensor([0, 2, 3]),
        cell=torch.stack([torch.eye(3) * 2, torch.eye(3)]),
        interaction_energy=torch.tensor([-3.0, NAN]),
        forces=torch.tensor([[1.0, 0, 0], [-1, 0, 0], [NAN, NAN, NAN]]),
        stress=torch.stack([torch.full((3, 3), NAN), torch.eye(3) * 0.5]),
    )


@pytest.fixture
def output() -> dict[str, torch.Tensor]:
    return {
        "interaction_energy": torch.tensor([-2.0, 7.0], requires_grad=True),
        "forces": torch.zeros(3, 3, requires_grad=True),
        "virial": torch.stack([torch.eye(3), torch.eye(3)]).requires_grad_(),
    }


def test_errors_by_hand(batch: Data, output: dict[str, torch.Tensor]) -> None:
    found = errors(output, batch)
    energy, known = found["energy"]
    assert energy.tolist() == [0.5, 0.0]  # (-2 + 3) eV over two atoms
    assert known.tolist() == [True, False]
    assert found["forces"][0][:, 0].tolist() == [-1, 1, 0]
    assert int(found["forces"][1].sum()) == 6
    virial, known = found["stress"]  # of the second: 1 - 0.5 * volume 1, over one atom
    assert torch.equal(virial[1], torch.eye(3) * 0.5)
    assert not virial[0].any()
    assert not known[0].any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # scale 2: energy 0.5 -> 0.25; forces +-1 -> 0.5 twice in 6 components
        ("mse", 3 * 0.0625 + 2 * (2 * 0.25 / 6)),
        ("mae", 3 * 0.25 + 2 * (2 * 0.5 / 6)),
        # beyond delta 0.1 huber is 0.1 (2 x - 0.1)
        ("huber", 3 * 0.1 * (0.5 - 0.1) + 2 * (2 * 0.1 * (1.0 - 0.1) / 6)),
    ],
)
def test_loss_by_hand(
    batch: Data, output: dict[str, torch.Tensor], kind: str, expected: float
) -> None:
    loss = Loss(LossBlock.model_validate({"energy": 3, "forces": 2, "kind": kind}), scale=2.0)
    total = loss.total(loss.sums(errors(output, batch, loss.terms), batch))
    assert float(total.detach()) == pytest.approx(expected, rel=1e-12)


def test_missing_labels_give_no_nan_to_gradients(
    batch: Data, output: dict[str, torch.Tensor]
) -> None:
    loss = Loss(LossBlock(energy=1, forces=1, stress=1), scale=1.0)
    loss.total(loss.sums(errors(output, batch, loss.terms), batch)).backward()
    for value in output.values():
        assert value.grad is not None
        assert value.grad.isfinite().all()
    assert output["interaction_energy"].grad is not None
    assert output["interaction_energy"].grad[1] == 0
    assert output["interaction_energy"].grad[0] != 0


def test_batch_without_any_label_of_a_term_counts_nothing(
    batch: Data, output: dict[str, torch.Tensor]
) -> None:
    batch.interaction_energy = torch.full((2,), NAN)
    loss = Loss(LossBlock(energy=5, forces=0), scale=1.0)
    total = loss.total(loss.sums(errors(output, batch, loss.terms), batch))
    assert float(total.detach()) == 0


def test_sums_of_batches_are_the_loss_of_the_whole() -> None:
    loss = Loss(LossBlock(energy=2, forces=0, kind="mse"), scale=1.0)
    error = torch.tensor([0.1, -0.3, 0.2])
    known = torch.tensor([True, True, True])
    parts = [
        loss.sums({"energy": (error[s], known[s])}, Data()) for s in (slice(0, 1), slice(1, 3))
    ]
    added = {
        "energy": (
            parts[0]["energy"][0] + parts[1]["energy"][0],
            parts[0]["energy"][1] + parts[1]["energy"][1],
        )
    }
    assert float(loss.total(added)) == pytest.approx(2 * float((error**2).mean()), rel=1e-12)


def test_weights_of_structures(batch: Data, output: dict[str, torch.Tensor]) -> None:
    settings = LossBlock(energy=3, forces=2, stress=1, kind="mse")
    loss = Loss(settings, scale=2.0)
    batch.batch = torch.tensor([0, 0, 1])
    batch.interaction_energy = torch.tensor([-3.0, 6.0])
    batch.forces[2] = torch.tensor([0.0, 4.0, 0.0])
    found = errors({k: x.detach() for k, x in output.items()}, batch)
    plain = loss.sums(found, batch)
    batch.weight = torch.tensor([2.0, 0.25], dtype=torch.float64)
    sums = loss.sums(found, batch)
    assert float(sums["energy"][0]) == pytest.approx(2 * 0.25**2 + 0.25 * 0.5**2)
    assert float(sums["forces"][0]) == pytest.approx(2 * 2 * 0.5**2 + 0.25 * 2.0**2)
    assert float(sums["stress"][0]) == pytest.approx(0.25 * float(plain["stress"][0]))
    assert all(sums[term][1] == plain[term][1] for term in sums)


def test_conditional_huber_by_hand() -> None:
    loss = Loss(LossBlock(energy=0, forces=1, kind="conditional_huber", huber_delta=0.1), scale=1)
    labels = torch.zeros(5, 3)
    labels[:, 0] = torch.tensor([0.0, 99.0, 100.0, 250.0, 1e4])
    off = torch.full((5, 3), 0.5)
    off[0] = 0.05  # below delta: a square
    graph = Data(forces=labels)
    total, n = loss.sums({"forces": (off, torch.ones(5, 3, dtype=torch.bool))}, graph)["forces"]
    expected = 0.05**2 + sum(d * (2 * 0.5 - d) for d in (0.1, 0.07, 0.04, 0.01))
    assert float(total) == pytest.approx(3 * expected, rel=1e-6)
    assert int(n) == 15
