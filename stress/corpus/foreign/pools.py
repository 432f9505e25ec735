"""Pools of connections and files: closed, reaped, recycled or released while someone else uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from .case import Case, run_case


class Connection:
    """Stands for a socket: it answers while it is open."""

    def __init__(self, number: int, idle_since_s: float = 0.0) -> None:
        self.number = number
        self.idle_since_s = idle_since_s
        self.is_open = True

    def request(self, path: str) -> str:
        if not self.is_open:
            raise ConnectionError(f"connection {self.number} is closed")
        return f"{self.number}:{path}"

    def close(self) -> None:
        self.is_open = False


# 1. A connection comes back to a pool that was closed since the question was asked.


class ClosedPoolError(Exception):
    """The pool was closed before a connection could be had."""


class HostPool:
    """Keeps up to `max_idle` idle connections to one host; more are made when needed and closed when they return."""

    def __init__(self, max_idle: int = 2) -> None:
        self.made: list[Connection] = []
        self.answers: list[str] = []
        self._made_lock = threading.Lock()
        self._idle: queue.LifoQueue[Connection] | None = queue.LifoQueue(max_idle)

    def fetch(self, path: str) -> str:
        connection = self._get()
        try:
            answer = connection.request(path)
        finally:
            self._put(connection)
        self.answers.append(answer)
        return answer

    def close(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            self._close_all(idle)

    def _get(self) -> Connection:
        idle = self._idle
        if idle is None:
            raise ClosedPoolError("the pool is closed")
        try:
            connection = idle.get_nowait()
        except queue.Empty:
            return self._make()
        if not connection.is_open:
            return self._make()
        return connection

    def _make(self) -> Connection:
        with self._made_lock:
            connection = Connection(len(self.made))
            self.made.append(connection)
        return connection

    def _put(self, connection: Connection) -> None:
        idle = self._idle
        if idle is not None:
            try:
                idle.put_nowait(connection)
                return
            except queue.Full:
                pass
        connection.close()

    def _close_all(self, idle: queue.LifoQueue[Connection]) -> None:
        while True:
            try:
                connection = idle.get_nowait()
            except queue.Empty:
                return
            connection.close()


class HostPoolThatLooksAgain(HostPool):
    def _put(self, connection: Connection) -> None:
        idle = self._idle
        if idle is not None:
            try:
                idle.put_nowait(connection)
            except queue.Full:
                pass
            else:
                # close() forgets the queue before it empties it: one of the two sees the other.
                if self._idle is None:
                    self._close_all(idle)
                return
        connection.close()


def fetch_once(pool: HostPool) -> None:
    try:
        pool.fetch("/status")
    except ClosedPoolError:
        pool.answers.append("closed")


def close_host_pool(pool: HostPool) -> None:
    pool.close()


def nothing_leaks(pool: HostPool) -> None:
    assert len(pool.answers) == 1
    leaked = [connection.number for connection in pool.made if connection.is_open]
    assert not leaked, f"still open after close(): {leaked}"


# 2. The last user of a shared file closes it after letting go of the lock that counted the users.


class LogFile:
    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: list[str] = []
        self.is_closed = False

    def write(self, line: str) -> None:
        if self.is_closed:
            raise ValueError(f"write to {self.path}, which is closed")
        self.lines.append(line)

    def close(self) -> None:
        self.is_closed = True


class SharedLog:
    """One file for all handlers of a path: opened for the first, closed with the last."""

    def __init__(self, path: str = "app.log") -> None:
        self.path = path
        self.opened: list[LogFile] = []
        self._lock = threading.Lock()
        self._users = 0
        self._file: LogFile | None = None

    def open(self) -> LogFile:
        with self._lock:
            if self._file is None:
                self._file = LogFile(self.path)
                self.opened.append(self._file)
            self._users += 1
            return self._file

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._close_file()

    def _close_file(self) -> None:
        log_file, self._file = self._file, None
        if log_file is not None:
            log_file.close()


class SharedLogClosedUnderItsLock(SharedLog):
    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._close_file()


def log_a_line(log: SharedLog) -> None:
    log_file = log.open()
    try:
        log_file.write("started")
    finally:
        log.release()


def log_another_line(log: SharedLog) -> None:
    log_a_line(log)


def all_lines_are_written(log: SharedLog) -> None:
    assert sum(len(log_file.lines) for log_file in log.opened) == 2
    assert all(log_file.is_closed for log_file in log.opened)


# 3. The reaper closes what was idle when it looked, though it has been handed out since.


class KeepAlivePool:
    """Idle connections are reaped once they have been idle for `keep_s`. Time is a number that the owner moves."""

    def __init__(self, keep_s: float = 30.0) -> None:
        self.keep_s = keep_s
        self.now_s = 100.0
        self.reaped = 0
        self._lock = threading.Lock()
        self._made = 2
        self._idle = [Connection(0, idle_since_s=90.0), Connection(1, idle_since_s=10.0)]

    def check_out(self) -> Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            self._made += 1
            return Connection(self._made - 1, self.now_s)

    def check_in(self, connection: Connection) -> None:
        with self._lock:
            connection.idle_since_s = self.now_s
            self._idle.append(connection)

    def reap(self) -> None:
        for connection in self._stale():
            with self._lock:
                if connection in self._idle:
                    self._idle.remove(connection)
            connection.close()
            self.reaped += 1

    def idle(self) -> list[Connection]:
        with self._lock:
            return list(self._idle)

    def _stale(self) -> list[Connection]:
        oldest_s = self.now_s - self.keep_s
        return [connection for connection in self.idle() if connection.idle_since_s < oldest_s]


class KeepAlivePoolReapedByRemoval(KeepAlivePool):
    def reap(self) -> None:
        for connection in self._stale():
            with self._lock:
                if connection not in self._idle:
                    continue
                self._idle.remove(connection)
            connection.close()
            self.reaped += 1


def use_kept_connection(pool: KeepAlivePool) -> None:
    connection = pool.check_out()
    assert connection.request("/").endswith("/")
    pool.check_in(connection)


def reap_idle(pool: KeepAlivePool) -> None:
    pool.reap()


def what_is_idle_is_open(pool: KeepAlivePool) -> None:
    assert all(connection.is_open for connection in pool.idle())


# 4. One condition, two kinds of waiter, and a notify() that may wake the kind that passes nothing on.


class RecyclingPool:
    """`size` connections, taken and released; recycle() waits until all are in and replaces each."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.generation = 0
        self.uses = 0
        self._changed = threading.Condition()
        self._free = [Connection(number) for number in range(size)]

    def use(self, work: Callable[[Connection], object]) -> None:
        connection = self._take()
        try:
            work(connection)
        finally:
            self._release(connection)

    def recycle(self) -> None:
        with self._changed:
            while len(self._free) < self.size:
                self._changed.wait()
            self.generation += 1
            for connection in self._free:
                connection.close()
            first = self.generation * self.size
            self._free = [Connection(first + place) for place in range(self.size)]

    def _take(self) -> Connection:
        with self._changed:
            while not self._free:
                self._changed.wait()
            self.uses += 1
            return self._free.pop()

    def _release(self, connection: Connection) -> None:
        with self._changed:
            self._free.append(connection)
            self._changed.notify()


