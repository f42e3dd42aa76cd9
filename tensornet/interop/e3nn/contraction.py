"""MACE's symmetric contraction, run as sparse polynomials."""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations
from typing import Any

import torch
from torch import Tensor, nn

from tensornet import _check
from tensornet.interop.e3nn.arrangement import Permutation
from tensornet.kernels.contraction import turned_polynomial
from tensornet.layers.contraction import Recent, present

_NAME = "fast_symmetric_contraction"


class FastSymmetricContraction(nn.Module):
    """Computes what MACE's symmetric contraction does; made by `fast_symmetric_contraction`.

    For one element and channel the contraction is a polynomial in the components of the features,
    of which few monomials survive. Their coefficients, the couplings times the weights, are made
    for the elements at hand and, where no gradient in the weights is asked for, remembered as long
    as neither these nor the weights change.

    Args:
        module: A ``mace.modules.symmetric_contraction.SymmetricContraction``. Its contractions
            become part of this module, so that parameters, buffers and their names stay.

    Raises:
        TypeError: If `module` is no such module.

    Derivatives:
        Any order, in the features and in the weights; in y where it requires gradients.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        contractions, tables = _tables(module)
        self.contractions = contractions
        for name in ("irreps_in", "irreps_out"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
        first_weight: Any = contractions[0].weights_max
        self.n_elements, _, self.channels = first_weight.shape
        self.components = tables[0].components
        width = max(table.degree for table in tables)
        monomials: list[tuple[int, ...]] = []
        at_k: list[int] = []
        order: list[int] = []
        self.n_out = 0
        for nth, table in enumerate(tables):
            first = self.n_out
            for monomial, k in zip(table.monomials, table.at_k, strict=True):
                monomials.append((*monomial, *[self.components] * (width - len(monomial))))
                at_k.append(first + k)
            self.register_buffer(f"coupling_{nth}", table.coupling, persistent=False)
            if table.last:
                self.n_out += table.size
                order += [
                    (first + k) * self.channels + c
                    for c in range(self.channels)
                    for k in range(table.size)
                ]
        self._terms = [(t.contraction, t.degree) for t in tables]
        words = torch.tensor(monomials, dtype=torch.int64).view(-1, width)
        self.register_buffer("monomials", words, persistent=False)
        self.register_buffer("at_k", torch.tensor(at_k, dtype=torch.int64), persistent=False)
        self.monomials: Tensor
        self.at_k: Tensor
        self.back = Permutation(order)
        self.train(module.training)
        self._recent = Recent()

    def forward(
        self,
        x: Tensor,  # (n, channels, components)
        y: Tensor,  # (n, elements)
    ) -> Tensor:  # (n, channels of each irrep times its components)
        """Contract.

        Args:
            x: Features, components of all degrees last.
            y: Elements, one-hot. Other numbers mix the weights of elements, as in MACE, which is
                slower; under `torch.compile` they make the result NaN.

        Returns:
            The features of each irrep of the output, in e3nn's order.

        Raises:
            TypeError: If `x` has another dtype than the weights.
            ValueError: If the shapes are not those that the module was made for.
        """
        n = _check.shapes(type(self).__name__, x=(x, "n c i"), y=(y, "n s"))["n"]
        wanted = (n, self.channels, self.components), (n, self.n_elements)
        for name, tensor, shape in zip("xy", (x, y), wanted, strict=True):
            if tensor.shape != shape:
                raise ValueError(
                    f"`{type(self).__name__}({name}=...)` must have shape {shape}. "
                    f"Got {tuple(tensor.shape)}."
                )
        coefficients, species = self._by_row(y, n)
        if coefficients.dtype != x.dtype:
            raise TypeError(
                f"`{type(self).__name__}(x=...)` must have the dtype {coefficients.dtype} of the "
                f"weights. Got {x.dtype}."
            )
        at = species, self.monomials, self.at_k, self.n_out
        out: Tensor = self.back(turned_polynomial(x, coefficients, *at).flatten(1))
        return out

    def _by_row(self, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Coefficients, and which of them each row takes."""
        largest, species = y.detach().max(1)
        one_hot = (largest == 1).all() & (y.detach().count_nonzero() == n)
        if torch.compiler.is_compiling():
            right = torch.where(one_hot, 1.0, torch.nan).to(y.dtype)  # no branch may depend on y
            return self._coefficients(self._weights()) * right, species
        if y.requires_grad or not bool(one_hot):
            mixed = torch.einsum("ns,stc->ntc", y, self._coefficients(self._weights()))
            return mixed, torch.arange(n, device=y.device)
        weights = self._weights()
        if n:
            species, *weights = present(type(self).__name__, species, *weights)
        return self._recent(lambda *w: self._coefficients(list(w)), *weights), species

    def _weights(self) -> list[Tensor]:
        """The weights of each table: those of one degree of one contraction."""
        contractions: Any = self.contractions
        return [_weight(contractions[nth], degree) for nth, degree in self._terms]

    def _coefficients(self, weights: list[Tensor]) -> Tensor:  # (s, t, c)
        parts = [
            torch.matmul(getattr(self, f"coupling_{nth}"), weight)
            for nth, weight in enumerate(weights)
        ]
        return torch.cat(parts, 1)


