"""How much of its waits a thread was not blocked: it computed in the calls, or was ready to run and had no core.

Known of every wait is what came after its releaser's post, or after a sleeper's time was over. What the kernel says
was asked around some waits only (native/looks.c), and counts for the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.classify import IO_OPS
from gilprobe.recording import Recording

Floats = NDArray[np.float64]


def not_blocked_s(recording: Recording) -> tuple[Floats, Floats]:
    """Seconds without a core, and of CPU, within each WAIT record; beside its spins, and never more than there was."""
    waits = recording.waits
    scale = _look_scales(recording)
    off_spin = np.maximum(0.0, waits["total_ns"].astype(float) - waits["spin_ns"])
    delay = np.clip(waits["wake_ns"] + scale * waits["looked_ns"], 0.0, off_spin)
    delay *= _possible(recording, delay)
    return delay / 1e9, np.minimum(scale * waits["cpu_ns"], off_spin - delay) / 1e9


def _look_scales(recording: Recording) -> Floats:
    """For each WAIT record: waits that might have been looked at for each that the looks of its thread stand for.

    Which are looked at is chance, and so is how many they stand for; of that part of the chance the sums are freed so
    (a ratio estimator: W. G. Cochran, Sampling Techniques, 1977). I/O and other waits are looked at apart.
    """
    waits = recording.waits
    io = np.isin(waits["op"], list(IO_OPS))
    groups, own = np.unique(2 * waits["thread"].astype(np.int64) + io, return_inverse=True)
    lookable = np.bincount(own, waits["lookable"], len(groups))
    looked = np.bincount(own, waits["looked"], len(groups))
    return np.divide(lookable, looked, out=np.ones(len(groups)), where=looked > 0)[own]


def _possible(recording: Recording, delay: Floats) -> Floats:
    """The share (0-1) of these that its thread can have been without a core at all, by the kernel's sum of that."""
    threads, own = np.unique(recording.waits["thread"], return_inverse=True)
    most = np.full(len(threads), np.inf)
    for at, number in enumerate(threads.tolist()):
        thread = recording.threads.get(number)
        if thread and thread["run_delay_read_ns"]:
            most[at] = max(0, thread["run_delay_ns"] - thread["start_run_delay_ns"])
    found = np.bincount(own, delay, len(threads))
    part: Floats = np.divide(most, found, out=np.ones(len(threads)), where=found > most)
    return part[own]
