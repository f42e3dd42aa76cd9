"""Matrix times train, compressed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensornet import _check
from tensornet.formats.tensor_train import TensorTrain
from tensornet.formats.train_rounding import round_train

if TYPE_CHECKING:
    from tensornet.formats.train_matrix import TTMatrix

METHODS = ("direct", "zipup", "randomized")


def compressed_product(
    A: TTMatrix, x: TensorTrain, tolerance: float, max_rank: int | None, method: str
) -> TensorTrain:
    """Multiply and lower the ranks; see `TTMatrix.apply`."""
    _check.one_of("TTMatrix.apply", METHODS, method=method)
    return round_train(A @ x, tolerance=tolerance, max_rank=max_rank).value
