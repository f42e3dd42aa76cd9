"""Entries of a black box: each is asked for once, checked, and remembered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet.formats.decomposition import BudgetError

Integers = NDArray[np.int64]
Numbers = NDArray[Any]  # float64 or complex128


class Entries:
    """A function of indices that is never called twice with the same index.

    Modes of size one are left out of the indices here, and put back for the function.

    Args:
        function: Takes indices (n, order) of int64 and gives values (n,).
        shape: Sizes of the modes.
        dtype: Type of the values.
        most: Largest number of indices to ask for, or none.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        most: int | None,
    ) -> None:
        self.function, self.dtype, self.most = function, dtype, most
        self.order = len(shape)
        self.modes = [k for k, n in enumerate(shape) if n > 1]
        self.shape = shape = tuple(shape[k] for k in self.modes)
        self.numbers = np.complex128 if dtype.is_complex else np.float64
        self.largest = 0.0  # absolute value seen
        self.where: Integers = np.zeros(len(shape), np.int64)  # it was seen
        self.epsilon = torch.finfo(dtype).eps  # coarsest of the values given
        self._known: dict[Any, Any] = {}
        self._strides: Integers | None = None
        if math.prod(shape) < 2**62:
            steps = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
            self._strides = np.array(steps, np.int64)

    def __len__(self) -> int:
        return len(self._known)

    def keys(self, indices: Integers) -> list[Any]:
        """Give a key for each index; whole numbers where they fit, else bytes."""
        if self._strides is not None:
            keys: list[Any] = (indices @ self._strides).tolist()
            return keys
        rows = np.ascontiguousarray(indices)
        return list(rows.view(f"V{8 * rows.shape[1]}")[:, 0].tolist())

    def __call__(self, indices: Integers) -> Numbers:
        """Give the entries at `indices` (n, order), asking for those that are new.

        Raises:
            BudgetError: If that would be more than are allowed. Nothing is asked for then.
        """
        known, keys = self._known, self.keys(indices)
        fresh = {key: i for i, key in enumerate(keys) if key not in known}
        if fresh:
            if self.most is not None and len(known) + len(fresh) > self.most:
                raise BudgetError
            new = indices[list(fresh.values())]
            values = self._ask(new)
            size = np.abs(values)
            if (top := int(size.argmax())) >= 0 and size[top] > self.largest:
                self.largest, self.where = float(size[top]), new[top].copy()
            known.update(zip(fresh, values.tolist(), strict=True))
        return np.array([known[key] for key in keys], self.numbers)

    def whole(self, indices: Integers) -> Integers:
        """Put the modes of size one back."""
        out = np.zeros((len(indices), self.order), np.int64)
        out[:, self.modes] = indices
        return out

    def _ask(self, indices: Integers) -> Numbers:
        indices = self.whole(indices)
        try:
            with torch.no_grad():
                answer = self.function(torch.from_numpy(indices.copy()))
        except Exception as error:
            bad, error = self._culprit(indices, error)
            raise RuntimeError(
                "`cross(function=...)` must give a value at every index. Got "
                f"{type(error).__name__} at index {tuple(bad[0].tolist())}"
                f"{'' if len(bad) == 1 else f' or another of {len(bad)}'}: {error}"
            ) from error
        return self._checked(answer, indices)

    def _culprit(self, indices: Integers, error: Exception) -> tuple[Integers, Exception]:
        """Halve the indices of a call that failed while the first or second half fails alone."""
        while len(indices) > 1:
            for half in np.array_split(indices, 2):
                try:
                    self.function(torch.from_numpy(half.copy()))
                except Exception as fault:
                    indices, error = half, fault
                    break
            else:
                break
        return indices, error

    def _checked(self, answer: Any, indices: Integers) -> Numbers:
        first = tuple(indices[0].tolist())
        if not isinstance(answer, Tensor):
            try:
                answer = torch.from_numpy(np.array(answer))
            except (TypeError, ValueError):
                raise TypeError(
                    "`cross(function=...)` must give a tensor or an array of numbers. Got "
                    f"{type(answer).__name__} in a call that begins with index {first}."
                ) from None
        if tuple(answer.shape) != (len(indices),):
            raise ValueError(
                f"`cross(function=...)` must give shape ({len(indices)},), one value per index. "
                f"Got {tuple(answer.shape)} in a call that begins with index {first}."
            )
        if answer.dtype == torch.bool or (answer.is_complex() and not self.dtype.is_complex):
            raise TypeError(
                f"`cross(function=...)` must give numbers that fit {self.dtype}. Got "
                f"{answer.dtype} in a call that begins with index {first}. (Give `dtype=...`.)"
            )
        if answer.is_floating_point() or answer.is_complex():
            self.epsilon = max(self.epsilon, torch.finfo(answer.dtype).eps)
        wide = torch.complex128 if self.dtype.is_complex else torch.float64
        values = answer.detach().to("cpu", wide).numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"`cross(function=...)` must give finite values. Got {values[bad[0]]} at index "
                f"{tuple(indices[bad[0]].tolist())}, and {len(bad)} such values in a call with "
                f"{len(values)} indices."
            )
        return np.asarray(values)
