"""The recording's layout as numpy dtypes and enums: the twin of native/format.h, which explains every field."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

MAGIC = b"gilprobe"
FORMAT_VERSION = 4
HEADER_BYTES = 4096
EXTENT_MAGIC = 0x58455047
CHUNK_MAGIC = 0x48435047
HISTOGRAM_BUCKETS = 40
NAME_BYTES = 96


class ChunkKind(IntEnum):
    RECORDS = 1
    EVENTS = 2
    SAMPLES = 3
    SPANS = 4
    GPU_WORK = 8
    GPU_MARKS = 9
    HOLDS = 12


class RecordType(IntEnum):
    META = 1
    IMAGE = 2
    CODE = 3
    STACK = 4
    TYPE = 5
    THREAD = 6
    WAIT = 7
    SPAN = 8
    DEADLOCK = 16
    STALL = 17
    INVERSION = 18
    WATCH_STATE = 21
    LOCK_HOLD = 22
    FREEZE = 24
    STOP = 25
    PROGRESS = 26
    LONG_HOLD = 28
    CUDA_STATE = 32
    CUDA_CONTEXT = 33
    CUDA_USE = 34
    CUDA_RAW = 35


class FreezeResult(IntEnum):
    WAITING = 0
    DONE = 1
    GONE = 2
    WAS_IMMORTAL = 3
    QUEUED = 4
    DEFERRED = 5


class Op(IntEnum):
    SEM = 1
    COND = 2
    MUTEX = 3
    RWLOCK = 4
    FUTEX = 5
    JOIN = 6
    YIELD = 7
    SLEEP = 8
    POLL = 9
    READ = 10
    WRITE = 11
    SYNC = 12
    CHILD = 13
    SIGNAL = 14
    OTHER = 15


class Subject(IntEnum):
    UNKNOWN = 0
    GIL = 1
    SEMAPHORE = 2
    OBJECT = 3
    LOCK_OBJECT = 4
    THREAD_STATE = 5
    STOP_THE_WORLD = 6
    RUNTIME = 7
    IMAGE = 8
    HEAP = 9


class WaitFlag(IntFlag):
    TIMED_OUT = 1
    TIMED = 2
    ADDRESSES = 4
    FORCED = 8
    OVERFLOW = 16


class SampleFlag(IntFlag):
    COLLECTING = 1
    HELD = 2


class CounterFlag(IntFlag):
    TRIED = 1
    UNKNOWN = 2


class SpanFlag(IntFlag):
    OVERFLOW = 1


class LockHoldFlag(IntFlag):
    OVERFLOW = 1
    SEVERAL = 2
    OPEN = 4


class HeaderFlag(IntFlag):
    FREE_THREADED = 1
    PYTHON_STACKS = 2
    EVENTS = 4
    FORKED = 8
    TICKS_ARE_NS = 16
    SAMPLED_PERF = 32
    SAMPLED_TIMER = 64
    DEBUG_BUILD = 128


class EndKind(IntEnum):
    NONE = 0
    EXIT = 1
    QUICK_EXIT = 2
    EXEC = 3
    STOP = 4


U8, U16, U32, U64, I64 = "<u1", "<u2", "<u4", "<u8", "<i8"
RECORD_HEAD = [("type", U16), ("flags", U16), ("bytes", U32)]

FILE_HEADER = np.dtype(
    [("magic", "S8")]
    + [
        (name, U32)
        for name in (
            "format_version",
            "header_bytes",
            "pid",
            "parent_pid",
            "python_hex",
            "flags",
            "end_kind",
            "rate_hz",
        )
    ]
    + [
        (name, U64)
        for name in (
            "start_ns",
            "start_realtime_ns",
            "start_ticks",
            "end_ns",
            "end_ticks",
            "lost_records",
            "lost_samples",
            "lost_errno",
            "process_cpu_ns",
            "runtime_address",
            "runtime_bytes",
            "sampler_errno",
            "counter_type",
            "counter_config",
            "counter_flags",
            "counter_errno",
            "start_busy_ns",
            "start_stolen_ns",
            "busy_ns",
            "stolen_ns",
        )
    ]
)
EXTENT_HEADER = np.dtype([("magic", U32), ("reserved", U32), ("bytes", U64), ("used", U64), ("reserved2", U64)])
CHUNK_HEADER = np.dtype(
    [
        ("magic", U32),
        ("kind", U16),
        ("reserved", U16),
        ("slot", U32),
        ("bytes", U32),
        ("length", U64),
        ("reserved2", U64),
    ]
)
META_RECORD = np.dtype([*RECORD_HEAD, ("key_bytes", U32), ("value_bytes", U32)])
IMAGE_RECORD = np.dtype(
    [*RECORD_HEAD, ("bias", U64), ("start", U64), ("end", U64), ("path_bytes", U32), ("reserved", U32)]
)
CODE_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *(
            (name, U32)
            for name in ("code_id", "first_line", "file_bytes", "qualname_bytes", "linetable_bytes", "reserved")
        ),
    ]
)
STACK_RECORD = np.dtype([*RECORD_HEAD, ("stack_id", U32), ("python_frames", U16), ("native_frames", U16)])
TYPE_RECORD = np.dtype([*RECORD_HEAD, ("type_id", U32), ("name_bytes", U32), ("address", U64)])
THREAD_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *((name, U32) for name in ("thread", "tid", "parent_thread", "name_bytes")),
        *(
            (name, U64)
            for name in (
                "start_ns",
                "end_ns",
                "read_ns",
                "start_cpu_ns",
                "cpu_ns",
                "start_run_delay_ns",
                "run_delay_ns",
                "run_delay_read_ns",
                "minor_faults",
                "major_faults",
                "voluntary_switches",
                "involuntary_switches",
                "gil_held_ticks",
                "gil_holds",
                "gil_since_ticks",
                "quick_io_count",
                "quick_io_ns",
                "io_cpu_ns",
                "samples",
                "lost",
                "counted",
                "counted_enabled_ns",
                "counted_running_ns",
                "open_start_ns",
                "open_address",
            )
        ),
        ("open_stack_id", U32),
        ("open_type_id", U32),
        ("open_op", U8),
        ("open_subject", U8),
        ("open_flags", U16),
        ("reserved2", U32),
        ("name", f"V{NAME_BYTES}"),
    ]
)
WAIT_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        ("wait_id", U32),
        ("thread", U32),
        ("op", U8),
        ("subject", U8),
        ("reserved", U16),
        *((name, U32) for name in ("stack_id", "releaser_stack_id", "releaser_thread", "type_id", "span_id")),
        *(
            (name, U64)
            for name in (
                "address",
                "count",
                "total_ns",
                "max_ns",
                "wake_ns",
                "spin_ns",
                "yields",
                "first_ns",
                "last_ns",
                "cpu_ns",
            )
        ),
        ("looked_ns", I64),
        ("lookable", U32),
        ("looked", U32),
        ("histogram", U32, (HISTOGRAM_BUCKETS,)),
    ]
)
SPAN_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *((name, U32) for name in ("span_id", "thread", "parent_span_id", "name_bytes")),
        *(
            (name, U64)
            for name in (
                "count",
                "total_ns",
                "max_ns",
                "cpu_ns",
                "run_delay_ns",
                "faults",
                "first_ns",
                "last_ns",
                "open_start_ns",
                "open_cpu_ns",
                "open_run_delay_ns",
            )
        ),
        ("histogram", U32, (HISTOGRAM_BUCKETS,)),
    ]
)
SPAN_EVENT_RECORD = np.dtype(
    [("span_id", U32), ("thread", U32), ("start_ns", U64), ("duration_ns", U64), ("cpu_ns", U64)]
)
FREEZE_RECORD = np.dtype(
    [
        *RECORD_HEAD, ("type_id", U32), ("result", U32), ("object", U64), ("owner", U64), ("shared", U64),
        ("local", U32), ("reserved", U32),
    ]
)  # fmt: skip
STOP_RECORD = np.dtype([*RECORD_HEAD, ("begin_ns", U64), ("end_ns", U64)])
PROGRESS_RECORD = np.dtype(
    [*RECORD_HEAD, *((name, U64) for name in ("time_ns", "cpu_ns", "allocations", "io_calls", "spans"))]
)
PROVE_MOST = 32
PROVE_OBJECT = np.dtype(
    [("object", U64), ("result", U32), ("local", U32), ("shared", U64), ("thread", U64), ("type_name", "S96")]
)
PROVE_CONTROL = np.dtype(
    [("pid", U32), ("command", U32), ("done", U32), ("count", U32), ("objects", PROVE_OBJECT, (PROVE_MOST,))]
)
WATCH_RECORD = np.dtype([*RECORD_HEAD, ("text_bytes", U32), ("reserved", U32), ("time_ns", U64)])
LOCK_HOLD_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *((name, U32) for name in ("thread", "stack_id", "released_stack_id", "kind")),
        *((name, U64) for name in ("address", "count", "timed", "total_ns", "max_ns", "at_least_ns")),
        ("histogram", U32, (HISTOGRAM_BUCKETS,)),
    ]
)
EVENT_RECORD = np.dtype(
    [
        ("wait_id", U32),
        ("thread", U32),
        ("start_ns", U64),
        ("duration_ns", U64),
        ("address", U64),
        ("wake_ns", U32),
        ("spin_ns", U32),
    ]
)
GIL_HOLD_RECORD = np.dtype([("thread", U32), ("reserved", U32), ("start_ticks", U64), ("end_ticks", U64)])
LONG_HOLD_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *((name, U32) for name in ("thread", "stack_id", "waiters", "blocked_stack_id")),
        *((name, U64) for name in ("blocked_ns", "start_ticks", "end_ticks")),
    ]
)
SAMPLE_RECORD = np.dtype(
    [
        ("thread", U32),
        ("stack_id", U32),
        ("time_ns", U64),
        ("pc", U64),
        ("object", U64),
        ("address", U64),
        ("type_id", U32),
        ("span_id", U32),
        ("flags", U32),
        ("base_back", U32),
        ("base", U64),
        ("registers", U64, (16,)),
    ]
)

STRUCTS = {
    "FileHeader": FILE_HEADER,
    "ExtentHeader": EXTENT_HEADER,
    "ChunkHeader": CHUNK_HEADER,
    "MetaRecord": META_RECORD,
    "ImageRecord": IMAGE_RECORD,
    "CodeRecord": CODE_RECORD,
    "StackRecord": STACK_RECORD,
    "TypeRecord": TYPE_RECORD,
    "ThreadRecord": THREAD_RECORD,
    "WaitRecord": WAIT_RECORD,
    "SpanRecord": SPAN_RECORD,
    "SpanEventRecord": SPAN_EVENT_RECORD,
    "FreezeRecord": FREEZE_RECORD,
    "StopRecord": STOP_RECORD,
    "ProgressRecord": PROGRESS_RECORD,
    "ProveObject": PROVE_OBJECT,
    "ProveControl": PROVE_CONTROL,
    "WatchRecord": WATCH_RECORD,
    "LockHoldRecord": LOCK_HOLD_RECORD,
    "GilHoldRecord": GIL_HOLD_RECORD,
    "LongHoldRecord": LONG_HOLD_RECORD,
    "EventRecord": EVENT_RECORD,
    "SampleRecord": SAMPLE_RECORD,
}
