"""Unpickle data that came from elsewhere, without running code that came with it."""

import collections
import io
import pickle
from collections.abc import Callable
from typing import Any


class UnsafePickleError(ValueError):
    """A pickle asks for something that is not data."""


class _Record:
    """Stands for the graph classes of other packages: attributes, and nothing that runs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


# Classes whose pickled attributes are wanted, and not they themselves.
_RECORDS = {
    ("torch_geometric.data.data", "Data"),
    ("torch_geometric.data.data", "DataEdgeAttr"),
    ("torch_geometric.data.data", "DataTensorAttr"),
    ("torch_geometric.data.storage", "GlobalStorage"),
}
_NUMPY = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


def loads(content: bytes) -> Any:
    """Read a pickle of numbers, strings, containers, arrays, tensors and PyG graphs.

    Pickles can run any code when they are read. Here only names of a short list are resolved,
    and tensors come back through torch's own reader of weights.

    Args:
        content: The pickle.

    Returns:
        The data. A PyG graph, of any version, becomes a dictionary.

    Raises:
        UnsafePickleError: If the pickle asks for anything else, or is damaged.
    """
    try:
        return _plain(_Unpickler(io.BytesIO(content)).load())
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnsafePickleError(f"The pickle is damaged: {reason}.") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _allowed().get((module, name))
        if found is None:
            raise UnsafePickleError(
                f"The pickle must hold data only. Got {module}.{name}, which could run code. "
                "(Convert the file with the program that wrote it, if you trust it.)"
            )
        return found


def _allowed() -> dict[tuple[str, str], Any]:
    import numpy as np
    import torch
    from torch import _utils

    allowed: dict[tuple[str, str], Any] = dict.fromkeys(_RECORDS, _Record)
    allowed[("collections", "OrderedDict")] = collections.OrderedDict
    allowed[("torch.storage", "_load_from_bytes")] = _storage
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        allowed[("torch._utils", name)] = getattr(_utils, name)
    for name in ("Size", "device"):
        allowed[("torch", name)] = getattr(torch, name)
    for module, name in _NUMPY:
        allowed[(module, name)] = _from_numpy(np, module, name)
    return allowed


def _from_numpy(np: Any, module: str, name: str) -> Callable[..., Any]:
    """What numpy 1 and numpy 2 call by different paths."""
    if module == "numpy":
        return getattr(np, name)  # type: ignore[no-any-return]
    core = np._core if hasattr(np, "_core") else np.core
    found = getattr(getattr(core, module.rpartition(".")[2]), name)
    return found  # type: ignore[no-any-return]


def _storage(content: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _plain(value: Any) -> Any:
    """Graphs as dictionaries, at any depth."""
    if isinstance(value, _Record):
        state = vars(value)
        store = state.get("_store", state)  # PyG 2 keeps attributes in a store, PyG 1 did not
        inner = vars(store).get("_mapping", {}) if isinstance(store, _Record) else store
        return {key: _plain(item) for key, item in inner.items() if item is not None}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
