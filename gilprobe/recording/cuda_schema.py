"""The layout of what is recorded of CUDA: the rest of the twin of native/format.h, which explains every field."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from gilprobe.recording.schema import RECORD_HEAD, U8, U16, U32, U64


class CudaStep(IntEnum):
    NOT_FOUND = 1
    SYMBOLS = 2
    VERSION = 3
    SUBSCRIBE = 4
    CLOCK = 5
    BUFFERS = 6
    ENABLE = 7
    ON = 8


class CudaContextEvent(IntEnum):
    CREATED = 1
    DESTROYED = 2
    LISTED = 3


class GpuWorkKind(IntEnum):
    KERNEL = 1
    COPY = 2
    SET = 3


class GpuMarkKind(IntEnum):
    SWITCH_START = 1
    SWITCH_END = 2
    HOST_LAUNCH = 3
    HOST_SYNCHRONIZED = 4


CUDA_STATE_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        ("step", U32),
        ("error", "<i4"),
        ("version", U32),
        ("switches_error", "<i4"),
        ("path_bytes", U32),
        ("replay", U32),
        *((name, U64) for name in ("start_ns", "dropped", "unread", "lost")),
    ]
)
CUDA_CONTEXT_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        *((name, U32) for name in ("event", "context", "device", "thread", "api_kind", "process_id")),
        ("time_ns", U64),
    ]
)
CUDA_USE_RECORD = np.dtype(
    [
        *RECORD_HEAD,
        ("thread", U32),
        ("context", U32),
        *((name, U64) for name in ("set_current", "pushed", "popped", "launches", "first_ns", "last_ns")),
    ]
)
CUDA_RAW_RECORD = np.dtype([*RECORD_HEAD, ("version", U32), ("raw_bytes", U32)])
GPU_WORK = np.dtype(
    [
        *((name, U64) for name in ("start_ns", "end_ns", "bytes")),
        *((name, U32) for name in ("device", "context", "stream", "correlation")),
        ("kind", U8),
        ("copy_kind", U8),
        ("reserved", U16),
        ("reserved2", U32),
    ]
)
GPU_MARK = np.dtype([("time_ns", U64), *((name, U32) for name in ("context", "correlation", "thread", "kind"))])

STRUCTS = {
    "CudaStateRecord": CUDA_STATE_RECORD,
    "CudaContextRecord": CUDA_CONTEXT_RECORD,
    "CudaUseRecord": CUDA_USE_RECORD,
    "CudaRawRecord": CUDA_RAW_RECORD,
    "GpuWork": GPU_WORK,
    "GpuMark": GPU_MARK,
}
