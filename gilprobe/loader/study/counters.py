"""What the kernel counted for a set of processes, from /proc."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Counters:
    """Sums over all threads: CPU seconds, page faults and context switches, since each process began."""

    cpu_s: float
    page_faults: int
    voluntary_switches: int
    involuntary_switches: int

    def since(self, before: Counters) -> dict[str, float]:
        return {
            "cpu_s": self.cpu_s - before.cpu_s,
            "page_faults": self.page_faults - before.page_faults,
            "voluntary_switches": self.voluntary_switches - before.voluntary_switches,
            "involuntary_switches": self.involuntary_switches - before.involuntary_switches,
        }


def counters(pids: Iterable[int]) -> Counters:
    cpu_ns = faults = voluntary = involuntary = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # schedstat counts nanoseconds; stat's utime counts ticks of 10 ms.
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            faults += int(fields[7]) + int(fields[9])
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt"):
                    voluntary += int(line.split()[1])
                elif line.startswith("nonvoluntary_ctxt"):
                    involuntary += int(line.split()[1])
    return Counters(cpu_ns / 1e9, faults, voluntary, involuntary)


def memory_mb(pids: Iterable[int]) -> tuple[float, float]:
    """(PSS, RSS) of the processes together, in MB of 10^6 bytes. Pages that they share count once in the PSS."""
    pss = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif line.startswith("Rss:"):
                rss += int(line.split()[1])
    return pss * 1024 / 1e6, rss * 1024 / 1e6
