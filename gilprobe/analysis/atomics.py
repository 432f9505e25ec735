"""Hot objects: whose cache line do threads fight over?

The share of samples at atomic instructions does not tell contended from uncontended; the stall moves to plain loads of
the same line. What tells: cache lines that two or more threads touch, of whose samples at least 5 % are atomic
(measured in reports/accuracy). Loads inherit the object from the line's atomic samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.code_ranges import code_file
from gilprobe.analysis.contention import thread_name
from gilprobe.analysis.counting import short_functions, with_rest_of_functions
from gilprobe.analysis.frames import Site, Stacks
from gilprobe.analysis.object_names import ObjectName, name_object, self_of
from gilprobe.analysis.x86_64 import REPLACED, Decoder, MemoryOperand
from gilprobe.model import Evidence, Frame, HotObject, Thread
from gilprobe.recording import Image, Recording

LINE_BITS = 6
LEAST_ATOMICS = 3
LEAST_ATOMIC_SHARE = 0.05
LEAST_SAMPLES_A_THREAD = 2
LEAST_SHARE = 0.005
DRAWS = 2000
UNKNOWN_TYPE = "unknown object"

UInts = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Touches:
    """One row a sample that touched memory: its index into the samples, the line, and whether it was atomic."""

    sample: NDArray[np.int64]
    line: UInts
    atomic: NDArray[np.bool_]


def hot_objects_of(
    recordings: Sequence[Recording],
) -> tuple[tuple[HotObject, ...], dict[tuple[int, int], float], dict[tuple[int, int], tuple[int, int]]]:
    """The hot objects by falling share of CPU samples; (pid, tid) -> share (0-1) of a thread's samples on them;
    (pid, span id) -> samples on them and all samples, inner spans not included.

    Raises ImportError where capstone or pyelftools is missing.
    """
    hot: list[HotObject] = []
    stalls: dict[tuple[int, int], float] = {}
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    total = sum(len(recording.samples) for recording in recordings)
    for recording in recordings:
        if recording.free_threaded:
            objects, on_shared = _of_process(recording, total)
            hot += objects
            stalls |= _thread_shares(recording, on_shared)
            spans |= _span_samples(recording, on_shared)
    return tuple(sorted(hot, key=lambda h: -h.share)), stalls, spans


def with_stalls(threads: Sequence[Thread], stalls: dict[tuple[int, int], float]) -> list[Thread]:
    return [
        replace(
            thread, atomic_stall_s=max(0.0, thread.cpu_s - thread.spin_s) * stalls.get((thread.pid, thread.tid), 0.0)
        )
        for thread in threads
    ]


def shared_lines(samples: NDArray[Any], touches: Touches) -> list[NDArray[np.int64]]:
    """Rows of `touches`, one array for each cache line that at least two threads touch with atomics."""
    if not len(touches.line):
        return []
    order = np.argsort(touches.line, kind="stable")
    edges = np.flatnonzero(np.diff(touches.line[order])) + 1
    shared = []
    for rows in np.split(order, edges):
        if len(rows) < 2 * LEAST_SAMPLES_A_THREAD:
            continue
        atomics = int(touches.atomic[rows].sum())
        if atomics < max(LEAST_ATOMICS, LEAST_ATOMIC_SHARE * len(rows)):
            continue
        _, counts = np.unique(samples["thread"][touches.sample[rows]], return_counts=True)
        if (counts >= LEAST_SAMPLES_A_THREAD).sum() >= 2:
            shared.append(rows)
    return shared


def _of_process(recording: Recording, total: int) -> tuple[list[HotObject], list[NDArray[np.int64]]]:
    """The objects, and the indices of the samples on each shared line."""
    samples = recording.samples
    pcs, pc_of = np.unique(samples["pc"], return_inverse=True)
    touches = _touches(recording, pcs, pc_of)
    by_object: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    stacks = Stacks(recording)
    lines = shared_lines(samples, touches)
    on_shared = [touches.sample[rows] for rows in lines]
    if lines:
        on_shared = with_rest_of_functions(
            samples["stack_id"], pc_of, short_functions(recording.images, pcs), touches.sample, on_shared
        )
    for rows, indices in zip(lines, on_shared, strict=True):
        object_address, type_id = _object_on_line(samples[touches.sample[rows][touches.atomic[rows]]])
        by_object.setdefault((object_address or int(touches.line[rows[0]]) << LINE_BITS, type_id), []).append(indices)
    hot: list[HotObject] = []
    names: list[ObjectName | None] = []
    rng = np.random.default_rng(0)
    for (address, type_id), parts in by_object.items():
        indices = np.concatenate(parts)
        share = len(indices) / total
        if share < LEAST_SHARE:
            continue
        draws = rng.binomial(total, share, DRAWS) / total
        sites = _sites(stacks, samples["stack_id"][indices])
        frames = _by_frame(sites)
        object_type = recording.types.get(type_id, "")
        names.append(name_object(object_type, sites))
        hot.append(
            HotObject(
                object_type=object_type or UNKNOWN_TYPE,
                name=f"{object_type or 'object'} at {address:#x}",
                share=share,
                interval=(float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5))),
                threads=tuple(thread_name(recording, int(thread)) for thread in np.unique(samples["thread"][indices])),
                site=tuple(frame for frame, _ in frames[:6]),
                evidence=Evidence.ESTIMATED,
                address=address,
                sites=frames[:12],
            )
        )
    return _with_names(hot, names), on_shared


def _with_names(hot: list[HotObject], names: list[ObjectName | None]) -> list[HotObject]:
    methods = [name for item, name in zip(hot, names, strict=True) if name and item.object_type == "method"]
    named = []
    for item, name in zip(hot, names, strict=True):
        for method in methods:
            name = self_of(method, name) if name else None
        named.append(replace(item, name=str(name), kind=name.kind) if name else item)
    return named


def unreadable_code(recording: Recording) -> dict[str, int]:
    """Path -> number of samples in files with code that are gone, or are not ELF files that can be read."""
    pcs = recording.samples["pc"]
    counts: dict[str, int] = {}
    for image in recording.images:
        inside = int(((pcs >= image.start) & (pcs < image.end)).sum())
        if inside and code_file(image.path) is None:
            counts[image.path] = counts.get(image.path, 0) + inside
    return counts


def _thread_shares(recording: Recording, on_shared: list[NDArray[np.int64]]) -> dict[tuple[int, int], float]:
    samples = recording.samples
    all_threads, all_counts = np.unique(samples["thread"], return_counts=True)
    if not on_shared:
        return {}
    threads, counts = np.unique(samples["thread"][np.concatenate(on_shared)], return_counts=True)
    totals = dict(zip(all_threads.tolist(), all_counts.tolist(), strict=True))
    pid = recording.header["pid"]
    return {
        (pid, recording.threads[thread]["tid"]): count / totals[thread]
        for thread, count in zip(threads.tolist(), counts.tolist(), strict=True)
        if thread in recording.threads
    }


def _span_samples(recording: Recording, on_shared: list[NDArray[np.int64]]) -> dict[tuple[int, int], tuple[int, int]]:
    in_span = recording.samples["span_id"]
    ids, counts = np.unique(in_span[in_span > 0], return_counts=True)
    shared = in_span[np.concatenate(on_shared)] if on_shared else in_span[:0]
    pid = recording.header["pid"]
    return {
        (pid, span): (int((shared == span).sum()), count)
        for span, count in zip(ids.tolist(), counts.tolist(), strict=True)
    }


def _object_on_line(atomics: NDArray[Any]) -> tuple[int, int]:
    """(address, type id) of the object most of the line's atomic samples touched; (0, 0) if none was recognised."""
    known = atomics[atomics["type_id"] > 0]
    if not len(known):
        return 0, 0
    objects, counts = np.unique(known["object"], return_counts=True)
    winner = objects[np.argmax(counts)]
    return int(winner), int(known["type_id"][known["object"] == winner][0])


