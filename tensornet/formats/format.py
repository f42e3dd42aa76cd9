"""What every tensor format offers, and how formats are stored in files."""

from __future__ import annotations

import json
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from tensornet import _check
from tensornet._files import read_tensors, write_tensors
from tensornet._typing import AnyPath

_VERSION = "1"
# There are no matrix decompositions in these; what needs one computes in float32.
HALF = (torch.float16, torch.bfloat16)


class Format(ABC):
    """A tensor stored by its parts. Values do not change; operations give new ones.

    Formats of one kind and shape are added, subtracted and multiplied entry by entry with
    ``+ - *``, and scaled by numbers. Ranks grow by that; `round` brings them down again.
    """

    kinds: ClassVar[dict[str, type[Format]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Format.kinds[cls.__name__] = cls

    @abstractmethod
    def parts(self) -> dict[str, Tensor]:
        """Return the stored tensors by name, in a fixed order."""

    def settings(self) -> dict[str, Any]:
        """Return what is stored besides tensors, as JSON can hold it."""
        return {}

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """Make the value of `parts` and `settings` again.

        Args:
            parts: As the method `parts` gives them.
            settings: As the method `settings` gives them.

        Returns:
            A value of this kind.

        Raises:
            KeyError: If a part is missing.
            TypeError: If the parts do not make such a value.
            ValueError: The same.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Size of each mode."""

    @property
    @abstractmethod
    def ranks(self) -> tuple[int, ...]:
        """Ranks, as many as the format has."""

    @abstractmethod
    def to_dense(self) -> Tensor:  # (d_1, ..., d_n)
        """Return every entry, as a dense tensor."""

    @abstractmethod
    def norm(self) -> Tensor:  # ()
        """Return the Frobenius norm, without computing the entries."""

    @abstractmethod
    def inner(self, other: Self) -> Tensor:  # ()
        """Sum of the products of entries, the first conjugated.

        Args:
            other: A value of the same kind and shape.

        Returns:
            A tensor without axes, complex for complex values.

        Raises:
            TypeError: If `other` is of another kind or dtype.
            ValueError: If it has another shape.
        """

    @abstractmethod
    def __getitem__(self, index: Any) -> Any:
        """Entries or a smaller tensor: whole numbers, slices and ``...`` as for dense tensors.

        With a whole number for every mode, a tensor without axes; with index tensors of one
        shape for every mode, those entries; else a value of the same kind.

        Raises:
            IndexError: If there are too many indices, or one is out of range.
            TypeError: If an index is of another kind, or tensors and others are mixed.
            ValueError: If a slice leaves nothing or turns the order, or index tensors differ in
                shape.
        """

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def _scaled(self, factor: float | complex | Tensor) -> Self: ...

    @abstractmethod
    def _hadamard(self, other: Self) -> Self: ...

    @abstractmethod
    def round(self, *, tolerance: float = 0.0, max_rank: int | None = None) -> Any:
        """Lower the ranks.

        Args:
            tolerance: Largest error, relative to the norm.
            max_rank: Largest rank to keep.

        Returns:
            A value of the same kind.
        """

    def __repr__(self) -> str:
        kind, dtype = type(self).__name__, str(self.dtype).removeprefix("torch.")
        ranks = f"rank {self.ranks[0]}" if len(self.ranks) == 1 else f"ranks {self.ranks}"
        return f"{kind}(shape {self.shape}, {ranks}, {self.n_parameters} numbers, {dtype})"

    @property
    def order(self) -> int:
        """Number of modes."""
        return len(self.shape)

    @property
    def n_parameters(self) -> int:
        """Numbers stored."""
        return sum(part.numel() for part in self.parts().values())

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored numbers."""
        return next(iter(self.parts().values())).dtype

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return next(iter(self.parts().values())).device

    def to(
        self,
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """Move to another dtype or device, with the arguments of `torch.Tensor.to`.

        Args:
            args: As for a tensor.
            kwargs: As for a tensor.

        Returns:
            A value of the same kind.

        Raises:
            TypeError: If the dtype is not floating or complex.
        """
        parts = {name: part.to(*args, **kwargs) for name, part in self.parts().items()}
        return self.from_parts(parts, self.settings())

    def detach(self) -> Self:
        """Return the same value without its autograd history."""
        return self.from_parts({k: x.detach() for k, x in self.parts().items()}, self.settings())

    def __sub__(self, other: Self) -> Self:
        return self + (-other)

    def __neg__(self) -> Self:
        return self._scaled(-1.0)

    def __mul__(self, other: Self | float | complex | Tensor) -> Self:
        if isinstance(other, Format):
            self._same(other, "*")
            return self._hadamard(other)
        if isinstance(other, numbers.Number) or (isinstance(other, Tensor) and other.ndim == 0):
            return self._scaled(other)
        return NotImplemented

    def __rmul__(self, other: float | complex | Tensor) -> Self:
        return self * other

    def __truediv__(self, other: float | complex | Tensor) -> Self:
        if isinstance(other, Tensor) and other.ndim == 0:
            # the inverse in the precision of this value, whatever that of the number is
            return self._scaled(1 / other.to(torch.promote_types(self.dtype, other.dtype)))
        if isinstance(other, numbers.Number):
            return self._scaled(1 / other)
        return NotImplemented

    # numpy scalars and torch tensors would otherwise try to multiply entry by entry first
    __array_priority__ = 1000
    __array_ufunc__ = None

    def _same(self, other: Any, operation: str) -> None:
        """Check that an operation can join this value and another."""
        kind = type(self).__name__
        if type(other) is not type(self):
            raise TypeError(
                f"`{kind} {operation} ...` must join two values of kind {kind}. Got "
                f"{type(other).__name__}. (Convert one, or compare their `to_dense()`.)"
            )
        if other.shape != self.shape:
            raise ValueError(
                f"`{kind} {operation} ...` must join tensors of one shape. Got {self.shape} and "
                f"{other.shape}."
            )
        mine, others = next(iter(self.parts().values())), next(iter(other.parts().values()))
        _check.one_kind(f"{kind} {operation}", left=mine, right=others)

    def _check_finite(self, where: str) -> None:
        for name, part in self.parts().items():
            _check.dense(where, name, part, least=0)

    def save(self, path: AnyPath) -> None:
        """Write to a safetensors file, which `formats.load` reads.

        The file is written beside and then renamed, so that a file that exists is replaced whole
        or not at all.

        Args:
            path: Where to.

        Raises:
            OSError: If the folder does not exist or cannot be written to.
        """
        parts = {name: part.detach().cpu().resolve_conj() for name, part in self.parts().items()}
        pairs = [name for name, part in parts.items() if part.is_complex()]  # stored as real pairs
        parts |= {name: torch.view_as_real(parts[name]) for name in pairs}
        metadata = {
            "tensornet": "format",
            "version": _VERSION,
            "kind": type(self).__name__,
            "settings": json.dumps(self.settings()),
            "complex": json.dumps(pairs),
        }
        write_tensors(f"{type(self).__name__}.save", path, parts, metadata)


def check_kind(where: str, name: str, value: object, kind: type) -> None:
    """Check that an argument is a value of a format.

    Args:
        where: Name of the public call, for the message.
        name: Name of the argument.
        value: The argument.
        kind: What it must be.

    Raises:
        TypeError: If it is something else.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"`{where}({name}=...)` must be a {kind.__name__}. Got {type(value).__name__}."
        )


def check_limits(where: str, tolerance: float, max_rank: int | None) -> None:
    """Check what a rounding is limited by.

    Args:
        where: Name of the public call, for the message.
        tolerance: Largest error, relative to the norm.
        max_rank: Largest rank to keep, or any.

    Raises:
        TypeError: If one is no number.
        ValueError: If the tolerance is negative or not finite, or `max_rank` is below one.
    """
    _check.tolerance(where, tolerance=tolerance)
    if max_rank is not None:
        _check.at_least(where, 1, max_rank=max_rank)


def load(path: AnyPath) -> Format:
    """Read a format from a file of `Format.save`.

    Args:
        path: The file.

    Returns:
        A value of the kind that was saved, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no safetensors file, is truncated, or holds something else.
    """
    parts, metadata = read_tensors("load", path)
    kind = metadata.get("kind", "")
    if metadata.get("tensornet") != "format" or kind not in Format.kinds:
        raise ValueError(
            f"`load(path=...)` must be a file of `Format.save`. Got {path}, which is of another "
            "kind. (Models are read by `tensornet.models.load`.)"
        )
    if metadata.get("version") != _VERSION:
        raise ValueError(
            f"`load(path=...)` must be of version {_VERSION}. Got {metadata.get('version')} in "
            f"{path}. (Use a newer tensornet.)"
        )
    try:
        for name in json.loads(metadata["complex"]):
            parts[name] = torch.view_as_complex(parts[name])
        return Format.kinds[kind].from_parts(parts, json.loads(metadata["settings"]))
    except (KeyError, TypeError, AttributeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"`load(path=...)` must hold a whole {kind}. Got {path} ({error})."
        ) from None
