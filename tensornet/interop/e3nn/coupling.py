"""The numbers of a coupling, in lists that kernels take."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tensornet.so3 import wigner_3j

Index = NDArray[np.int64]


@cache
def terms(one: int, two: int, three: int) -> tuple[Index, Index, Index, NDArray[np.float64]]:
    """Components of the three sides and values, where the coupling of three degrees is not zero."""
    block = wigner_3j(one, two, three).numpy()
    at = np.nonzero(np.abs(block) > 1e-12)
    i, j, k = (a.astype(np.int64) for a in at)
    return i, j, k, block[at]


class Table(nn.Module):
    """Lists of components, paths and values, gathered block by block.

    The values stay what they are when the module is converted: they are stored as whole numbers,
    so that a module made single and then double again is exact, and inputs say the precision.
    """

    def __init__(self, blocks: list[tuple[Index, NDArray[np.float64]]]) -> None:
        super().__init__()
        columns = [b[0] for b in blocks] or [np.empty((4, 0), np.int64)]
        values = [b[1] for b in blocks] or [np.empty(0)]
        at = torch.from_numpy(np.concatenate(columns, 1)).contiguous()
        numbers = torch.from_numpy(np.concatenate(values))
        for name, column in zip("ijkp", at, strict=True):
            self.register_buffer(f"at_{name}", column.clone(), persistent=False)
        self.register_buffer("bits_64", numbers.view(torch.int64), persistent=False)
        self.register_buffer("bits_32", numbers.float().view(torch.int32), persistent=False)
        self.at_i: Tensor
        self.at_j: Tensor
        self.at_k: Tensor
        self.at_p: Tensor
        self.bits_64: Tensor
        self.bits_32: Tensor

    def values(self, dtype: torch.dtype) -> Tensor:  # (t,)
        """Give the numbers in a dtype."""
        if dtype == torch.float32:
            return self.bits_32.view(dtype)
        return self.bits_64.view(torch.float64).to(dtype)


def spread(
    degrees: tuple[int, int, int],
    factor: float,
    places: tuple[Index, Index, Index, Index],
    stride: int = 1,
) -> tuple[Index, NDArray[np.float64]]:
    """Put the coupling of three degrees at every place.

    Args:
        degrees: Of the two inputs and the output.
        factor: Factor of the values.
        places: First component of both inputs and of the output, and path, one number per place.
        stride: Steps between the components of the output.

    Returns:
        Components of the three sides and paths, (4, t), and values.
    """
    i, j, k, values = terms(*degrees)
    components = i, j, k * stride, np.zeros_like(i)
    rows = [np.add.outer(a, b).ravel() for a, b in zip(places, components, strict=True)]
    return np.stack(rows), np.tile(factor * values, len(places[0]))
