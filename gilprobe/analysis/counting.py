"""What functions that do little else than count a hot object spend beside its cache line.

CPython's `_Py_DecRefShared` has instructions around its atomic one that are paid for the same reason: an object that is
not shared, or not counted, is spared all of them. How near the share of a hot object then comes to what freezing it
saves: reports/accuracy, "predicted against proven gain".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.code_ranges import code_file
from gilprobe.recording import Image

# The interpreter's loop and what else does many things are longer, or have less of their samples on one object.
MOST_BYTES = 1024
LEAST_ON_LINES = 0.8

Indices = NDArray[np.int64]


def short_functions(images: Iterable[Image], pcs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of each program counter the address of the function it is in; 0 where that is long or not known."""
    functions = np.zeros(len(pcs), np.uint64)
    for image in set(images):
        file = code_file(image.path)
        if file is None:
            continue
        for at in np.flatnonzero((pcs >= image.start) & (pcs < image.end)):
            start = file.function_start(int(pcs[at]) - image.bias)
            end = file.function_end(start) if start is not None else None
            if start is not None and end is not None and end - start <= MOST_BYTES:
                functions[at] = start + image.bias
    return functions


def with_rest_of_functions(
    stacks: NDArray[np.uint32],
    pc_of: Indices,
    functions: NDArray[np.uint64],
    touching: Indices,
    lines: Sequence[Indices],
) -> list[Indices]:
    """`lines`, the samples on each shared line, with those beside them that belong to it.

    stacks, pc_of: of each sample its Python position, and its place in `functions`. touching: the samples whose address
    is known, which belong nowhere else. Of a function at least four fifths of whose samples are on the lines, each
    other sample is given to the line that is most frequent at its Python position.
    """
    line_of = np.full(len(stacks), -1)
    for number, indices in enumerate(lines):
        line_of[indices] = number
    free = line_of < 0
    free[touching] = False
    all_samples, on_lines = (np.bincount(pcs, minlength=len(functions)) for pcs in (pc_of, pc_of[line_of >= 0]))
    for function in np.unique(functions[(functions > 0) & (on_lines > 0)]):
        here = functions == function
        if on_lines[here].sum() >= LEAST_ON_LINES * all_samples[here].sum():
            inside = np.flatnonzero(here[pc_of])
            on_line, rest = inside[line_of[inside] >= 0], inside[free[inside]]
            line_of[rest] = _most_frequent(stacks[on_line], line_of[on_line], stacks[rest])
    order = np.argsort(line_of, kind="stable")
    return np.split(order, np.searchsorted(line_of[order], np.arange(len(lines))))[1:]


def _most_frequent(stacks: NDArray[np.uint32], lines: Indices, asked: NDArray[np.uint32]) -> Indices:
    """For each stack of `asked` the line it goes with most often in `stacks` and `lines`; any stack's where it is in
    none."""
    met, row_of = np.unique(lines, return_inverse=True)
    known, place_of = np.unique(stacks, return_inverse=True)
    counts = np.bincount(place_of * len(met) + row_of, minlength=len(known) * len(met)).reshape(len(known), len(met))
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found: Indices = np.where(
        known[place] == asked, met[counts.argmax(axis=1)[place]], met[counts.sum(axis=0).argmax()]
    )
    return found
