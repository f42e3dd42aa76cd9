"""Kernels: one signature, several implementations, chosen by where the tensors are.

A kernel is a pure function of tensors, defined by a *reference* in torch. An *offer* is a faster
implementation for a device and some dtypes; its module is imported at its first call. The last
offer that fits is the one that runs. Derivatives are written once per kernel, in terms of kernels
and torch, so that derivatives of derivatives come by themselves.

The axes of a kernel are said in one line, ``"n r, r d q, n<d, =m -> n q"``: a letter is the size of
an axis, ``n<d`` a vector of n whole numbers from 0 to d - 1, ``=m`` a plain number, and on the
right a sum ``a+b`` is allowed. From it come the checks, the shape under `torch.compile` and the
inputs of the tests. A kernel may give several tensors, which then stand on the right with commas.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tensornet import _check
from tensornet.kernels._axes import Axes
from tensornet.kernels._offer import Offer, Run

P = ParamSpec("P")
R = TypeVar("R", bound=Tensor | tuple[Tensor, ...])
Vjp = Callable[..., tuple[Tensor | None, ...]]

_KERNELS: dict[str, Kernel[Any, Any]] = {}
_LIBRARY = torch.library.Library("tensornet", "FRAGMENT")
_TENSORS = frozenset((Tensor, torch.nn.Parameter))
_forced: str | None = None


class Kernel(Generic[P, R]):
    """One signature with several implementations; of those that fit, the one offered last runs.

    Made by the decorator `kernel`. Call it like the function it wraps: it checks its arguments,
    and raises a TypeError or a ValueError where they do not fit the axes.

    Args:
        reference: The definition in torch, with type annotations.
        axes: The line of axes; see the head of this file.

    Attributes:
        name: That of the reference.
        reference: The definition.
        axes: What was read from the line.
        offers: The implementations by name.
        cases: Sizes that the contract is tested at, by name.
        operator: The same as an operator of torch, for `torch.compile` and `torch.export`.

    Raises:
        RuntimeError: If there is a kernel of that name already.
    """

    def __init__(self, reference: Callable[P, R], axes: str) -> None:
        update_wrapper(self, reference)
        self.name = reference.__name__
        self.reference = reference
        self.axes = Axes.read(axes)
        self.cases: dict[str, Mapping[str, int]] = {}
        self.offers = {"reference": Offer("any", f"{reference.__module__}:{self.name}", ())}
        self._signature = inspect.signature(reference)
        self._chosen: dict[tuple[torch.device, torch.dtype, str | None], Run] = {}
        self._recorded: Callable[..., Any] | None = None
        if self.name in _KERNELS:
            raise RuntimeError(
                f"kernel `{self.name}` is already defined. Was its module imported under two names?"
            )
        _KERNELS[self.name] = self
        schema = torch.library.infer_schema(reference, mutates_args=())
        _LIBRARY.define(self.name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(self.name, self._run, "CompositeExplicitAutograd")
        torch.library.register_fake(
            f"tensornet::{self.name}",
            lambda *args: self._made(_first(args).new_empty, args),
            lib=_LIBRARY,
        )
        self.operator = getattr(torch.ops.tensornet, self.name).default

    def offer(
        self,
        name: str,
        *,
        device: str,
        at: str,
        dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    ) -> None:
        """Add an implementation.

        It is called with contiguous tensors of one dtype on one device, none of them empty, and
        gives a new tensor, or a tuple of them.

        Args:
            name: What `use` calls it.
            device: ``"cpu"``, ``"cuda"`` or ``"any"``.
            at: ``"package.module:function"``.
            dtypes: What it takes; an empty tuple means everything.
        """
        self.offers[name] = Offer(device, at, dtypes)
        self._chosen.clear()

    def case(self, name: str, **sizes: int) -> None:
        """Add sizes that the contract of the kernel is tested at.

        Args:
            name: What the test is called.
            sizes: The size of each letter of the axes.
        """
        self.cases[name] = sizes

    def inputs(
        self, case: str, dtype: torch.dtype, seed: int, device: str = "cpu"
    ) -> tuple[Any, ...]:
        """Make random inputs of the sizes of a case, numbers between -1 and 1.

        Args:
            case: One of `cases`.
            dtype: Of the numbers.
            seed: Of the random numbers.
            device: Where to put them.

        Returns:
            One argument per parameter.
        """
        rng = torch.Generator().manual_seed(seed)
        sizes = self.cases[case]
        made: list[Any] = []
        for letters, below, plain in zip(
            self.axes.inputs, self.axes.below, self.axes.plain, strict=True
        ):
            shape = [sizes[letter] for letter in letters]
            if plain:
                made.append(shape[0])
            elif below:
                made.append(torch.randint(sizes[below], shape, generator=rng).to(device))
            else:
                numbers = torch.rand(shape, generator=rng, dtype=dtype) * 2 - 1
                made.append(numbers.to(device))
        return tuple(made)

    def vjp(self, function: Vjp) -> Vjp:
        """Register the derivative: ``function(needs, g, *inputs)`` gives one gradient per input.

        Args:
            function: Written in terms of kernels and torch. ``needs[k]`` says whether input k
                needs one; give none where not. Of a kernel with several results `g` is a tuple,
                with none where a result was not used.

        Returns:
            The function itself.
        """
        several = len(self.axes.outputs) > 1

        def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.set_materialize_grads(not several)
            ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))
            ctx.plain = [None if isinstance(x, Tensor) else x for x in inputs]

        def backward(ctx: Any, *g: Tensor | None) -> tuple[Tensor | None, ...]:
            saved = iter(ctx.saved_tensors)
            inputs = [next(saved) if x is None else x for x in ctx.plain]
            return function(_asked(ctx), g if several else g[0], *inputs)

        def forward(ctx: Any, *args: Any) -> Any:
            keep(ctx, args, None)
            return self._run(*args)

        parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        recorded: Any = type(self.name, (torch.autograd.Function,), parts)
        self._recorded = recorded.apply
        torch.library.register_autograd(
            f"tensornet::{self.name}", backward, setup_context=keep, lib=_LIBRARY
        )
        return function

    def choose(self, device: str, dtype: torch.dtype) -> str:
        """Name the offer that would run.

        Args:
            device: Type of the device of the tensors.
            dtype: Their dtype.

        Returns:
            A key of `offers`.
        """
        able = {n: o for n, o in self.offers.items() if o.obstacle(device, dtype) is None}
        if _forced in able:
            return str(_forced)
        return [n for n in able if able[n].device in ("any", device)][-1]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            return self(*self._signature.bind(*args, **kwargs).args)  # type: ignore[call-arg]
        if len(args) != len(self.axes.inputs):
            self._signature.bind(*args)  # raises
        if not torch.compiler.is_compiling():
            if not self.axes.agree(args):
                self._refuse(args)
            forward = forward_ad._current_level >= 0
            if forward or torch._C._functorch.peek_interpreter_stack() is not None:
                return self.reference(*args, **kwargs)  # these see through torch only
            run = self._direct(args)
            if run is not None:
                return run(*args)  # type: ignore[no-any-return]
        return self.operator(*args)  # type: ignore[no-any-return]

    def implementation(self, device: str, dtype: torch.dtype) -> Callable[P, R]:
        """Give what runs, for callers who know their inputs: nothing is checked.

        Args:
            device: Type of the device of the tensors.
            dtype: Their dtype.

        Returns:
            A function of the kernel's arguments by position: tensors that fit, are contiguous and
            not empty. Autograd does not see it.
        """
        return self._load(device, dtype)

    def _direct(self, args: tuple[Any, ...]) -> Run | None:
        """What to call instead of torch's dispatcher, which takes some 20 us, with autograd 80.

        None where others than autograd watch: tensors of other classes, and modes, as in tracing.
        """
        if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
            return None
        needed = False
        for a in args:
            if type(a) in _TENSORS:
                needed = needed or a.requires_grad
            elif type(a) is not int:
                return None
        return self._recorded if needed and torch.is_grad_enabled() else self._run

    def _run(self, *args: Any) -> R:
        first, done = None, []
        for a in args:
            if isinstance(a, Tensor):
                if a.numel() == 0:
                    return self._made(_first(args).new_zeros, args)  # an empty sum
                a = (a.resolve_neg() if a.is_neg() else a).contiguous()
                first = a if first is None else first
            done.append(a)
        assert first is not None
        key = (first.device, first.dtype, _forced)
        run = self._chosen.get(key)
        if run is None:
            run = self._chosen[key] = self._load(first.device.type, first.dtype)
        return run(*done)  # type: ignore[no-any-return]

    def _made(self, make: Callable[[tuple[Any, ...]], Tensor], args: tuple[Any, ...]) -> R:
        """Make results of the right shapes."""
        made = tuple(make(shape) for shape in self.axes.shapes(args))
        return made if len(made) > 1 else made[0]  # type: ignore[return-value]

    def _load(self, device: str, dtype: torch.dtype) -> Run:
        name = self.choose(device, dtype)
        if name == "reference" and device == "cuda" and _forced is None:
            wanted = [o for o in self.offers.values() if o.device == "cuda" and dtype in o.dtypes]
            if wanted:
                major = (torch.version.cuda or "13").partition(".")[0]
                warnings.warn(
                    "kernels run as plain torch operations on the GPU, which is slower: Numba "
                    f'finds no CUDA compiler. Install one: `pip install "numba-cuda[cu{major}]"`.',
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.offers[name].load()

    def _refuse(self, args: tuple[Any, ...]) -> None:
        """Raise the error that says why `agree` was false."""
        tensors: dict[str, Any] = {}
        specs: dict[str, tuple[Any, str]] = {}
        for name, x, letters, below, plain in zip(
            self._signature.parameters,
            args,
            self.axes.inputs,
            self.axes.below,
            self.axes.plain,
            strict=True,
        ):
            if plain:
                _check.at_least(self.name, 0, **{name: x})
                continue
            if not below:
                tensors[name] = x
            elif not isinstance(x, Tensor) or x.dtype != torch.int64:
                got = x.dtype if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(f"`{self.name}({name}=...)` must hold torch.int64. Got {got}.")
            specs[name] = (x, " ".join(letters))
        _check.one_kind(self.name, **tensors)
        _check.shapes(self.name, **specs)
        device = next(iter(tensors.values())).device
        for name, (x, _) in specs.items():
            if x.device != device:
                raise ValueError(f"`{self.name}({name}=...)` must be on {device}. Got {x.device}.")


def kernel(axes: str) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Make a kernel of a reference.

    Args:
        axes: What the axes of the arguments and of the result are, as in ``"n, m r -> n r"``.

    Returns:
        A decorator for the reference: a pure function of tensors, written from the definition. It
        gives a tensor, or a tuple of them where `axes` says several.
    """
    return lambda reference: Kernel(reference, re.sub(r"\s+", " ", axes))


