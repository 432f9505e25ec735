"""hot.py CASE THREADS SECONDS: one object that all threads load, or (CASE_local) one each. Prints CPU ns an operation.

0 threads: the main thread alone, whose own object it is, so that nothing is counted by atomics.

Each body repeats its load, so that the loads weigh more than the loop around them.
"""

import sys
import time

from truth import Truth, together

truth = Truth()
case, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
done = []
timelines = []


class Element:
    def method(self):
        return None


class Config:
    def __init__(self):
        self.value = Element()


def repeat(body):
    end, operations, start = time.thread_time() + seconds, 0, time.thread_time()
    passes = []
    while time.thread_time() < end:
        body(2000)
        operations += 8000
        if len(sys.argv) > 4:
            passes.append((time.monotonic_ns(), time.thread_time_ns()))
    timelines.append(passes)
    done.append((operations, time.thread_time() - start))


def list_element(shared):
    def body(rounds):
        own = shared
        for _ in range(rounds):
            x = own[0]
            x = own[0]
            x = own[0]
            x = own[0]  # noqa: F841

    return body


def attribute(shared):
    def body(rounds):
        own = shared
        for _ in range(rounds):
            x = own.value
            x = own.value
            x = own.value
            x = own.value  # noqa: F841

    return body


tuple_element = list_element


def dict_value(shared):
    def body(rounds):
        own = shared
        for _ in range(rounds):
            x = own["a"]
            x = own["a"]
            x = own["a"]
            x = own["a"]  # noqa: F841

    return body


def closure_cell(shared):
    def body(rounds):
        for _ in range(rounds):
            x = shared
            x = shared
            x = shared
            x = shared  # noqa: F841

    return body


settings = Element()


def module_global(shared):
    if shared is None:

        def body(rounds):
            own = Element()
            for _ in range(rounds):
                x = own
                x = own
                x = own
                x = own  # noqa: F841

        return body

    def body(rounds):
        for _ in range(rounds):
            x = settings
            x = settings
            x = settings
            x = settings  # noqa: F841

    return body


def bound_method(shared):
    def body(rounds):
        own = shared
        for _ in range(rounds):
            own()
            own()
            own()
            own()

    return body


# What threads share, and which types should be named hottest.
MAKERS = {
    "list_element": (lambda: [Element()], ["Element", "list"]),
    "attribute": (Config, ["Element", "Config"]),
    "tuple_element": (lambda: (Element(),), ["Element", "tuple"]),
    "dict_value": (lambda: {"a": Element()}, ["Element", "dict"]),
    "closure_cell": (Element, ["Element", "cell"]),
    "module_global": (lambda: settings, ["Element"]),
    "bound_method": (lambda: Element().method, ["method", "Element", "function"]),
}
SHARED, ELEMENT = "shared in {} (closure variable)", "own[0] in {} (element of closure variable shared)"
# What each should be called; {} is the function.
NAMES = {
    "list_element": {"Element": ELEMENT, "list": SHARED},
    "attribute": {"Element": "own.value in {} (attribute of closure variable shared)", "Config": SHARED},
    "tuple_element": {"Element": ELEMENT, "tuple": SHARED},
    "dict_value": {"Element": "own['a'] in {} (element of closure variable shared)", "dict": SHARED},
    "closure_cell": {"Element": SHARED, "cell": SHARED},
    "module_global": {"Element": "settings in {} (module global)"},
    "bound_method": {"Element": "shared.__self__ in {} (what the bound method is bound to)", "method": SHARED},
}
name = case.removesuffix("_local")
make, types = MAKERS[name]
shared = make()


def thread_body():
    local = case.endswith("_local")
    thing = (None if name == "module_global" else make()) if local else shared
    repeat(globals()[name](thing))


if threads:
    together(*[thread_body] * threads)
else:
    thread_body()
truth.facts["types"] = types
truth.facts["line_function"] = f"{name}.<locals>.body" if name != "tuple_element" else "list_element.<locals>.body"
truth.facts["names"] = {kind: text.format(truth.facts["line_function"]) for kind, text in NAMES[name].items()}
truth.facts["cpu_ns"] = sum(spent for _, spent in done) / sum(count for count, _ in done) * 1e9
if len(sys.argv) > 4:  # where the operations were at which time: 8000 a line
    with open(sys.argv[4], "w") as file:
        for thread, passes in enumerate(timelines):
            file.writelines(f"{thread} {wall_ns} {cpu_ns}\n" for wall_ns, cpu_ns in passes)
truth.tell()