class RecyclingPoolThatWakesAll(RecyclingPool):
    def _release(self, connection: Connection) -> None:
        with self._changed:
            self._free.append(connection)
            self._changed.notify_all()


def ping(pool: RecyclingPool) -> None:
    pool.use(lambda connection: connection.request("/ping"))


def ping_too(pool: RecyclingPool) -> None:
    ping(pool)


def recycle(pool: RecyclingPool) -> None:
    pool.recycle()


def both_pinged(pool: RecyclingPool) -> None:
    assert (pool.uses, pool.generation) == (2, 1)


CASES: tuple[Case, ...] = (
    run_case(
        "pool_put_after_close",
        fetch_once,
        close_host_pool,
        buggy=HostPool,
        fixed=HostPoolThatLooksAgain,
        final=nothing_leaks,
        oracle="final",
        preemptions=1,
        source="urllib3: a connection put back while the pool is being closed is left open",
    ),
    run_case(
        "shared_file_closed_by_last_user",
        log_a_line,
        log_another_line,
        buggy=SharedLog,
        fixed=SharedLogClosedUnderItsLock,
        final=all_lines_are_written,
        oracle="exception",
        preemptions=2,
        source="shared log files and sqlite handles: count of users and close are not one step",
    ),
    run_case(
        "reaper_closes_connection_in_use",
        use_kept_connection,
        reap_idle,
        buggy=KeepAlivePool,
        fixed=KeepAlivePoolReapedByRemoval,
        final=what_is_idle_is_open,
        oracle="exception",
        preemptions=2,
        source="idle reapers of keep-alive and database pools: the list of stale connections is itself stale",
    ),
    run_case(
        "notify_wakes_the_wrong_kind",
        ping,
        ping_too,
        recycle,
        buggy=RecyclingPool,
        fixed=RecyclingPoolThatWakesAll,
        final=both_pinged,
        oracle="lost wakeup",
        preemptions=1,
        source="database pools with one condition for takers and for drain: notify() where notify_all() is due",
    ),
)
