"""Parts of a service: an executor that shuts down, replies that expire, a client made on first use, a bulkhead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from .case import Case, run_case

# 5. A task is put behind the sentinel that stops the worker: nobody runs it, and its future never ends.


class Task:
    def __init__(self, work: Callable[[], int]) -> None:
        self.work = work
        self.outcome: Future[int] = Future()

    def execute(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            value = self.work()
        except Exception as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(value)


class ShutDownError(RuntimeError):
    """The executor takes no more work."""


class SingleExecutor:
    """Runs tasks in order on the thread that calls serve()."""

    def __init__(self) -> None:
        self.executed = 0
        self.accepted: list[Future[int]] = []
        self._shutdown_lock = threading.Lock()
        self._is_shut_down = False
        self._tasks: queue.Queue[Task | None] = queue.Queue()

    def submit(self, work: Callable[[], int]) -> Future[int]:
        if self._is_shut_down:
            raise ShutDownError("the executor is shut down")
        return self._accept(work)

    def shutdown(self) -> None:
        with self._shutdown_lock:
            if self._is_shut_down:
                return
            self._is_shut_down = True
            self._tasks.put(None)

    def serve(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task.execute()
            self.executed += 1

    def _accept(self, work: Callable[[], int]) -> Future[int]:
        task = Task(work)
        self.accepted.append(task.outcome)
        self._tasks.put(task)
        return task.outcome


class SingleExecutorThatAcceptsUnderTheLock(SingleExecutor):
    def submit(self, work: Callable[[], int]) -> Future[int]:
        with self._shutdown_lock:
            if self._is_shut_down:
                raise ShutDownError("the executor is shut down")
            return self._accept(work)


def serve(executor: SingleExecutor) -> None:
    executor.serve()


def submit_and_wait(executor: SingleExecutor) -> None:
    try:
        outcome = executor.submit(lambda: 6 * 7)
    except ShutDownError:
        return
    assert outcome.result() == 42


def shut_down(executor: SingleExecutor) -> None:
    executor.shutdown()


def accepted_work_is_done(executor: SingleExecutor) -> None:
    assert executor.executed == len(executor.accepted)
    assert all(outcome.done() for outcome in executor.accepted)


# 6. A reply is set on a future that the watchdog cancelled after the reader had asked.


class ReplyTable:
    """Calls in flight by number, as an RPC client keeps them: its reader resolves them, its watchdog cancels."""

    def __init__(self, calls: int = 1) -> None:
        self.late_replies = 0
        self.sent: list[Future[str]] = []
        self._lock = threading.Lock()
        self._in_flight: dict[int, Future[str]] = {}
        for _ in range(calls):
            self.send()

    def send(self) -> Future[str]:
        reply: Future[str] = Future()
        with self._lock:
            self._in_flight[len(self.sent)] = reply
            self.sent.append(reply)
        return reply

    def on_reply(self, number: int, text: str) -> None:
        with self._lock:
            reply = self._in_flight.get(number)
        if reply is None:
            self.late_replies += 1
            return
        self._resolve(reply, text)
        self._forget(number)

    def expire(self, number: int) -> None:
        reply = self._forget(number)
        if reply is not None:
            reply.cancel()

    def in_flight(self) -> int:
        with self._lock:
            return len(self._in_flight)

    def _resolve(self, reply: Future[str], text: str) -> None:
        if reply.cancelled():
            self.late_replies += 1
            return
        reply.set_result(text)

    def _forget(self, number: int) -> Future[str] | None:
        with self._lock:
            return self._in_flight.pop(number, None)


class ReplyTableThatClaimsFirst(ReplyTable):
    def _resolve(self, reply: Future[str], text: str) -> None:
        # From here on cancel() is refused.
        if not reply.set_running_or_notify_cancel():
            self.late_replies += 1
            return
        reply.set_result(text)


def receive_reply(table: ReplyTable) -> None:
    table.on_reply(0, "pong")


def expire_reply(table: ReplyTable) -> None:
    table.expire(0)


def every_call_ended(table: ReplyTable) -> None:
    assert all(reply.done() for reply in table.sent)
    assert table.in_flight() == 0
    cancelled = sum(reply.cancelled() for reply in table.sent)
    assert cancelled == table.late_replies, f"{cancelled} cancelled, {table.late_replies} replies late"


# 7. Double-checked: the first check sees a client that is there and not logged in yet.


class NotLoggedInError(Exception):
    """A call was made before the handshake."""


class StoreClient:
    """A client of an object store: connect, log in, then ask."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._host, _, self._port = endpoint.rpartition(":")
        self._token: str | None = None
        self._bucket: dict[str, bytes] = {}

    def login(self, user: str) -> None:
        challenge = f"{self._host}/{self._port}"
        self._bucket["motd"] = b"hello"
        self._token = f"{user}@{challenge}"

    def read(self, key: str) -> bytes:
        if self._token is None:
            raise NotLoggedInError(f"log in to {self.endpoint} first")
        return self._bucket[key]


