"""permits.py CASE: threads that take a semaphore's permit, work, and give it back. By class they are idle meanwhile."""

import sys
import threading
import time

from truth import Truth, together

truth = Truth()
HOLD_S = 0.01
ROUNDS = 15
THREADS = 4


class Pool:
    def __init__(self, permits):
        self._free = threading.BoundedSemaphore(permits)

    def take(self):
        self._free.acquire()

    def give_back(self):
        self._free.release()


def _works(permits):
    for _ in range(ROUNDS):
        with permits:
            time.sleep(HOLD_S)


def _borrows(pool):
    for _ in range(ROUNDS):
        truth.timed("condition", pool.take)
        time.sleep(HOLD_S)
        pool.give_back()


def limit():
    shared = threading.Semaphore(2)
    together(*[lambda: _works(shared)] * THREADS)


def limit_local():
    together(*[lambda: _works(threading.Semaphore(2))] * THREADS)


def pool():
    shared = Pool(2)
    together(*[lambda: _borrows(shared)] * THREADS)


def pool_local():
    together(*[lambda: _borrows(Pool(2))] * THREADS)


def ring():
    """Each wakes the next: whoever waits, waits for its turn."""
    turns = [threading.Semaphore(int(number == 0)) for number in range(THREADS)]

    def body(mine, following):
        for _ in range(ROUNDS):
            mine.acquire()
            time.sleep(HOLD_S)
            following.release()

    together(*[lambda n=n: body(turns[n], turns[(n + 1) % THREADS]) for n in range(THREADS)])


class Player:
    def __init__(self):
        self.turn = threading.Semaphore(0)

    def plays(self, other):
        for _ in range(ROUNDS):
            self.turn.acquire()
            time.sleep(HOLD_S)
            other.turn.release()


def turns():
    """A ring of objects, each with a semaphore of the same name."""
    players = [Player() for _ in range(THREADS)]
    players[0].turn.release()
    together(*[lambda n=n: players[n].plays(players[(n + 1) % THREADS]) for n in range(THREADS)])


def lambdas():
    shared = threading.Semaphore(0)
    together(
        lambda: [shared.acquire() for _ in range(ROUNDS)],
        lambda: [(time.sleep(HOLD_S), shared.release()) for _ in range(ROUNDS)],
    )


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    truth.tell()
