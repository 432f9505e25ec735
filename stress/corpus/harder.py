"""Harder bugs and their fixed twins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from stress.corpus.classic import Case


class Register:
    """Every access is locked, the update as a whole is not."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._value = 0

    def get(self) -> int:
        with self.lock:
            return self._value

    def set(self, value: int) -> None:
        with self.lock:
            self._value = value

    def add(self) -> None:
        self.set(self.get() + 1)


class SafeRegister(Register):
    def add(self) -> None:
        with self.lock:
            self._value += 1


def _two(register: Register) -> None:
    assert register.get() == 2


class Steps:
    """Fails only when b's two steps fall into two different gaps of a."""

    def __init__(self) -> None:
        self.x = 0
        self.y = 0
        self.seen: list[int] = []
        self.lock = threading.Lock()

    def a(self) -> None:
        self.x = 1
        if self.y == 1:
            self.x = 2
            if self.y == 2:
                raise AssertionError("both gaps were hit")

    def b(self) -> None:
        if self.x == 1:
            self.y = 1
            if self.x == 2:
                self.y = 2


class SafeSteps(Steps):
    def a(self) -> None:
        with self.lock:
            super().a()

    def b(self) -> None:
        with self.lock:
            super().b()


class Pages:
    """Check-then-act in tasks of an executor."""

    def __init__(self) -> None:
        self.loads = 0
        self.pages: dict[int, str] = {}
        self.lock = threading.Lock()

    def fetch(self, number: int) -> str:
        if number not in self.pages:
            self.loads += 1
            self.pages[number] = "page"
        return self.pages[number]

    def fetch_all(self) -> None:
        with ThreadPoolExecutor(max_workers=2) as pool:
            assert list(pool.map(self.fetch, [1, 1])) == ["page", "page"]


class SafePages(Pages):
    def fetch(self, number: int) -> str:
        with self.lock:
            return super().fetch(number)


def _one_load(pages: Pages) -> None:
    assert pages.loads == 1, pages.loads


class Noisy:
    """A race amid two hundred steps that have nothing to do with it."""

    def __init__(self) -> None:
        self.total = 0
        self.notes = {"a": 0, "b": 0}
        self.lock = threading.Lock()

    def _work(self, name: str) -> None:
        for _ in range(50):
            self.notes[name] += 1

    def add(self, name: str) -> None:
        self._work(name)
        self._add()
        self._work(name)

    def _add(self) -> None:
        self.total += 1


class SafeNoisy(Noisy):
    def _add(self) -> None:
        with self.lock:
            self.total += 1


def _total(noisy: Noisy) -> None:
    assert noisy.total == 2


class Flags:
    """Goes wrong only when the reader sees ready before and not after."""

    def __init__(self) -> None:
        self.ready = False
        self.value: int | None = None
        self.lock = threading.Lock()

    def publish(self) -> None:
        self.ready = True
        self.value = 42
        self.ready = False
        self.value = None
        self.ready = True
        self.value = 43

    def read(self) -> None:
        if self.ready:
            value = self.value
            if not self.ready and value is None:
                raise AssertionError("ready, yet nothing there")


class SafeFlags(Flags):
    def publish(self) -> None:
        with self.lock:
            super().publish()

    def read(self) -> None:
        with self.lock:
            super().read()


CASES = [
    Case("locked-atomicity", (Register.add, Register.add), Register, _two, ("invariant",)),
    Case("locked-atomicity-twin", (SafeRegister.add, SafeRegister.add), SafeRegister, _two),
    Case("depth-3", (Steps.a, Steps.b), Steps, None, ("exception",), 3),
    Case("depth-3-twin", (SafeSteps.a, SafeSteps.b), SafeSteps),
    Case("executor", (Pages.fetch_all,), Pages, _one_load, ("invariant",)),
    Case("executor-twin", (SafePages.fetch_all,), SafePages, _one_load),
    Case("noisy", (lambda n: n.add("a"), lambda n: n.add("b")), Noisy, _total, ("invariant",)),
    Case("noisy-twin", (lambda n: n.add("a"), lambda n: n.add("b")), SafeNoisy, _total),
    Case("flags", (Flags.publish, Flags.read), Flags, None, ("exception",), 3),
    Case("flags-twin", (SafeFlags.publish, SafeFlags.read), SafeFlags),
]
