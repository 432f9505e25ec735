"""Locks and what is built like one: upgrades, orders, fair hand-over, counts of readers, compare and set."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from .case import Case, run_case

# 9. Two readers want to become the writer, and each waits for the other to stop reading.


class ReadWriteLock:
    """Many readers or one writer; a reader may become the writer without letting go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._is_writing = False
        self._is_upgrading = False

    def acquire_read(self) -> None:
        with self._changed:
            while self._is_writing:
                self._changed.wait()
            self._readers += 1

    def release_read(self) -> None:
        with self._changed:
            self._readers -= 1
            self._changed.notify_all()

    def acquire_write(self) -> None:
        with self._changed:
            while self._is_writing or self._readers > 0:
                self._changed.wait()
            self._is_writing = True

    def release_write(self) -> None:
        with self._changed:
            self._is_writing = False
            self._changed.notify_all()

    def upgrade(self) -> bool:
        """From reader to writer; False: still a reader, for another reader is on its way up."""
        with self._changed:
            self._wait_for_other_readers()
            return True

    def _wait_for_other_readers(self) -> None:
        self._is_upgrading = True
        while self._readers > 1:
            self._changed.wait()
        self._is_upgrading = False
        self._readers -= 1
        self._is_writing = True


class ReadWriteLockWithOneUpgrade(ReadWriteLock):
    def upgrade(self) -> bool:
        with self._changed:
            if self._is_upgrading:
                return False
            self._wait_for_other_readers()
            return True


class TranslationTable:
    """Looks words up, and learns those that it does not know."""

    def __init__(self, lock: ReadWriteLock) -> None:
        self.learnt: list[str] = []
        self._lock = lock
        self._words = {"one": "un", "two": "deux"}

    def translate(self, word: str) -> str:
        self._lock.acquire_read()
        known = self._words.get(word)
        if known is not None:
            self._lock.release_read()
            return known
        if not self._lock.upgrade():
            self._lock.release_read()
            self._lock.acquire_write()
        try:
            if word not in self._words:
                self._words[word] = word.upper()
                self.learnt.append(word)
            return self._words[word]
        finally:
            self._lock.release_write()


def buggy_translation_table() -> TranslationTable:
    return TranslationTable(ReadWriteLock())


def fixed_translation_table() -> TranslationTable:
    return TranslationTable(ReadWriteLockWithOneUpgrade())


def translate_three(table: TranslationTable) -> None:
    assert table.translate("one") == "un"
    assert table.translate("three") == "THREE"


def translate_three_and_two(table: TranslationTable) -> None:
    assert table.translate("three") == "THREE"
    assert table.translate("two") == "deux"


def three_is_learnt_once(table: TranslationTable) -> None:
    assert table.learnt == ["three"]


# 10. The registry closes its sessions with its lock held; a session that closes itself asks for that lock last.


class Session:
    def __init__(self, registry: SessionRegistry, name: str) -> None:
        self.name = name
        self.sent: list[str] = []
        self.is_closed = False
        self._registry = registry
        self._lock = threading.Lock()

    def send(self, text: str) -> bool:
        with self._lock:
            if self.is_closed:
                return False
            self.sent.append(text)
            return True

    def close(self) -> None:
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            self.sent.append("bye")
            self._registry.forget(self)


class SessionRegistry:
    """Every open session by name."""

    def __init__(self, *names: str) -> None:
        self.opened: list[Session] = []
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        for name in names:
            self.open(name)

    def open(self, name: str) -> Session:
        session = Session(self, name)
        with self._lock:
            self._sessions[name] = session
            self.opened.append(session)
        return session

    def forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.name, None)

    def names(self) -> list[str]:
        return [session.name for session in self._snapshot()]

    def broadcast(self, text: str) -> int:
        return sum(session.send(text) for session in self._snapshot())

    def close_all(self) -> None:
        with self._lock:
            for session in self._snapshot():
                session.close()

    def _snapshot(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())


class SessionRegistryThatLetsGo(SessionRegistry):
    def close_all(self) -> None:
        for session in self._snapshot():
            session.close()