class Application:
    """Makes its client when it is first needed."""

    def __init__(self, endpoint: str = "store.example:9000", user: str = "app") -> None:
        self.clients_made = 0
        self._settings = {"endpoint": endpoint, "user": user}
        self._client_lock = threading.Lock()
        self._client: StoreClient | None = None

    def message_of_the_day(self) -> str:
        return self.client().read("motd").decode()

    def client(self) -> StoreClient:
        client = self._client
        if client is not None:
            return client
        with self._client_lock:
            if self._client is None:
                self._connect()
            assert self._client is not None
            return self._client

    def _connect(self) -> None:
        self.clients_made += 1
        self._client = StoreClient(self._settings["endpoint"])
        self._client.login(self._settings["user"])


class ApplicationThatPublishesLast(Application):
    def _connect(self) -> None:
        self.clients_made += 1
        client = StoreClient(self._settings["endpoint"])
        client.login(self._settings["user"])
        self._client = client


def greet(application: Application) -> None:
    assert application.message_of_the_day() == "hello"


def greet_again(application: Application) -> None:
    greet(application)


def one_client_was_made(application: Application) -> None:
    assert application.clients_made == 1


# 8. The wait for a slot times out, nobody looks, and a slot that was never had is given back.


class BulkheadFullError(Exception):
    """No slot came free in time."""


class Backend:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.served = 0
        self.peak = 0
        self._lock = threading.Lock()
        self._inside = 0

    def handle(self) -> None:
        with self._lock:
            self._inside += 1
            self.peak = max(self.peak, self._inside)
        with self._lock:
            self._inside -= 1
            self.served += 1


class Bulkhead:
    """At most `limit` calls of the backend at once."""

    def __init__(self, limit: int = 1, wait_s: float = 0.002) -> None:
        self.limit = limit
        self.wait_s = wait_s
        self.backend = Backend()
        self.refused: list[str] = []
        self._slots = threading.Semaphore(limit)

    def call(self, caller: str) -> None:
        try:
            self._enter()
        except BulkheadFullError:
            self.refused.append(caller)
            return
        try:
            self.backend.handle()
        finally:
            self._slots.release()

    def _enter(self) -> None:
        self._slots.acquire(timeout=self.wait_s)


class BulkheadThatRefuses(Bulkhead):
    def _enter(self) -> None:
        if not self._slots.acquire(timeout=self.wait_s):
            raise BulkheadFullError(f"no slot within {self.wait_s} s")


def call_backend(bulkhead: Bulkhead) -> None:
    bulkhead.call("one")


def call_backend_too(bulkhead: Bulkhead) -> None:
    bulkhead.call("other")


def limit_is_kept(bulkhead: Bulkhead) -> None:
    assert bulkhead.backend.peak <= bulkhead.limit, f"{bulkhead.backend.peak} at once"
    assert bulkhead.backend.served + len(bulkhead.refused) == 2


CASES: tuple[Case, ...] = (
    run_case(
        "submit_behind_the_sentinel",
        serve,
        submit_and_wait,
        shut_down,
        buggy=SingleExecutor,
        fixed=SingleExecutorThatAcceptsUnderTheLock,
        final=accepted_work_is_done,
        oracle="deadlock",
        preemptions=1,
        source="early concurrent.futures and home-made executors: submit() against shutdown()",
    ),
    run_case(
        "reply_to_a_cancelled_future",
        receive_reply,
        expire_reply,
        buggy=ReplyTable,
        fixed=ReplyTableThatClaimsFirst,
        final=every_call_ended,
        oracle="exception",
        preemptions=1,
        source="RPC clients and asyncio bridges: InvalidStateError when a time limit meets the reply",
    ),
    run_case(
        "client_published_before_login",
        greet,
        greet_again,
        buggy=Application,
        fixed=ApplicationThatPublishesLast,
        final=one_client_was_made,
        oracle="exception",
        preemptions=1,
        source="double-checked clients of cloud SDKs: stored first, set up afterwards",
    ),
    run_case(
        "timed_acquire_unchecked",
        call_backend,
        call_backend_too,
        buggy=Bulkhead,
        fixed=BulkheadThatRefuses,
        final=limit_is_kept,
        oracle="final",
        preemptions=1,
        source="bulkheads and rate limiters: the result of acquire(timeout=...) is dropped",
    ),
)
