"""The numbers of a coupling, in lists that kernels take."""

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray
from torch import Tensor, nn

from tensornet.so3 import wigner_3j

Index = NDArray[np.int64]
Degrees = tuple[int, int, int]


@cache
def terms(one: int, two: int, three: int) -> tuple[Index, Index, Index, NDArray[np.float64]]:
    """Components of the three sides and values, where the coupling of three degrees is not zero.

    Signs are those of the e3nn that is installed: 0.4 has other ones than 0.6 where the sum of
    degrees is odd, as at (1, 2, 2), and weights are trained with one or the other.
    """
    block = wigner_3j(one, two, three).numpy()
    with contextlib.suppress(NotImplementedError):  # 0.4 stops at degree 11
        theirs = o3.wigner_3j(one, two, three, dtype=torch.float64).cpu().numpy()
        block = block * np.sign((block * theirs).sum())
    at = np.nonzero(np.abs(block) > 1e-12)
    i, j, k = (a.astype(np.int64) for a in at)
    return i, j, k, block[at]


def flipped(state: Mapping[str, Any]) -> frozenset[Degrees]:
    """Degrees whose coupling, as e3nn stores it with a product, has another sign than installed.

    A product made by e3nn 0.4 keeps the signs of 0.4 in its state, which 0.6 then computes with.
    """
    found = set()
    for key, stored in state.items():
        if named := re.search(r"_w3j_(\d+)_(\d+)_(\d+)$", key):
            one, two, three = (int(l) for l in named.groups())
            i, j, k, values = terms(one, two, three)
            if float((stored.detach().cpu().double().numpy()[i, j, k] * values).sum()) < 0:
                found.add((one, two, three))
    return frozenset(found)


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
    degrees: Degrees,
    factor: float,
    places: tuple[Index, Index, Index, Index],
    stride: int = 1,
    *,
    turned: bool = False,
) -> tuple[Index, NDArray[np.float64]]:
    """Put the coupling of three degrees at every place.

    Args:
        degrees: Of the two inputs and the output.
        factor: Factor of the values.
        places: First component of both inputs and of the output, and path, one number per place.
        stride: Steps between the components of the output.
        turned: Whether the two inputs are exchanged, so that the coupling is of (b, a, c).

    Returns:
        Components of the three sides and paths, (4, t), and values.
    """
    one, two, three = degrees
    if turned:
        j, i, k, values = terms(two, one, three)
    else:
        i, j, k, values = terms(one, two, three)
    components = i, j, k * stride, np.zeros_like(i)
    rows = [np.add.outer(a, b).ravel() for a, b in zip(places, components, strict=True)]
    return np.stack(rows), np.tile(factor * values, len(places[0]))
