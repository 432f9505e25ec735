"""idle.py CASE: threads that wait for work. None of it is contention."""

import asyncio
import multiprocessing
import os
import queue
import select
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from truth import Truth, together

truth = Truth()
PAUSE = 0.02
ROUNDS = 10


def condition():
    shared, done = threading.Condition(), []

    def waits():
        with shared:
            while not done:
                truth.timed("condition", shared.wait)

    def notifies():
        time.sleep(PAUSE * ROUNDS)
        with shared:
            done.append(True)
            shared.notify_all()

    together(waits, notifies)


def event():
    shared = threading.Event()
    together(lambda: truth.timed("condition", shared.wait), lambda: (time.sleep(PAUSE * ROUNDS), shared.set()))


def semaphore():
    shared = threading.Semaphore(0)

    def waits():
        for _ in range(ROUNDS):
            truth.timed("condition", shared.acquire)

    def posts():
        for _ in range(ROUNDS):
            time.sleep(PAUSE)
            shared.release()

    together(waits, posts)


def barrier():
    shared = threading.Barrier(2)

    def late():
        time.sleep(PAUSE * ROUNDS)
        shared.wait()

    together(lambda: truth.timed("condition", shared.wait), late)


def _feed(shared):
    for _ in range(ROUNDS):
        time.sleep(PAUSE)
        shared.put(1)
    shared.put(None)


def _drain(shared, kind):
    while truth.timed(kind, shared.get) is not None:
        pass


def queue_get():
    shared = queue.Queue()
    together(lambda: _drain(shared, "queue"), lambda: _feed(shared))


def simple_queue():
    shared = queue.SimpleQueue()
    together(lambda: _drain(shared, "queue"), lambda: _feed(shared))


def queue_put():
    shared = queue.Queue(1)

    def puts():
        for _ in range(ROUNDS):
            truth.timed("queue", shared.put, 1)
        truth.timed("queue", shared.put, None)

    def gets():
        while truth.timed("queue", shared.get) is not None:
            time.sleep(PAUSE)

    together(puts, gets)


def join():
    thread = threading.Thread(target=time.sleep, args=(PAUSE * ROUNDS,))
    thread.start()
    truth.timed("join", thread.join)


def executor():
    with ThreadPoolExecutor(4) as pool:
        for _ in range(ROUNDS):
            pool.submit(int)
            time.sleep(PAUSE)


def event_loop():
    async def run():
        await asyncio.gather(*[asyncio.to_thread(time.sleep, PAUSE) for _ in range(ROUNDS)])

    asyncio.run(run())


def processes():
    context = multiprocessing.get_context("fork")
    shared = context.Queue()
    child = context.Process(target=_feed, args=(shared,))
    child.start()
    _drain(shared, "other")  # a pipe: reading it is I/O
    child.join()


def sleep():
    together(*[lambda: truth.timed("sleep-io", time.sleep, PAUSE * ROUNDS)] * 2)


def pipe():
    reading, writing = os.pipe()

    def reads():
        while truth.timed("sleep-io", os.read, reading, 1) == b"1":
            pass

    def writes():
        for _ in range(ROUNDS):
            truth.timed("sleep-io", time.sleep, PAUSE)
            os.write(writing, b"1")
        os.write(writing, b"0")

    together(reads, writes)


def sockets():
    left, right = socket.socketpair()

    def reads():
        while truth.timed("sleep-io", left.recv, 1):
            pass

    def writes():
        for _ in range(ROUNDS):
            truth.timed("sleep-io", time.sleep, PAUSE)
            right.send(b"1")
        right.close()

    together(reads, writes)


def polling():
    reading, _writing = os.pipe()
    poll = select.poll()
    poll.register(reading, select.POLLIN)

    def polls():
        for _ in range(ROUNDS):
            truth.timed("sleep-io", poll.poll, 1000 * PAUSE)

    def selects():
        for _ in range(ROUNDS):
            truth.timed("sleep-io", select.select, [reading], [], [], PAUSE)

    together(polls, selects)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    truth.tell()