def buggy_registry() -> SessionRegistry:
    return SessionRegistry("ann", "bob")


def fixed_registry() -> SessionRegistry:
    return SessionRegistryThatLetsGo("ann", "bob")


def broadcast_and_close_all(registry: SessionRegistry) -> None:
    assert registry.broadcast("last orders") <= 2
    registry.close_all()


def bob_leaves(registry: SessionRegistry) -> None:
    bob = registry.opened[1]
    bob.send("hello")
    bob.close()


def everyone_is_gone(registry: SessionRegistry) -> None:
    assert registry.names() == []
    assert all(session.is_closed and session.sent.count("bye") == 1 for session in registry.opened)


# 11. The lock is handed to a waiter that has just stopped waiting, and it is lost.


class FairLock:
    """Goes to those who wait in the order in which they came."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._guard = threading.Lock()
        self._is_held = False
        self._queue: deque[threading.Event] = deque()

    def acquire(self, timeout_s: float | None = None) -> bool:
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return True
            turn = threading.Event()
            self._queue.append(turn)
        if turn.wait(timeout_s):
            return True
        return self._give_up(turn)

    def release(self) -> None:
        with self._guard:
            if self._queue:
                # Still held: by the waiter from now on.
                self._queue.popleft().set()
            else:
                self._is_held = False

    def is_held(self) -> bool:
        with self._guard:
            return self._is_held

    def _give_up(self, turn: threading.Event) -> bool:
        """Whether the lock came all the same."""
        with self._guard:
            if turn in self._queue:
                self._queue.remove(turn)
            return False


class FairLockThatTakesWhatCameLate(FairLock):
    def _give_up(self, turn: threading.Event) -> bool:
        with self._guard:
            if turn in self._queue:
                self._queue.remove(turn)
                return False
            return True


def enter_twice(lock: FairLock) -> None:
    for visit in ("first", "second"):
        lock.acquire()
        lock.entries.append(visit)
        lock.release()


def enter_if_quick(lock: FairLock) -> None:
    if lock.acquire(timeout_s=0.001):
        lock.entries.append("quick")
        lock.release()


def lock_is_free(lock: FairLock) -> None:
    assert not lock.is_held()
    assert [visit for visit in lock.entries if visit != "quick"] == ["first", "second"]


# 12. Readers are counted in under the gate and counted out beside it: two counts make one, and the compactor comes in.


class Page:
    def __init__(self, text: str) -> None:
        self.is_freed = False
        self._text = text

    def text(self) -> str:
        if self.is_freed:
            raise RuntimeError("read of a page that was freed")
        return self._text


class PageStore:
    """Pages move when the store is compacted, which is put off while anyone reads."""

    def __init__(self) -> None:
        self.compactions = 0
        self.busiest = 0
        self._gate = threading.Lock()
        self._readers = 0
        self._pages = {"a": Page("alpha"), "b": Page("beta")}

    def read(self, key: str) -> str:
        self._enter()
        try:
            page = self._pages[key]
            return page.text()
        finally:
            self._leave()

    def compact(self) -> bool:
        with self._gate:
            if self._readers > 0:
                return False
            old = self._pages
            self._pages = {key: Page(page.text()) for key, page in old.items()}
            for page in old.values():
                page.is_freed = True
            self.compactions += 1
            return True

    def readers(self) -> int:
        with self._gate:
            return self._readers

    def _enter(self) -> None:
        with self._gate:
            self._readers += 1

    def _leave(self) -> None:
        self._count_out()

    def _count_out(self) -> None:
        inside = self._readers
        self.busiest = max(self.busiest, inside)
        self._readers = inside - 1


class PageStoreCountedUnderTheGate(PageStore):
    def _leave(self) -> None:
        with self._gate:
            self._count_out()


def read_a(store: PageStore) -> None:
    assert store.read("a") == "alpha"


def read_b(store: PageStore) -> None:
    assert store.read("b") == "beta"


def compact(store: PageStore) -> None:
    store.compact()


def nobody_reads(store: PageStore) -> None:
    assert store.readers() == 0


# 13. A, B, A: the head of the free list is what it was, and what follows it is not.

NOWHERE = -1


class Head(NamedTuple):
    """The first free slot; `stamp` counts changes where somebody counts them."""

    slot: int
    stamp: int


class AtomicHead:
    """Compare and set, in place of an instruction."""

    def __init__(self, head: Head) -> None:
        self._lock = threading.Lock()
        self._head = head

    def get(self) -> Head:
        with self._lock:
            return self._head

    def compare_and_set(self, seen: Head, wanted: Head) -> bool:
        with self._lock:
            if self._head != seen:
                return False
            self._head = wanted
            return True


class FreeList:
    """Numbers of free slots, linked through the slots."""

    def __init__(self, slots: int = 3) -> None:
        self.held: list[int] = []
        self._next = [*range(1, slots), NOWHERE]
        self._head = AtomicHead(Head(0, 0))

    def take(self) -> int:
        """A free slot, or NOWHERE."""
        while True:
            seen = self._head.get()
            if seen.slot == NOWHERE:
                return NOWHERE
            following = self._next[seen.slot]
            if self._head.compare_and_set(seen, self._head_after(seen, following)):
                return seen.slot

    def give(self, slot: int) -> None:
        while True:
            seen = self._head.get()
            self._next[slot] = seen.slot
            if self._head.compare_and_set(seen, self._head_after(seen, slot)):
                return

    def free(self) -> list[int]:
        """Only while nobody takes or gives."""
        slots = []
        slot = self._head.get().slot
        while slot != NOWHERE and slot not in slots:
            slots.append(slot)
            slot = self._next[slot]
        return slots

    def _head_after(self, seen: Head, slot: int) -> Head:
        return Head(slot, seen.stamp)


class StampedFreeList(FreeList):
    def _head_after(self, seen: Head, slot: int) -> Head:
        return Head(slot, seen.stamp + 1)


def hold_two(slots: FreeList) -> None:
    for _ in range(2):
        slot = slots.take()
        if slot != NOWHERE:
            slots.held.append(slot)


def take_two_and_give_one(slots: FreeList) -> None:
    first = slots.take()
    second = slots.take()
    if first != NOWHERE:
        slots.give(first)
    if second != NOWHERE:
        slots.held.append(second)


def no_slot_is_lost_or_had_twice(slots: FreeList) -> None:
    assert sorted(slots.held + slots.free()) == [0, 1, 2], f"held {slots.held}, free {slots.free()}"


CASES: tuple[Case, ...] = (
    run_case(
        "two_readers_upgrade",
        translate_three,
        translate_three_and_two,
        buggy=buggy_translation_table,
        fixed=fixed_translation_table,
        final=three_is_learnt_once,
        oracle="deadlock",
        preemptions=1,
        source="read-write locks with an upgrade, and SELECT followed by UPDATE under shared row locks",
    ),
    run_case(
        "close_all_against_close",
        broadcast_and_close_all,
        bob_leaves,
        buggy=buggy_registry,
        fixed=fixed_registry,
        final=everyone_is_gone,
        oracle="deadlock",
        preemptions=1,
        source="logging's handlers and its module lock at shutdown; servers that close their clients",
    ),
    run_case(
        "fair_lock_loses_the_grant",
        enter_twice,
        enter_if_quick,
        buggy=FairLock,
        fixed=FairLockThatTakesWhatCameLate,
        final=lock_is_free,
        oracle="deadlock",
        preemptions=2,
        source="asyncio and trio-like semaphores: a waiter that gives up when its turn has just been granted",
    ),
    run_case(
        "readers_counted_out_beside_the_gate",
        read_a,
        read_b,
        compact,
        buggy=PageStore,
        fixed=PageStoreCountedUnderTheGate,
        final=nobody_reads,
        oracle="exception",
        preemptions=2,
        source="epoch counters of embedded stores: the way out was made quick",
    ),
    run_case(
        "free_list_aba",
        hold_two,
        take_two_and_give_one,
        buggy=FreeList,
        fixed=StampedFreeList,
        final=no_slot_is_lost_or_had_twice,
        oracle="final",
        preemptions=1,
        source="lock-free free lists (Treiber's stack) without a stamp",
    ),
)