def _touches(recording: Recording, pcs: UInts, pc_of: NDArray[np.int64]) -> Touches:
    """pcs: all that were sampled; pc_of: each sample's place in it."""
    samples = recording.samples
    decoder = Decoder()
    order = np.argsort(pc_of, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(pc_of, minlength=len(pcs)))[:-1])
    indices, lines, atomics = [], [], []
    images = sorted({(image.start, image) for image in recording.images}, key=lambda pair: pair[0])
    for pc, group in zip(pcs.tolist(), groups, strict=True):
        found = _operand_at(decoder, images, pc)
        if found is None:
            continue
        operand, bias = found
        if operand.base == REPLACED:
            group = group[(samples["base"][group] != 0) & (samples["base_back"][group] == operand.back)]
        address = _effective_address(samples[group], operand, bias)
        indices.append(group)
        lines.append(address >> np.uint64(LINE_BITS))
        atomics.append(np.full(len(group), operand.atomic))
    if not indices:
        return Touches(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.bool_))
    return Touches(np.concatenate(indices), np.concatenate(lines), np.concatenate(atomics))


def _operand_at(decoder: Decoder, images: list[tuple[int, Image]], pc: int) -> tuple[MemoryOperand, int] | None:
    for start, image in images:
        if start <= pc < image.end:
            file = code_file(image.path)
            operand = decoder.operand_before(file, pc - image.bias) if file else None
            return (operand, image.bias) if operand else None
    return None


def _effective_address(samples: NDArray[Any], operand: MemoryOperand, bias: int) -> UInts:
    """One address a sample; arithmetic modulo 2^64, as the processor's."""
    constant = operand.displacement + (bias if operand.absolute else 0)
    registers: UInts = samples["registers"]
    address: UInts = np.full(len(samples), np.uint64(constant % 2**64))
    with np.errstate(over="ignore"):
        if operand.base == REPLACED:
            address = address + samples["base"].astype(np.uint64)
        elif operand.base >= 0:
            address = address + registers[:, operand.base]
        if operand.index >= 0:
            address = address + registers[:, operand.index] * np.uint64(operand.scale)
    return address


def _sites(stacks: Stacks, stack_ids: NDArray[np.uint32]) -> list[tuple[Site, float]]:
    """Innermost Python positions by falling share (0-1) of the samples."""
    ids, counts = np.unique(stack_ids, return_counts=True)
    weights: dict[Site, float] = {}
    for stack_id, count in zip(ids.tolist(), counts.tolist(), strict=True):
        sites = stacks.sites(stack_id)
        if sites:
            weights[sites[0]] = weights.get(sites[0], 0.0) + count / len(stack_ids)
    return sorted(weights.items(), key=lambda item: -item[1])


def _by_frame(sites: list[tuple[Site, float]]) -> tuple[tuple[Frame, float], ...]:
    """Several expressions of one line are one line."""
    weights: dict[Frame, float] = {}
    for site, weight in sites:
        weights[site.frame] = weights.get(site.frame, 0.0) + weight
    return tuple(sorted(weights.items(), key=lambda item: -item[1]))
