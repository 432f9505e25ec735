"""Threads that wait for each other: what is checked once, cleared too late or announced too early."""

from __future__ import annotations

import threading
from collections import deque

from .case import Case, run_case

# 14. One who never waited takes the job of one who was woken for it, and the woken one does not look again.


class JobBox:
    """Jobs in order of arrival; take() waits for one."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._filled = threading.Condition()
        self._jobs: deque[str] = deque()

    def put(self, job: str) -> None:
        with self._filled:
            self._jobs.append(job)
            self._filled.notify()

    def take(self) -> str:
        with self._filled:
            self._wait_for_job()
            return self._jobs.popleft()

    def _wait_for_job(self) -> None:
        if not self._jobs:
            self._filled.wait()


class JobBoxThatLooksAgain(JobBox):
    def _wait_for_job(self) -> None:
        while not self._jobs:
            self._filled.wait()


def do_a_job(box: JobBox) -> None:
    box.done.append(box.take())


def do_another_job(box: JobBox) -> None:
    do_a_job(box)


def bring_two_jobs(box: JobBox) -> None:
    box.put("sweep")
    box.put("mop")


def both_jobs_are_done(box: JobBox) -> None:
    assert sorted(box.done) == ["mop", "sweep"]


# 15. The event is cleared after the messages were taken, and with it the word of one that came in between.


class Mailbox:
    """Messages from any thread to one collector, which sleeps while there are none."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.rounds = 0
        self._lock = threading.Lock()
        self._posted = threading.Event()
        self._messages: list[str] = []

    def post(self, message: str) -> None:
        with self._lock:
            self._messages.append(message)
        self._posted.set()

    def collect(self, count: int) -> None:
        while len(self.collected) < count:
            self._posted.wait()
            self.collected.extend(self._next_batch())
            self.rounds += 1

    def _next_batch(self) -> list[str]:
        batch = self._take_all()
        self._posted.clear()
        return batch

    def _take_all(self) -> list[str]:
        with self._lock:
            batch, self._messages = self._messages, []
        return batch


class MailboxClearedFirst(Mailbox):
    def _next_batch(self) -> list[str]:
        self._posted.clear()
        return self._take_all()


def post_two(mailbox: Mailbox) -> None:
    mailbox.post("first")
    mailbox.post("second")


def collect_two(mailbox: Mailbox) -> None:
    mailbox.collect(2)


def both_arrived_in_order(mailbox: Mailbox) -> None:
    assert mailbox.collected == ["first", "second"]


# 16. Waiters are woken before that which they wait for is there; they see nothing and sleep on.


class Listener:
    """A server that is started on one thread while others wait to learn its port."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._state_changed = threading.Condition()
        self._port: int | None = None
        self._backlog: deque[str] = deque()

    def start(self) -> None:
        self.log.append("starting")
        port = self._bind()
        self._announce(port)
        self.log.append(f"listening on {port}")

    def wait_for_port(self) -> int:
        with self._state_changed:
            while self._port is None:
                self._state_changed.wait()
            return self._port

    def connect(self, client: str) -> None:
        port = self.wait_for_port()
        with self._state_changed:
            self._backlog.append(f"{client}:{port}")

    def clients(self) -> list[str]:
        with self._state_changed:
            return sorted(self._backlog)

    def _bind(self) -> int:
        # As the kernel picks one for port 0.
        return 49152

    def _announce(self, port: int) -> None:
        with self._state_changed:
            self._state_changed.notify_all()
        self._port = port


class ListenerThatSetsFirst(Listener):
    def _announce(self, port: int) -> None:
        with self._state_changed:
            self._port = port
            self._state_changed.notify_all()


def connect_ann(listener: Listener) -> None:
    listener.connect("ann")


def start_listener(listener: Listener) -> None:
    listener.start()


def ann_is_connected(listener: Listener) -> None:
    assert listener.clients() == ["ann:49152"]
    assert listener.log == ["starting", "listening on 49152"]


CASES: tuple[Case, ...] = (
    run_case(
        "if_around_wait",
        do_a_job,
        do_another_job,
        bring_two_jobs,
        buggy=JobBox,
        fixed=JobBoxThatLooksAgain,
        final=both_jobs_are_done,
        oracle="exception",
        preemptions=1,
        source="the textbook's monitor and many a worker pool: `if` where `while` is due around wait()",
    ),
    run_case(
        "event_cleared_after_the_batch",
        post_two,
        collect_two,
        buggy=Mailbox,
        fixed=MailboxClearedFirst,
        final=both_arrived_in_order,
        oracle="lost wakeup",
        preemptions=2,
        source="wakers of event loops and batching log handlers: wait, take, clear",
    ),
    run_case(
        "announced_before_it_is_so",
        connect_ann,
        start_listener,
        buggy=Listener,
        fixed=ListenerThatSetsFirst,
        final=ann_is_connected,
        oracle="lost wakeup",
        preemptions=1,
        source="test servers that tell their port: notify_all() first, the attribute afterwards",
    ),
)