class _Table:
    """The monomials of one degree in one contraction, and their couplings to the weights."""

    def __init__(self, contraction: nn.Module, nth: int, degree: int, size: int) -> None:
        self.contraction, self.degree, self.size, self.last = nth, degree, size, False
        coupling = getattr(contraction, f"U_matrix_{degree}").detach()
        self.components = coupling.shape[-2]
        self.monomials: list[tuple[int, ...]] = []
        self.at_k: list[int] = []
        flat = coupling.double().cpu().reshape(size, -1, coupling.shape[-1])
        words = list(combinations_with_replacement(range(self.components), degree))
        sums = _symmetric(flat, torch.tensor(words), self.components)
        largest = float(sums.abs().max())
        found = sums.abs().amax(2) > 16 * torch.finfo(coupling.dtype).eps * largest
        for k, t in found.nonzero().tolist():
            self.monomials.append(words[t])
            self.at_k.append(k)
        self.coupling = sums[found].to(coupling)


def _symmetric(
    flat: Tensor,  # (k, i^degree, p)
    words: Tensor,  # (t, degree)
    components: int,
) -> Tensor:  # (k, t, p)
    """Sum a coupling over all distinct orders of the indices of each word."""
    degree = words.shape[1]
    steps = torch.tensor([components**q for q in reversed(range(degree))])
    orders = list(permutations(range(degree)))
    total = torch.zeros_like(flat[:, :1])
    for order in orders:
        total = total + flat[:, (words[:, order] * steps).sum(1)]
    same = torch.stack([(words[:, order] == words).all(1) for order in orders]).sum(0)
    return total / same[:, None]


def _weight(contraction: Any, degree: int) -> Tensor:
    """The weights of a degree, which MACE keeps highest degree first."""
    if degree == contraction.correlation:
        return contraction.weights_max  # type: ignore[no-any-return]
    return contraction.weights[contraction.correlation - degree - 1]  # type: ignore[no-any-return]


def _tables(module: nn.Module) -> tuple[nn.ModuleList, list[_Table]]:
    """Read a module by its attributes."""
    contractions = getattr(module, "contractions", None)
    parts = list(contractions) if isinstance(contractions, nn.ModuleList) else []
    known = ("correlation", "weights", "weights_max", "U_matrix_1")
    if not parts or not all(hasattr(part, name) for part in parts for name in known):
        raise TypeError(
            f"`{_NAME}(module=...)` must be a SymmetricContraction of mace-torch. "
            f"Got {type(module).__name__}."
        )
    tables = []
    for nth, part in enumerate(parts):
        first: Tensor = part.U_matrix_1  # type: ignore[assignment]
        size = first.shape[0] if first.ndim == 3 else 1
        correlation: Any = part.correlation
        tables += [_Table(part, nth, degree, size) for degree in range(1, correlation + 1)]
        tables[-1].last = True
    return contractions, tables  # type: ignore[return-value]


def fast_symmetric_contraction(module: nn.Module) -> FastSymmetricContraction:
    """Give a module that computes what MACE's symmetric contraction does, by sparse polynomials.

    It is called like the original, ``module(x, y)``, and gives the same results. The weights stay
    the same `Parameter` objects under the same names, so optimisers and state dicts keep working.

    Args:
        module: A ``mace.modules.symmetric_contraction.SymmetricContraction``: any irreps, each with
            its own correlation, with full or reduced couplings.

    Returns:
        The module to put in its place.

    Raises:
        TypeError: If it is no such module.

    References:
        Batatia et al., MACE (2022), equations 10 and 11.

    Examples:
        >>> fast_symmetric_contraction(torch.nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        TypeError: `fast_symmetric_contraction(module=...)` must be a SymmetricContraction of ...
    """
    return FastSymmetricContraction(module)
