"""Named parts of the program, told apart in every report."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from types import CodeType, TracebackType
from typing import Any, TypeVar

LIBRARY = "libgilprobe.so"
GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200  # inspect.CO_*, without importing inspect

Function = TypeVar("Function", bound=Callable[..., Any])
Mark = Callable[[bytes, int], object]

_begin: Mark | None = None
_end: Mark | None = None


class span:
    """`with span("decode"): ...` or `@span("decode")`: the waits, the CPU and the stalls inside count for that name.

    Spans nest: an outer one includes what its inner ones hold. Nearly free, and without effect, where nothing records.
    It belongs to the thread that began it. Of coroutines that take turns in one thread, a wait counts for the span that
    was begun last. One object may be used many times, nested and in many threads.
    """

    __slots__ = ("_bytes", "_name")

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"span(name) takes a str, not {type(name).__name__}: write @span('name'), not @span")
        # As the interpreter's own strings are recorded: a lone surrogate is no reason to fail.
        self._name = name.encode("utf-8", "surrogatepass")
        self._bytes = len(self._name)

    def __enter__(self) -> None:
        if _begin is not None:
            _begin(self._name, self._bytes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _end is not None:
            _end(self._name, self._bytes)

    def __call__(self, function: Function) -> Function:
        code: CodeType | None = getattr(function, "__code__", None)
        flags = code.co_flags if code else 0
        if flags & ASYNC_GENERATOR:
            raise TypeError("span cannot decorate an async generator: write `with span(...)` inside it")
        if flags & COROUTINE:

            @wraps(function)
            async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return run_coroutine  # type: ignore[return-value]
        if flags & GENERATOR:

            @wraps(function)
            def run_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                with self:
                    return (yield from function(*args, **kwargs))

            return run_generator  # type: ignore[return-value]

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]


def connect(library: Any) -> None:
    """Spans go to this library (a ctypes.PyDLL) from now on; None: nowhere."""
    global _begin, _end
    if library is None:
        _begin = _end = None
        return
    import ctypes

    begin, end = library.gilprobe_span_begin, library.gilprobe_span_end
    for function in (begin, end):
        function.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        function.restype = None
    _end = end
    _begin = begin


def _connect_to_preloaded() -> None:
    """The recorder hides its variables, so its mapping tells; ctypes is imported only where it is there."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 pathlib is dear here
            if LIBRARY not in maps.read():
                return
        import ctypes

        # PyDLL keeps the GIL: a span must not be a place where threads take turns.
        connect(ctypes.PyDLL(None))
    except (OSError, ImportError, AttributeError):
        return  # no Linux; a subinterpreter without ctypes; another library of that name


_connect_to_preloaded()
