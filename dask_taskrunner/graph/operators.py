"""What happens where a task is used as if it were its result: operators make tasks, and what needs
the value at once is an error that shows the right line. It knows no tasks and no flows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from dask_taskrunner.exceptions import NotAValue

T = TypeVar("T")


class NoSuchAttribute(NotAValue, AttributeError):
    """A task was asked for an attribute; ``hasattr`` and its like see an AttributeError."""


class Operators(Generic[T]):
    """The operators of what stands for a value to come; each makes a `T`."""

    #: NumPy and pandas ask these before they take a task for a scalar and work elementwise: with
    #: them ``array + task`` is one task, made by ``__radd__``.
    __array_ufunc__: ClassVar[None] = None
    __pandas_priority__: ClassVar[int] = 10_000

    def _apply(self, function: Callable[..., Any], *operands: Any) -> T:
        """Return what stands for ``function(*operands)``."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> T:
        return self._apply(operator.getitem, self, key)

    def is_equal(self, other: Any) -> T:
        """Return a task for ``self == other``; the operator itself compares the tasks."""
        return self._apply(operator.eq, self, other)

    def not_equal(self, other: Any) -> T:
        """Return a task for ``self != other``; the operator itself compares the tasks."""
        return self._apply(operator.ne, self, other)

    def __lt__(self, other: Any) -> T:
        return self._apply(operator.lt, self, other)

    def __le__(self, other: Any) -> T:
        return self._apply(operator.le, self, other)

    def __gt__(self, other: Any) -> T:
        return self._apply(operator.gt, self, other)

    def __ge__(self, other: Any) -> T:
        return self._apply(operator.ge, self, other)

    def __neg__(self) -> T:
        return self._apply(operator.neg, self)

    def __pos__(self) -> T:
        return self._apply(operator.pos, self)

    def __invert__(self) -> T:
        return self._apply(operator.invert, self)

    def __abs__(self) -> T:
        return self._apply(operator.abs, self)

    def __add__(self, other: Any) -> T:
        return self._apply(operator.add, self, other)

    def __radd__(self, other: Any) -> T:
        return self._apply(operator.add, other, self)

    def __sub__(self, other: Any) -> T:
        return self._apply(operator.sub, self, other)

    def __rsub__(self, other: Any) -> T:
        return self._apply(operator.sub, other, self)

    def __mul__(self, other: Any) -> T:
        return self._apply(operator.mul, self, other)

    def __rmul__(self, other: Any) -> T:
        return self._apply(operator.mul, other, self)

    def __matmul__(self, other: Any) -> T:
        return self._apply(operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> T:
        return self._apply(operator.matmul, other, self)

    def __truediv__(self, other: Any) -> T:
        return self._apply(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> T:
        return self._apply(operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> T:
        return self._apply(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> T:
        return self._apply(operator.floordiv, other, self)

    def __mod__(self, other: Any) -> T:
        return self._apply(operator.mod, self, other)

    def __rmod__(self, other: Any) -> T:
        return self._apply(operator.mod, other, self)

    def __divmod__(self, other: Any) -> T:
        return self._apply(divmod, self, other)

    def __rdivmod__(self, other: Any) -> T:
        return self._apply(divmod, other, self)

    def __pow__(self, other: Any) -> T:
        return self._apply(operator.pow, self, other)

    def __rpow__(self, other: Any) -> T:
        return self._apply(operator.pow, other, self)

    def __lshift__(self, other: Any) -> T:
        return self._apply(operator.lshift, self, other)

    def __rlshift__(self, other: Any) -> T:
        return self._apply(operator.lshift, other, self)

    def __rshift__(self, other: Any) -> T:
        return self._apply(operator.rshift, self, other)

    def __rrshift__(self, other: Any) -> T:
        return self._apply(operator.rshift, other, self)

    def __and__(self, other: Any) -> T:
        return self._apply(operator.and_, self, other)

    def __rand__(self, other: Any) -> T:
        return self._apply(operator.and_, other, self)

    def __or__(self, other: Any) -> T:
        return self._apply(operator.or_, self, other)

    def __ror__(self, other: Any) -> T:
        return self._apply(operator.or_, other, self)

    def __xor__(self, other: Any) -> T:
        return self._apply(operator.xor, self, other)

    def __rxor__(self, other: Any) -> T:
        return self._apply(operator.xor, other, self)

    # --- what needs the value at once ---------------------------------------------------------

    def _refuse(self, use: str, instead: str) -> NoReturn:
        raise NotAValue(_text(self, use, instead))

    def __bool__(self) -> NoReturn:
        self._refuse(
            "the truth (`if x:`, `x and y`, `not x`)",
            "Decide inside a task, `@task def choose(x): return a if x else b`; "
            "for `x and y`, `x or y` write `x & y`, `x | y`.",
        )

    def __len__(self) -> NoReturn:
        self._refuse("the length", "Write `task(len)(x)`.")

    def __int__(self) -> NoReturn:
        self._refuse("the number", "Write `task(int)(x)`.")

    def __float__(self) -> NoReturn:
        self._refuse("the number", "Write `task(float)(x)`.")

    def __complex__(self) -> NoReturn:
        self._refuse("the number", "Write `task(complex)(x)`.")

    def __index__(self) -> NoReturn:
        self._refuse(
            "the number (`values[x]`, `range(x)`)",
            "Write `task(operator.getitem)(values, x)`, `task(range)(x)`.",
        )

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        # Without it NumPy would make an array with the task itself in it.
        self._refuse("the array (`np.asarray(x)`, `df @ x`)", "Write `task(np.asarray)(x)`.")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("the elements (`y in x`)", "Write `task(operator.contains)(x, y)`.")

    def __iter__(self) -> Iterator[T]:
        self._refuse(
            "the elements (`a, b = x`, `for y in x`)",
            "Say how many values the task returns, with `@task(nout=2)` or `-> tuple[A, B]`, "
            "or loop inside a task.",
        )

    # A type checker that saw this would find every attribute on a task.
    if not TYPE_CHECKING:  # pragma: no branch

        def __getattr__(self, name: str) -> NoReturn:
            text = _text(self, f"the attribute {name!r}", f"Write `task(getattr)(x, {name!r})`.")
            raise NoSuchAttribute(text)


def _text(node: object, use: str, instead: str) -> str:
    # Not by attribute: an object that is being unpickled has none yet.
    slug = vars(node).get("slug", "?")
    return (
        f"{use} of {slug!r} was asked for: a task is not a value, its result is there "
        f"only when the flow runs. {instead}"
    )
