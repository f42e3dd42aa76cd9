"""Say in a small table what was read from a file."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tensornet.datasets.labels import LABELS, PLACES, Labels, items

if TYPE_CHECKING:
    import ase


def summarise(
    path: str,
    frames: "Sequence[ase.Atoms]",
    labels: Sequence[Labels],
    isolated: Sequence[bool],
) -> str:
    """Describe the content of a file: counts, sources, ranges and units.

    Args:
        path: Name of the file.
        frames: Its frames.
        labels: The labels of each frame.
        isolated: Whether a frame is an isolated atom.

    Returns:
        Lines of text without a line end behind the last.
    """
    chosen = [k for k, alone in enumerate(isolated) if not alone]
    structures = [frames[k] for k in chosen]
    some = [labels[k] for k in chosen]
    lines = [f"{path}: {_what(structures)}"]
    for label in LABELS if structures else ():
        having = [k for k, one in enumerate(some) if getattr(one, label) is not None]
        origins = Counter(one.source[label] for one in some if label in one.source)
        origin = ", ".join(
            source if count == len(having) else f"{source} ({count})"
            for source, count in origins.items()
        )
        text = f"  {label:<6} {len(having):>6} of {len(some):<6}"
        text += f" from {origin}: {_range(label, structures, some, having)}" if having else " none"
        lines.append(text)
    alone = {frames[k].symbols[0]: labels[k] for k, lone in enumerate(isolated) if lone}
    if alone:
        listed = ", ".join(f"{symbol} {one.energy:.6f} eV" for symbol, one in alone.items())
        sources = {one.source["energy"] for one in alone.values()}
        lines.append(f"  isolated atoms: {listed} (from {', '.join(sorted(sources))})")
    notes = Counter(note for one in labels for note in one.notes)
    lines += [f"  note: {note} ({_count(count, 'frame')})" for note, count in notes.items()]
    return "\n".join(lines)


def found_in(path: str, frames: "Sequence[ase.Atoms]") -> str:
    """List every key in a file, for messages about labels that are not there.

    Args:
        path: Name of the file.
        frames: Its frames.

    Returns:
        One line.
    """
    counts = Counter((place, key) for atoms in frames for place, key, _ in items(atoms))
    parts = []
    for place in PLACES:
        keys = [
            key if count == len(frames) else f"{key} ({count} of {len(frames)} frames)"
            for (where, key), count in counts.items()
            if where == place
        ]
        parts.append(f"{place}: {', '.join(keys) if keys else 'nothing'}")
    return f"Found in {path}: " + "; ".join(parts) + "."


def _what(structures: "Sequence[ase.Atoms]") -> str:
    if not structures:
        return "no structures"
    sizes = [len(atoms) for atoms in structures]
    symbols = sorted({symbol for atoms in structures for symbol in set(atoms.symbols)})
    periodic = sum(bool(atoms.pbc.all()) for atoms in structures)
    partly = sum(bool(atoms.pbc.any()) for atoms in structures) - periodic
    cells = {"periodic": periodic, "partly periodic": partly}
    cells["not periodic"] = len(sizes) - periodic - partly
    kinds = [
        name if count == len(sizes) else f"{count} {name}" for name, count in cells.items() if count
    ]
    per_frame = f"{min(sizes)}" if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"
    return (
        f"{_count(len(sizes), 'structure')} of {per_frame} atoms, elements {' '.join(symbols)}, "
        f"{', '.join(kinds)}"
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _range(
    label: str, structures: "Sequence[ase.Atoms]", labels: Sequence[Labels], having: list[int]
) -> str:
    if label == "energy":
        per_atom = [(labels[k].energy or 0.0) / len(structures[k]) for k in having]
        return f"{min(per_atom):.4f} to {max(per_atom):.4f} eV/atom"
    values = np.concatenate([np.ravel(getattr(labels[k], label)) for k in having])
    largest = np.abs(values).max()
    if label == "forces":
        rms = np.sqrt((values**2).mean())
        return f"components up to {largest:.3f}, rms {rms:.3f} eV/Å"
    return f"components up to {largest:.5f} eV/Å³ ({largest * 160.21766:.2f} GPa), tension positive"
