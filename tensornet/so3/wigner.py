"""Coupling of two angular momenta into a third, in the real basis."""

import math
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tensornet import _check


def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:  # (2 l1 + 1, 2 l2 + 1, 2 l3 + 1)
    """Give the real coupling of degrees `l1` and `l2` to `l3`, of unit Frobenius norm.

    Up to its sign, the only tensor of this shape that rotations leave unchanged. Sign and basis
    are e3nn's ``o3.wigner_3j``.

    Args:
        l1: Degree of the first input.
        l2: Degree of the second input.
        l3: Degree of the output.

    Returns:
        A float64 tensor.

    Raises:
        TypeError: If a degree is no whole number.
        ValueError: If a degree is negative or the three break the triangle rule.

    References:
        Varshalovich, Moskalev & Khersonskii, Quantum Theory of Angular Momentum, 8.2.1 (3).

    Examples:
        >>> float(wigner_3j(1, 1, 1)[0, 1, 2])  # the cross product, over the square root of 6
        0.408...
    """
    _check.at_least("wigner_3j", 0, l1=l1, l2=l2, l3=l3)
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(
            f"`wigner_3j(l3=...)` must lie between |l1 - l2| = {abs(l1 - l2)} and "
            f"l1 + l2 = {l1 + l2}. Got {l3}."
        )
    return torch.from_numpy(_wigner_3j(l1, l2, l3).copy())


@cache
def _wigner_3j(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    complex_coupling = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1), dtype=np.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                index = (l1 + m1, l2 + m2, l3 + m1 + m2)
                complex_coupling[index] = _clebsch_gordan(l1, m1, l2, m2, l3)
    q1, q2, q3 = (_complex_to_real(l) for l in (l1, l2, l3))
    real = np.einsum("abc,ai,bj,ck->ijk", complex_coupling, q1, q2, q3.conj())
    return np.asarray(real.real / np.linalg.norm(real.real))


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j3: int) -> float:
    """<j1 m1 j2 m2 | j3 m1+m2>, from integers; only the last square root rounds."""
    m3 = m1 + m2
    f = math.factorial
    square = Fraction(
        (2 * j3 + 1)
        * f(j3 + j1 - j2)
        * f(j3 - j1 + j2)
        * f(j1 + j2 - j3)
        * f(j3 + m3)
        * f(j3 - m3),
        f(j1 + j2 + j3 + 1) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2),
    )
    total = Fraction(0)
    for v in range(max(0, -j1 + j2 + m3), min(j2 + j3 + m1, j3 - j1 + j2, j3 + m3) + 1):
        top = f(j2 + j3 + m1 - v) * f(j1 - m1 + v)
        bottom = f(v) * f(j3 - j1 + j2 - v) * f(j3 + m3 - v) * f(v + j1 - j2 - m3)
        total += Fraction((-1) ** (v + j2 + m2) * top, bottom)
    return math.copysign(math.sqrt(float(square * total * total)), float(total)) if total else 0.0


def _complex_to_real(l: int) -> NDArray[np.complex128]:  # (complex order, real order)
    """Columns are the real harmonics in the complex ones, with the phase (-i)^l of e3nn."""
    q = np.zeros((2 * l + 1, 2 * l + 1), dtype=np.complex128)
    q[l, l] = 1
    for m in range(1, l + 1):
        q[l - m, l + m] = 1 / math.sqrt(2)
        q[l - m, l - m] = -1j / math.sqrt(2)
        q[l + m, l + m] = (-1) ** m / math.sqrt(2)
        q[l + m, l - m] = 1j * (-1) ** m / math.sqrt(2)
    return np.asarray((-1j) ** l * q)