def kernels() -> tuple[Kernel[Any, Any], ...]:
    """All kernels, by name.

    Returns:
        The kernels.
    """
    return tuple(_KERNELS[name] for name in sorted(_KERNELS))


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Prefer the implementation called `name` wherever it can run, in the whole process.

    Args:
        name: An offer, as ``"reference"``, ``"numba_cpu"`` or ``"numba_cuda"``.

    Returns:
        A context manager; what was preferred before is so again at its end.

    Raises:
        ValueError: If no kernel has an offer of that name.

    Examples:
        >>> with use("reference"):
        ...     pass
    """
    global _forced  # no ContextVar: autograd's threads would not see it
    known = sorted({n for k in kernels() for n in k.offers} | {"reference"})
    _check.one_of("use", known, name=name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def table() -> str:
    """Tell what would run for each kernel, device and dtype.

    Returns:
        Two lines per kernel, one for each device.
    """
    lines = []
    for k in kernels():
        for device in ("cpu", "cuda"):
            said = {}
            for dtype in (torch.float32, torch.float64, torch.complex128):
                said[str(dtype).removeprefix("torch.")] = k.choose(device, dtype)
            words = ", ".join(f"{dtype} {name}" for dtype, name in said.items())
            lines.append(f"{k.name:<20} {device:<5} {words}")
    return "\n".join(lines)


def _asked(ctx: Any) -> tuple[bool, ...]:
    """Which gradients the running backward pass is after.

    Autograd tells a function in Python which inputs require a gradient at all. Forces need none
    of the weights, and the weights none of the positions: twice the work otherwise.
    """
    asked = list(ctx.needs_input_grad)
    if torch.compiler.is_compiling():
        return tuple(asked)
    tensors = [k for k, x in enumerate(ctx.plain) if x is None]
    for k, (node, _) in zip(tensors, ctx.next_functions, strict=True):
        if asked[k] and node.name() != "torch::autograd::AccumulateGrad":
            asked[k] = torch._C._will_engine_execute_node(node)
    return tuple(asked)


def _first(args: tuple[Any, ...]) -> Tensor:
    return next(a for a in args if isinstance(a, Tensor))
