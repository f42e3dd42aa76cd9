"""What is fastest is measured once, kept, and explained."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from tensornet.products import AlignedProduct, EdgeProduct, GauntProduct, Product, select
from tensornet.products.coupling import KINDS


class Clock:
    """Says what it is told to, and counts how often it is asked."""

    def __init__(self, fastest: str) -> None:
        self.fastest, self.asked, self.seen = fastest, 0, set[str]()

    def __call__(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        self.asked += 1
        self.seen = {*calls}
        for call in calls.values():
            call()
        return {name: 0.001 if self.fastest in name else 0.002 for name in calls}


@pytest.mark.parametrize("channels2", [1, 3])
@pytest.mark.parametrize("mode", ["none", "shared", "separable", "path"])
@pytest.mark.parametrize("kind", ["clebsch_gordan", "gaunt", "matrix"])
def test_candidates_compute_the_same_map(
    kind: str, mode: str, channels2: int, tmp_path: Path
) -> None:
    assert kind in KINDS
    if mode == "path" and kind != "clebsch_gordan":
        with pytest.raises(ValueError, match="must be none, shared or separable"):
            select(kind, 1, 2, 3, path_weights=mode, cache=tmp_path)
        return
    options = {"path_weights": mode, "channels2": channels2, "cache": tmp_path}
    names = Clock("")
    select(kind, 2, 4, 3, measure=names, **options)  # type: ignore[arg-type]
    assert len(names.seen) >= {"matrix": 1, "gaunt": 4}.get(kind, 1)
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, channels2)
    results = []
    for name in sorted(names.seen):
        found = select(kind, 2, 4, 3, measure=Clock(name), refresh=True, **options)  # type: ignore[arg-type]
        assert found.name == name
        shape = found.product.weight_shape(3)
        weight = None if mode == "none" else torch.ones(4, *shape)
        results.append(found.product(x, y, weight))
        assert found.product.certificate().approximation < 1e-12
    for result in results:
        torch.testing.assert_close(result, results[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", ["none", "shared", "separable", "path"])
def test_the_axis_is_a_candidate_for_harmonics(mode: str, tmp_path: Path) -> None:
    names, clock = Clock(""), Clock("Aligned" if mode != "path" else "Edge")
    options = {"path_weights": mode, "harmonics": True, "cache": tmp_path}
    select("clebsch_gordan", 2, 4, 3, measure=names, **options)  # type: ignore[arg-type]
    assert ("AlignedProduct" in names.seen) == (mode != "path")
    found = select("clebsch_gordan", 2, 4, 3, measure=clock, refresh=True, **options)  # type: ignore[arg-type]
    assert isinstance(found.product, AlignedProduct if mode != "path" else EdgeProduct)
    select("clebsch_gordan", 2, 4, 3, path_weights=mode, cache=tmp_path, measure=names)
    assert "AlignedProduct" not in names.seen
    with pytest.raises(ValueError, match=r"`select\(harmonics=...\)` must be false"):
        select("clebsch_gordan", 2, 4, 3, channels2=3, measure=names, **options)  # type: ignore[arg-type]


def test_asks_once_and_remembers(tmp_path: Path) -> None:
    clock = Clock("separable")
    first = select("gaunt", 3, 10, 2, cache=tmp_path, measure=clock)
    second = select("gaunt", 3, 10, 2, cache=tmp_path, measure=clock)
    assert (first.cached, second.cached, clock.asked) == (False, True, 1)
    assert first.name == second.name == "GauntProduct, separable"
    assert first.seconds == second.seconds
    assert str(first) == str(second)
    assert select("gaunt", 3, 10, 2, cache=tmp_path, measure=clock, refresh=True).cached is False
    assert clock.asked == 2
    for changed in ({"n": 11}, {"channels": 3}, {"backward": False}, {"dtype": torch.float32}):
        size: dict[str, object] = {"n": 10, "channels": 2, **changed}
        found = select("gaunt", 3, cache=tmp_path, measure=clock, **size)  # type: ignore[arg-type]
        assert not found.cached
    assert len(list(tmp_path.iterdir())) == 5


def test_says_why(tmp_path: Path) -> None:
    found = select("clebsch_gordan", 1, 4, 2, cache=tmp_path, measure=Clock("Edge"))
    words = str(found)
    assert words.startswith("EdgeProduct takes 1 ms for value and gradients of 4 pairs, 2 and 1")
    assert "2 times as fast as the next" in words
    assert "CPProduct" in words
    assert "there is no other" in str(select("matrix", 1, 4, 2, cache=tmp_path))


def test_says_how_many_pairs_were_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tensornet.products.select"), "_NUMBERS", 100)
    found = select("matrix", 1, 1000, 5, cache=tmp_path, measure=Clock("Matrix"))
    assert "gradients of 5 pairs, 5 and 1 channels" in found.reason


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", '{"seconds": {}}', '{"key": 1, "seconds": {"GauntProduct, grid": 1}}'],
)
def test_makes_a_broken_answer_again(broken: str, tmp_path: Path) -> None:
    clock = Clock("grid")
    select("gaunt", 1, 4, 2, cache=tmp_path, measure=clock)
    (file,) = tmp_path.iterdir()
    sound = json.loads(file.read_text())
    file.write_text(broken)
    assert not select("gaunt", 1, 4, 2, cache=tmp_path, measure=clock).cached
    assert json.loads(file.read_text()) == sound
    for wrong in ({"no such product": 1.0}, {"GauntProduct, grid": -1.0}):
        file.write_text(json.dumps({**sound, "seconds": wrong}))
        assert not select("gaunt", 1, 4, 2, cache=tmp_path, measure=clock).cached


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORNET_CACHE", str(tmp_path / "deep" / "er"))
    select("gaunt", 1, 4, 2, measure=Clock("grid"))
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 1
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TENSORNET_CACHE", str(tmp_path / "file"))
    assert not select("gaunt", 1, 4, 2, measure=Clock("grid")).cached  # cannot be kept: no error


def test_measures_for_real(tmp_path: Path) -> None:
    found = select("gaunt", 2, 20, 2, dtype=torch.float32, cache=tmp_path)
    assert isinstance(found.product, GauntProduct)
    assert isinstance(found.product, Product)
    assert found.seconds[found.name] == min(found.seconds.values()) > 0
    assert all(b.dtype != torch.float64 for b in found.product.buffers())


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind=...\)` must be one of"):
        select("fast", 1, 2, 3)
    with pytest.raises(ValueError, match="at least 1"):
        select("gaunt", 1, 0, 3)
    with pytest.raises(ValueError, match=r"must be 1 or 3. Got 2"):
        select("gaunt", 1, 2, 3, channels2=2)
    with pytest.raises(ValueError, match=r"select\(path_weights=...\)` must be one of"):
        select("gaunt", 1, 2, 3, path_weights="some", cache=tmp_path)
