"""orders.py CASE: a program that never hangs. wrong_*: threads that met would deadlock; right_*: they would not.

Threads run one after the other, so that no wrong order ever hangs.
"""

import contextlib
import queue
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor


def in_turn(*bodies):
    for body in bodies:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()


def nested(*locks):
    def body():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)

    return body


class Account:
    def __init__(self):
        self.lock = threading.Lock()
        self.balance = 100


class Bank:
    def __init__(self):
        self.lock = threading.RLock()
        self.accounts = [Account() for _ in range(3)]


def transfer(source, target):
    with source.lock:
        with target.lock:
            source.balance -= 1
            target.balance += 1


def ordered_transfer(source, target):
    first, second = sorted((source, target), key=id)
    with first.lock, second.lock:
        source.balance -= 1
        target.balance += 1


def wrong_abba():
    a, b = threading.Lock(), threading.Lock()
    in_turn(nested(a, b), nested(b, a))


def wrong_rlock():
    a, b = threading.RLock(), threading.Lock()
    in_turn(nested(a, b), nested(b, a))


def wrong_three():
    a, b, c = (threading.Lock() for _ in range(3))
    in_turn(nested(a, b), nested(b, c), nested(c, a))


def wrong_accounts():
    one, two = Account(), Account()
    in_turn(lambda: transfer(one, two), lambda: transfer(two, one))


def wrong_by_class():
    """Never the same account, but any account could be the one."""
    bank = Bank()

    def deposit():
        with bank.accounts[0].lock:
            with bank.lock:
                pass

    def audit():
        with bank.lock:
            with bank.accounts[1].lock:
                pass

    in_turn(deposit, audit)


def wrong_condition():
    lock, condition = threading.Lock(), threading.Condition()

    def notifier():
        with condition:
            with lock:
                condition.notify()

    in_turn(nested(lock, condition), notifier)


def wrong_acquire_release():
    a, b = threading.Lock(), threading.Lock()

    def by_hand():
        b.acquire()
        a.acquire()
        b.release()
        a.release()

    in_turn(nested(a, b), by_hand)


def wrong_gates_differ():
    a, b, one, two = (threading.Lock() for _ in range(4))
    in_turn(nested(one, a, b), nested(two, b, a))


def wrong_gate_missing_once():
    """The outer lock that protects the order is taken by all but one."""
    gate, a, b = (threading.Lock() for _ in range(3))
    in_turn(nested(gate, a, b), nested(gate, b, a), nested(a, b))


def wrong_pool():
    a, b = threading.Lock(), threading.Lock()
    started = threading.Barrier(2)
    turn = threading.Event()

    def first():
        started.wait()
        nested(a, b)()
        turn.set()

    def second():
        started.wait()
        turn.wait()
        nested(b, a)()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda body: body(), (first, second)))


def right_one_order():
    a, b, c = (threading.Lock() for _ in range(3))
    in_turn(nested(a, b), nested(b, c), nested(a, c), nested(a, b, c))


def right_gate():
    gate, a, b = (threading.Lock() for _ in range(3))
    in_turn(nested(gate, a, b), nested(gate, b, a))


def right_try():
    """Takes what it can, and gives all back when it cannot."""
    a, b = threading.Lock(), threading.Lock()

    def backs_off():
        with b:
            if a.acquire(timeout=0.01):
                a.release()

    in_turn(nested(a, b), backs_off)


def right_try_at_once():
    a, b = threading.Lock(), threading.Lock()

    def backs_off():
        with b:
            if a.acquire(blocking=False):
                a.release()

    in_turn(nested(a, b), backs_off)


def right_reentry():
    a, b = threading.RLock(), threading.Lock()

    def enters_again():
        with a:
            with b:
                with a:
                    pass

    in_turn(nested(a, b), enters_again)


def right_sorted_accounts():
    accounts = [Account() for _ in range(5)]
    in_turn(
        *(lambda one=one, two=two: ordered_transfer(one, two) for one in accounts for two in accounts if one is not two)
    )


def right_alone():
    """One thread alone cannot meet itself."""
    a, b = threading.Lock(), threading.Lock()
    nested(a, b)()
    nested(b, a)()


def right_not_nested():
    a, b = threading.Lock(), threading.Lock()

    def one_after_the_other():
        with b:
            pass
        with a:
            pass

    in_turn(nested(a, b), one_after_the_other)


def right_own_pairs():
    """Each thread has locks of its own, made at the same places."""

    def pair():
        return threading.Lock(), threading.RLock()

    def one():
        a, b = pair()
        nested(a, b)()

    def two():
        a, b = pair()
        nested(b, a)()

    in_turn(one, two)


def right_queues():
    lock, items, done = threading.Lock(), queue.Queue(), threading.Event()

    def producer():
        for number in range(100):
            with lock:
                items.put(number)
        done.set()

    def consumer():
        done.wait()
        for _ in range(100):
            items.get()
            with lock:
                items.task_done()

    in_turn(producer, consumer)


def alike():
    """Locks whose address and number, counted from the process's first lock, are alike when added without carry. How
    many were made before these is not known, so many numbers are tried; no lock is used twice."""
    earlier = [threading.Lock() for _ in range(12000)]
    random.Random(1).shuffle(earlier)
    del earlier[6000:]  # so that the addresses of the next ones do not follow their numbers
    locks = [threading.Lock() for _ in range(6000)]
    unused = set(range(len(locks)))
    for first in range(12001, 12150):
        seen, pairs = {}, []
        for number in unused:
            alike = id(locks[number]) ^ (first + number)
            if alike in seen:
                pairs.append((seen.pop(alike), number))
            else:
                seen[alike] = number
        if len(pairs) < 2:
            continue
        (a, other_a), (b, other_b) = pairs[:2]
        unused -= {a, other_a, b, other_b}
        in_turn(nested(locks[a], locks[b]), nested(locks[other_b], locks[other_a]))
    print(len(locks) - len(unused))


globals()[sys.argv[1]]()
