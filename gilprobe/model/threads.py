"""Processes, their threads, and the parts of a thread's life that the program named."""

from __future__ import annotations

from dataclasses import dataclass

from gilprobe.model.waits import OpenWait


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread's life. wall_s = cpu_s + runnable_s + stolen_s + waits + idle + sleep_io_s, up to unaccounted_s."""

    name: str
    tid: int
    pid: int
    wall_s: float
    cpu_s: float
    runnable_s: float
    wait_s: dict[str, float]
    idle_s: dict[str, float]
    sleep_io_s: float
    gil_held_s: float
    unaccounted_s: float
    atomic_stall_s: float = 0.0
    spin_s: float = 0.0
    wake_delay_s: float = 0.0
    start_s: float = 0.0
    ended: bool = True
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    open_wait: OpenWait | None = None
    gc_s: float = 0.0  # within cpu_s: estimated from the samples that fell in a garbage collection
    gc_samples: int = 0
    stolen_s: float = 0.0  # by the hypervisor, while it ran: estimated

    @property
    def wanted_s(self) -> float:
        """When it had something to do: neither idle nor in sleep or I/O. What shares of the time are of.

        Never less than it is known to have had: what the hooks took for idling may in part have been run delay.
        """
        known_s = self.cpu_s + self.runnable_s + self.stolen_s + sum(self.wait_s.values())
        return max(self.wall_s - sum(self.idle_s.values()) - self.sleep_io_s, min(known_s, self.wall_s))


@dataclass(frozen=True, slots=True)
class Span:
    """All spans of one name (gilprobe.span) in one thread, inner spans included.

    wall_s = cpu_s + runnable_s + waits + idle + sleep_io_s, up to what the kernel's figures and the hooks' differ in.
    shares: of wall_s (0-1), by kind of wait, and "atomic-stall". inside: names of the spans around it, outermost first.
    """

    name: str
    thread: str
    tid: int
    pid: int
    count: int
    wall_s: float
    max_s: float
    cpu_s: float
    runnable_s: float
    wait_s: dict[str, float]
    idle_s: dict[str, float]
    sleep_io_s: float
    spin_s: float
    wake_delay_s: float
    atomic_stall_s: float
    shares: dict[str, float]
    histogram: tuple[int, ...]
    first_s: float
    last_s: float
    faults: int = 0
    inside: tuple[str, ...] = ()
    open: bool = False

    @property
    def title(self) -> str:
        return self.name if self.count <= 1 else f"{self.name} ({self.count} times, first to last)"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent_pid: int
    python: str
    free_threaded: bool
    gil_enabled: bool | None
    argv: tuple[str, ...]
    wall_s: float
    end: str
    lost_records: int = 0
    python_stacks: bool = True
