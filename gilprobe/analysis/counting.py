"""What functions that do little else than count a hot object spend beside its cache line.

CPython's `_Py_DecRefShared` has instructions around its atomic one that are paid for the same reason: an object that is
not shared, or not counted, is spared all of them. How near the share of a hot object then comes to what freezing it
saves: reports/accuracy, "predicted against proven gain".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.code_ranges import code_file
from gilprobe.recording import Recording

# The interpreter's loop and what else does many things are longer, or have less of their samples on one object.
MOST_BYTES = 1024
LEAST_ON_LINES = 0.8

Indices = NDArray[np.int64]


def short_functions(recording: Recording) -> NDArray[np.uint64]:
    """Of each sample the address of the function it is in; 0 where that is long or not known."""
    pcs, inverse = np.unique(recording.samples["pc"], return_inverse=True)
    functions = np.zeros(len(pcs), np.uint64)
    for image in set(recording.images):
        file = code_file(image.path)
        if file is None:
            continue
        for at in np.flatnonzero((pcs >= image.start) & (pcs < image.end)):
            start = file.function_start(int(pcs[at]) - image.bias)
            end = file.function_end(start) if start is not None else None
            if start is not None and end is not None and end - start <= MOST_BYTES:
                functions[at] = start + image.bias
    return functions[inverse]


def with_rest_of_functions(
    samples: NDArray[Any], functions: NDArray[np.uint64], touching: Indices, lines: Sequence[Indices]
) -> list[Indices]:
    """`lines`, the samples on each shared line, with those beside them that belong to it.

    touching: the samples whose address is known, which belong nowhere else. Of a function at least four fifths of whose
    samples are on the lines, each other sample is given to the line that is most frequent at its Python position.
    """
    line_of = np.full(len(samples), -1)
    for number, indices in enumerate(lines):
        line_of[indices] = number
    free = line_of < 0
    free[touching] = False
    stacks = samples["stack_id"]
    for function in np.unique(functions[(line_of >= 0) & (functions > 0)]):
        inside = np.flatnonzero(functions == function)
        on_lines = inside[line_of[inside] >= 0]
        if len(on_lines) >= LEAST_ON_LINES * len(inside):
            rest = inside[free[inside]]
            line_of[rest] = _most_frequent(stacks[on_lines], line_of[on_lines], stacks[rest])
    order = np.argsort(line_of, kind="stable")
    return np.split(order, np.searchsorted(line_of[order], np.arange(len(lines))))[1:]


def _most_frequent(stacks: NDArray[np.uint32], lines: Indices, asked: NDArray[np.uint32]) -> Indices:
    """For each stack of `asked` the line it goes with most often in `stacks` and `lines`; any stack's where it is in
    none."""
    pairs, counts = np.unique(np.stack([stacks.astype(np.int64), lines]), axis=1, return_counts=True)
    rising = np.lexsort((counts, pairs[0]))
    known, first_from_behind = np.unique(pairs[0][rising][::-1], return_index=True)
    winners = pairs[1][rising][::-1][first_from_behind]
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, winners[at], np.bincount(lines).argmax())
