"""Say in a small table what was read from a file."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensornet.datasets.labels import LABELS, PLACES, Labels, items

if TYPE_CHECKING:
    import ase


@dataclass
class _Values:
    """What is known of one label."""

    n: int = 0
    origins: Counter[str] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    squares: float = 0.0
    size: int = 0

    def add(self, label: str, value: Any, n_atoms: int, source: str | None) -> None:
        self.n += 1
        if source is not None:
            self.origins[source] += 1
        values = np.ravel(value) / n_atoms if label == "energy" else np.ravel(np.abs(value))
        if values.size:
            self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        self.squares += float((values**2).sum())
        self.size += values.size

    def range(self, label: str) -> str:
        if label == "energy":
            return f"{self.low:.4f} to {self.high:.4f} eV/atom"
        if label == "forces":
            rms = np.sqrt(self.squares / max(self.size, 1))
            return f"components up to {self.high:.3f}, rms {rms:.3f} eV/Å"
        return (
            f"components up to {self.high:.5f} eV/Å³ ({self.high * 160.21766:.2f} GPa), "
            "tension positive"
        )


class Summary:
    """What a file holds: counts, sources, ranges and units, gathered frame by frame.

    Args:
        path: Name of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.n_frames = 0
        self.n = 0  # structures: frames without isolated atoms
        self._sizes = (10**9, 0)
        self._symbols: set[str] = set()
        self._cells: Counter[str] = Counter()
        self._values = {label: _Values() for label in LABELS}
        self._alone: dict[str, float] = {}
        self._alone_sources: set[str] = set()
        self._notes: Counter[str] = Counter()
        self._keys: Counter[tuple[str, str]] = Counter()

    def add(self, atoms: "ase.Atoms", labels: Labels, alone: bool) -> None:
        """Take note of a frame.

        Args:
            atoms: The structure as it was read, with its calculator.
            labels: What was found.
            alone: Whether it is an isolated atom.
        """
        self.n_frames += 1
        self._keys.update((place, key) for place, key, _ in items(atoms))
        self._notes.update(labels.notes)
        if alone:
            assert labels.energy is not None
            self._alone[str(atoms.symbols[0])] = labels.energy
            self._alone_sources.add(labels.source["energy"])
            return
        self.n += 1
        self._sizes = (min(self._sizes[0], len(atoms)), max(self._sizes[1], len(atoms)))
        self._symbols.update(atoms.symbols)
        every, some = bool(atoms.pbc.all()), bool(atoms.pbc.any())
        self._cells["periodic" if every else "partly periodic" if some else "not periodic"] += 1
        for label in LABELS:
            value = getattr(labels, label)
            if value is not None:
                self._values[label].add(label, value, len(atoms), labels.source.get(label))

    def text(self) -> str:
        """Describe the file, in lines without a line end behind the last."""
        lines = [f"{self.path}: {self._what()}"]
        for label in LABELS if self.n else ():
            known = self._values[label]
            origin = ", ".join(
                source if count == known.n else f"{source} ({count})"
                for source, count in known.origins.items()
            )
            text = f"  {label:<6} {known.n:>6} of {self.n:<6}"
            lines.append(text + (f" from {origin}: {known.range(label)}" if known.n else " none"))
        if self._alone:
            listed = ", ".join(
                f"{symbol} {energy:.6f} eV" for symbol, energy in self._alone.items()
            )
            lines.append(
                f"  isolated atoms: {listed} (from {', '.join(sorted(self._alone_sources))})"
            )
        for note, count in self._notes.items():
            lines.append(f"  note: {note} ({_count(count, 'frame')})")
        return "\n".join(lines)

    def found(self) -> str:
        """List every key in the file in one line, for messages about labels that are not there."""
        parts = []
        for place in PLACES:
            keys = [
                key if count == self.n_frames else f"{key} ({count} of {self.n_frames} frames)"
                for (where, key), count in self._keys.items()
                if where == place
            ]
            parts.append(f"{place}: {', '.join(keys) if keys else 'nothing'}")
        return f"Found in {self.path}: " + "; ".join(parts) + "."

    def _what(self) -> str:
        if not self.n:
            return "no structures"
        low, high = self._sizes
        order = ("periodic", "partly periodic", "not periodic")
        kinds = [
            name if self._cells[name] == self.n else f"{self._cells[name]} {name}"
            for name in order
            if self._cells[name]
        ]
        return (
            f"{_count(self.n, 'structure')} of {low if low == high else f'{low} to {high}'} atoms, "
            f"elements {' '.join(sorted(self._symbols))}, {', '.join(kinds)}"
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
