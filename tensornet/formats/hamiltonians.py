"""Operators of chains with couplings between neighbours, as TT-matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tensornet import _check
from tensornet.formats.train_matrix import TTMatrix


def neighbour_chain(
    length: int,
    pairs: Sequence[tuple[Tensor, Tensor]],  # (d, d) each
    *,
    local: Tensor | None = None,  # (d, d)
    periodic: bool = False,
) -> TTMatrix:
    """Make the sum of products of operators on neighbours, and of operators on single sites.

    The sum over k and over pairs (A, B) of A on site k times B on site k + 1, plus the sum over k
    of `local` on site k. Ranks are two more than the number of pairs; periodic, twice as many
    pairs.

    Args:
        length: Number of sites, at least two; periodic, at least three.
        pairs: Operators on the left and on the right site.
        local: Operator on every site, or none.
        periodic: Whether the last site is also left of the first.

    Returns:
        The operator, with cores (w, d, d, w').

    Raises:
        ValueError: If there are too few sites, no pairs, or the operators are not square of one
            size.
        TypeError: If they differ in dtype.

    Derivatives:
        To the operators, of any order.

    References:
        Schollwöck, Annals of Physics 326, 96 (2011), section 6.1.

    Examples:
        >>> z = torch.diag(torch.tensor([1.0, -1.0]))
        >>> float(neighbour_chain(3, [(z, z)])[0, 0, 0, 0, 0, 0])
        2.0
    """
    _check.at_least("neighbour_chain", 3 if periodic else 2, length=length)
    if not pairs:
        raise ValueError("`neighbour_chain(pairs=...)` must have at least one pair. Got none.")
    named = {f"pairs[{p}][{i}]": op for p, pair in enumerate(pairs) for i, op in enumerate(pair)}
    if local is not None:
        named["local"] = local
    _check.one_kind("neighbour_chain", **named)
    _check.shapes("neighbour_chain", **{name: (op, "d d") for name, op in named.items()})
    first = pairs[0][0]
    eye, n = torch.eye(len(first), dtype=first.dtype, device=first.device), len(pairs)
    # states: 0 nothing yet, 1..n the left half stands, (n+1..2n the last bond is open,) done
    done = (2 * n if periodic else n) + 1
    entries = {(0, 0): eye, (done, done): eye}
    for p, (left, right) in enumerate(pairs, 1):
        entries[0, p], entries[p, done] = left, right
        if periodic:
            entries[n + p, n + p] = eye
    if local is not None:
        entries[0, done] = local
    begin = {(0, j): op for (i, j), op in entries.items() if i == 0}
    end = {(i, 0): op for (i, j), op in entries.items() if j == done}
    if periodic:
        begin |= {(0, n + p): right for p, (_, right) in enumerate(pairs, 1)}
        end |= {(n + p, 0): left for p, (left, _) in enumerate(pairs, 1)}
    middle = _core(entries, done + 1, done + 1, eye)
    cores = [_core(begin, 1, done + 1, eye), *[middle] * (length - 2)]
    return TTMatrix((*cores, _core(end, done + 1, 1, eye)))


def _core(entries: dict[tuple[int, int], Tensor], rows: int, columns: int, like: Tensor) -> Tensor:
    zero = torch.zeros_like(like)
    blocks = [
        torch.stack([entries.get((i, j), zero) for j in range(columns)], -1) for i in range(rows)
    ]
    return torch.stack(blocks)


def spin_operators(
    spin: float = 0.5, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:  # (2 spin + 1, 2 spin + 1) each
    """Give the real matrices Sx, i Sy and Sz of a spin, highest Sz first.

    Args:
        spin: A half or whole number.
        dtype: By default torch's.

    Returns:
        The three matrices; i Sy instead of Sy, so that all are real.

    Raises:
        ValueError: If the spin is no positive multiple of one half.

    Examples:
        >>> x, iy, z = spin_operators()
        >>> z.diagonal().tolist()
        [0.5, -0.5]
    """
    if not (spin > 0 and float(2 * spin).is_integer()):
        raise ValueError(
            f"`spin_operators(spin=...)` must be a positive multiple of one half. Got {spin}."
        )
    m = torch.arange(spin, -spin - 1, -1, dtype=dtype or torch.get_default_dtype())
    up = torch.diag((spin * (spin + 1) - m[1:] * (m[1:] + 1)).sqrt(), 1)
    return (up + up.mT) / 2, (up - up.mT) / 2, torch.diag(m)


def spin_chain(
    length: int,
    *,
    xx: float = 0.0,
    yy: float = 0.0,
    zz: float = 0.0,
    x: float = 0.0,
    z: float = 0.0,
    spin: float = 0.5,
    periodic: bool = False,
    dtype: torch.dtype | None = None,
) -> TTMatrix:
    """Make the Hamiltonian of a spin chain: Heisenberg, XXZ, transverse Ising and the like.

    The sum over neighbours of ``xx Sx Sx + yy Sy Sy + zz Sz Sz`` plus the sum over sites of
    ``x Sx + z Sz``; S are spin operators, for spin 1/2 half the Pauli matrices.

    Args:
        length: Number of sites, at least two; periodic, at least three.
        xx: Coupling of the x components.
        yy: Coupling of the y components.
        zz: Coupling of the z components.
        x: Field along x.
        z: Field along z.
        spin: Spin of each site.
        periodic: Whether the chain is closed.
        dtype: By default torch's.

    Returns:
        The operator. Energies are in the unit of the couplings.

    Raises:
        ValueError: If there are too few sites, or `spin` is no multiple of one half.

    Examples:
        >>> H = spin_chain(2, xx=1.0, yy=1.0, zz=1.0)  # a singlet below a triplet
        >>> [round(e, 4) for e in torch.linalg.eigvalsh(H.to_matrix()).tolist()]
        [-0.75, 0.25, 0.25, 0.25]
    """
    _check.at_least("spin_chain", 3 if periodic else 2, length=length)
    Sx, iSy, Sz = spin_operators(spin, dtype=dtype)
    couplings = [(xx, Sx), (-yy, iSy), (zz, Sz)]  # Sy Sy = -(i Sy)(i Sy)
    pairs = [(strength * S, S) for strength, S in couplings if strength != 0]
    return neighbour_chain(
        length, pairs or [(0 * Sz, Sz)], local=x * Sx + z * Sz, periodic=periodic
    )
