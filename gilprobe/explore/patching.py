"""Puts the models where the code under test looks for the real things, and takes them away again.

Names imported earlier (`from threading import Lock`), locks made at import and default factories hold the originals, so
what the code under test can reach is walked: from the roots over globals, closures and imports, and any further module
when its code first runs under control. All else in the process stays as it is: threads that nobody controls may use it,
and each schedule would pay for putting it back. Stdlib modules are patched by name.
"""

from __future__ import annotations

import _random
import collections
import concurrent.futures.thread
import functools
import random
import sys
import threading
from collections.abc import Callable, Iterable
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from gilprobe.explore import restoring
from gilprobe.explore.imported import imports
from gilprobe.explore.points import UnderTest
from gilprobe.explore.primitives import ModelLock, ModelRLock, PatchedThread
from gilprobe.explore.stand_ins import BY_ORIGINAL, REAL_LOCK, REAL_RLOCK, STDLIB_NAMES, PySimpleQueue, RealSimpleQueue

# random.seed's own, without what it does for seeds that are no integers.
_generator: Any = random._inst
_seed = _random.Random.seed
_MAX_NODES = 100_000
_MAX_ITEMS = 2_000


class Patches:
    """Everything replaced for one session, with what it was."""

    def __init__(self, under: UnderTest, roots: Iterable[Any], restore_globals: bool = True) -> None:
        self.under = under
        self.restore_globals = restore_globals
        self.roots = list(roots)
        self.undo: list[Callable[[], None]] = []
        self.models: dict[int, Any] = {}  # by the real object's id
        self.kept: list[Any] = []  # the real objects, so their ids stay theirs
        self.initial: list[tuple[ModelLock, int]] = []
        self.restorer = restoring.Restorer()
        self.locals: list[Any] = []
        self.seen: set[int] = set()
        self.files: set[str] = set()  # whose modules are walked
        self._random_state = random.getstate()
        self.restoring = (
            True  # what modules, classes and synchronisers hold is put back before each run; closures are not
        )

    def install(self) -> None:
        for module, name in STDLIB_NAMES:
            value = getattr(module, name, None)
            if id(value) in BY_ORIGINAL:
                self._set_attr(module, name, value, BY_ORIGINAL[id(value)])
        pool_module = concurrent.futures.thread
        shutdown: Any = pool_module._global_shutdown_lock
        self._set_attr(pool_module, "_global_shutdown_lock", shutdown, self._model(shutdown))
        self._restore_workers("concurrent.futures.thread", "_threads_queues")
        self._restore_workers("concurrent.futures.process", "_threads_wakeups")
        PatchedThread.install()
        self.undo.append(PatchedThread.remove)
        for file in self.under.explicit:
            self._walk_file(file)
        self.restoring = False
        for root in self.roots:
            self._walk(root)

    def meet(self, code: CodeType) -> None:
        """Before code that was not reached from the roots first runs under control."""
        if code.co_filename not in self.files:
            self._walk_file(code.co_filename)
        self._walk_code(code, None)

    def _walk_file(self, file: str) -> None:
        self.files.add(file)
        before, self.restoring = self.restoring, True
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType) and getattr(module, "__file__", None) == file:
                self._walk_module(module)
        self.restoring = before

    def _restore_workers(self, module: str, name: str) -> None:
        """An executor's workers are not to be joined at the interpreter's end, when their session is long over."""
        was = dict(getattr(sys.modules.get(module), name, {}))

        def restore() -> None:
            workers = getattr(sys.modules.get(module), name, was)
            if len(workers) != len(was):
                workers.clear()
                workers.update(was)

        self.restorer.call(restore)

    def _set_attr(self, owner: Any, name: str, old: Any, new: Any) -> None:
        setattr(owner, name, new)
        self.undo.append(lambda: setattr(owner, name, old))

    def remove(self) -> None:
        for undo in reversed(self.undo):
            undo()
        self.undo.clear()
        random.setstate(self._random_state)

    def reset(self) -> None:
        """Before each run: locks made at import, and what the modules' own state was, as they were at the start."""
        for lock, count in self.initial:
            lock.count = count
            lock.owner = None
            lock.waiters.clear()
            lock.clock = {}
        self.restorer()
        _seed(_generator, 0)
        _generator.gauss_next = None

    # -- the walk

    def _walk_module(self, module: ModuleType) -> None:
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        before, self.restoring = self.restoring, self.restore_globals
        self._walk_dict(vars(module), module=module)
        self.restoring = before

    def _replacement(self, value: Any) -> Any:
        """What stands for `value`; itself where it stays."""
        new = BY_ORIGINAL.get(id(value))
        if new is not None:
            return new
        kind = type(value)
        if kind is REAL_LOCK or kind is REAL_RLOCK or kind is RealSimpleQueue:
            return self._model(value)
        if kind is BuiltinMethodType and isinstance(value.__self__, (REAL_LOCK, REAL_RLOCK)):
            return getattr(self._model(value.__self__), value.__name__)
        return value

    def _model(self, real: Any) -> Any:
        model = self.models.get(id(real))
        if model is None:
            if isinstance(real, RealSimpleQueue):
                model = PySimpleQueue.__new__(PySimpleQueue)
                model._queue = collections.deque()
                count = threading.Semaphore.__new__(threading.Semaphore)
                lock = ModelLock()
                self.initial.append((lock, 0))
                count._cond = threading.Condition(lock)  # type: ignore[attr-defined, arg-type]
                count._value = 0
                model._count = count
                self._restore_later(model._queue)
                self._restore_later(count.__dict__)
                self._restore_later(count._cond._waiters)  # type: ignore[attr-defined]
            else:
                model = ModelRLock() if isinstance(real, REAL_RLOCK) else ModelLock()
                locked = isinstance(real, REAL_LOCK) and real.locked()
                model.count = int(locked)
                self.initial.append((model, model.count))
            self.models[id(real)] = model
            self.kept.append(real)
        return model

    def _walk_dict(self, space: dict[Any, Any], module: ModuleType | None = None) -> None:
        for key, value in list(space.items()):
            if module is not None and isinstance(key, str) and key.startswith("__") and key.endswith("__"):
                continue
            new = self._replacement(value)
            if new is not value:
                space[key] = new
                self.undo.append(lambda k=key, v=value: space.__setitem__(k, v))  # type: ignore[misc]
            else:
                self._walk(value)
        self._restore_later(space, module)

    def _walk(self, value: Any) -> None:
        kind = type(value)
        if kind in _ATOMS or id(value) in self.seen or len(self.seen) > _MAX_NODES:
            return
        self.seen.add(id(value))
        self.kept.append(value)
        if isinstance(value, FunctionType):
            self._walk_function(value)
        elif isinstance(value, MethodType):
            self._walk(value.__self__)
            self._walk(value.__func__)
        elif isinstance(value, (staticmethod, classmethod)):
            self._walk(value.__func__)
        elif isinstance(value, property):
            for part in (value.fget, value.fset, value.fdel):
                self._walk(part)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._walk(part)
        elif isinstance(value, type):
            self._walk_class(value)
        elif isinstance(value, ModuleType):
            file = getattr(value, "__file__", None)
            if file and self.under.has(file):
                self.seen.discard(id(value))
                self._walk_module(value)
        elif isinstance(value, dict):
            if len(value) <= _MAX_ITEMS:
                self._walk_dict(value)
        elif isinstance(value, (list, collections.deque)):
            if len(value) <= _MAX_ITEMS:
                for index, item in enumerate(list(value)):
                    new = self._replacement(item)
                    if new is not item:
                        value[index] = new
                        self.undo.append(lambda i=index, v=item: value.__setitem__(i, v))  # type: ignore[misc]
                    else:
                        self._walk(item)
                self._restore_later(value)
        elif isinstance(value, (tuple, set, frozenset)):
            if len(value) <= _MAX_ITEMS:
                for item in value:
                    self._walk(item)
                if isinstance(value, set):
                    self._restore_later(value)
        elif isinstance(value, threading.local):
            self.locals.append(value)
        elif hasattr(value, "cache_clear") and hasattr(value, "__wrapped__"):
            self.restorer.call(value.cache_clear)
            self._walk(value.__wrapped__)
        else:
            self._walk_instance(value)

    def _walk_instance(self, value: Any) -> None:
        kind = type(value)
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__file__", None)
        users = kind.__module__ == "__main__" or (file is not None and self.under.has(file))
        if not users and kind.__module__ not in ("threading", "queue", "concurrent.futures.thread"):
            return
        if isinstance(value, threading.Thread) and value.is_alive():
            return
        before, self.restoring = self.restoring, self.restoring or not users
        space = getattr(value, "__dict__", None)
        if isinstance(space, dict):
            self._walk_dict(space)
        self.restoring = before
        for base in kind.__mro__:
            for name in _slots(base):
                try:
                    held = getattr(value, name)
                except AttributeError:
                    continue
                new = self._replacement(held)
                if new is not held:
                    self._set_attr(value, name, held, new)
                else:
                    self._walk(held)

    def _walk_class(self, cls: type) -> None:
        module = sys.modules.get(cls.__module__)
        file = getattr(module, "__file__", None)
        if not (cls.__module__ == "__main__" or (file is not None and self.under.has(file))):
            return
        before, self.restoring = self.restoring, True
        for name, value in list(vars(cls).items()):
            if name in ("__dict__", "__weakref__", "__doc__", "__module__"):
                continue
            new = self._replacement(value)
            if new is not value:
                self._set_attr(cls, name, value, new)
            else:
                self._walk(value)
                if self.restoring and type(value) in _PLAIN and not name.startswith("__"):
                    self.restorer.attribute(cls, name, value)
        self.restoring = before
        for base in cls.__bases__:
            self._walk(base)

    def _walk_function(self, function: FunctionType) -> None:
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            self._walk(wrapped)
        for cell in function.__closure__ or ():
            self._walk_cell(cell)
        if not self.under.has(function.__code__.co_filename) and function.__code__.co_filename != "<string>":
            return
        self._walk_code(function.__code__, function.__globals__.get("__package__"))
        defaults = function.__defaults__
        if defaults:
            new = tuple(self._replacement(v) for v in defaults)
            if any(a is not b for a, b in zip(new, defaults, strict=True)):
                self._set_attr(function, "__defaults__", defaults, new)
            for value in new:
                self._walk(value)
        keyword: dict[str, Any] = function.__kwdefaults__ or {}
        for key, value in list(keyword.items()):
            replaced = self._replacement(value)
            if replaced is not value:
                keyword[key] = replaced
                self.undo.append(lambda k=key, v=value: keyword.__setitem__(k, v))  # type: ignore[misc]
            else:
                self._walk(value)
        space = function.__globals__
        name = space.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is not None and vars(module) is space:
            self._walk_module(module)
        elif id(space) not in self.seen:
            self.seen.add(id(space))
            before, self.restoring = self.restoring, False
            self._walk_dict(space)
            self.restoring = before

    def _walk_code(self, code: CodeType, package: str | None) -> None:
        """The modules that it imports when it runs."""
        if id(code) in self.seen:
            return
        self.seen.add(id(code))
        self.kept.append(code)
        for name in imports(code, package):
            module = sys.modules.get(name)
            if isinstance(module, ModuleType):
                self._walk(module)
        for const in code.co_consts:
            if isinstance(const, CodeType):
                self._walk_code(const, package)

    def _walk_cell(self, cell: CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            return
        new = self._replacement(value)
        if new is not value:
            self._set_attr(cell, "cell_contents", value, new)
        else:
            before, self.restoring = self.restoring, False
            self._walk(value)
            self.restoring = before

    def _restore_later(self, value: Any, module: ModuleType | None = None) -> None:
        if not self.restoring:
            return
        if module is not None:
            for key, item in list(value.items()):
                if type(item) in _PLAIN and not key.startswith("__"):
                    self.restorer.key(value, key, item)
            return
        if len(value) > _MAX_ITEMS:
            return
        if isinstance(value, dict):
            self.restorer.dict(value)
        elif isinstance(value, list):
            self.restorer.call(restoring.restore_list, value, list(value))
        elif isinstance(value, collections.deque):
            self.restorer.call(restoring.restore_deque, value, list(value))
        elif isinstance(value, set):
            self.restorer.call(restoring.restore_set, value, set(value))


_PLAIN = (int, float, str, bytes, bool, type(None), tuple)
_ATOMS = {int, float, str, bytes, bool, type(None), complex, CodeType, range, slice, type(...)}


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [slots] if isinstance(slots, str) else [s for s in slots if s not in ("__dict__", "__weakref__")]
