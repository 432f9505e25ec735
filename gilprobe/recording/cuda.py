"""What one process recorded of its CUDA contexts (native/cupti.c)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.recording import cuda_schema as schema
from gilprobe.recording.schema import RecordType

CUDA_RECORDS: dict[int, np.dtype[Any]] = {
    RecordType.CUDA_STATE: schema.CUDA_STATE_RECORD,
    RecordType.CUDA_CONTEXT: schema.CUDA_CONTEXT_RECORD,
    RecordType.CUDA_USE: schema.CUDA_USE_RECORD,
    RecordType.CUDA_RAW: schema.CUDA_RAW_RECORD,
}


@dataclass(slots=True)
class CudaRecords:
    """states, contexts, uses: all fields of their records by name. work, marks: one array a chunk.
    raw: CUPTI's own records, kept for test fixtures only."""

    states: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[dict[str, int]] = field(default_factory=list)
    uses: list[dict[str, int]] = field(default_factory=list)
    work: list[NDArray[Any]] = field(default_factory=list)
    marks: list[NDArray[Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def add(self, kind: int, record: Any, tail: bytes) -> None:
        """Raises ValueError for a record shorter than its text."""
        fields: dict[str, Any] = {name: int(record[name]) for name in record.dtype.names}
        if kind == RecordType.CUDA_STATE:
            if fields["path_bytes"] > len(tail):
                raise ValueError("a record shorter than its text")
            fields["path"] = tail[: fields["path_bytes"]].decode("utf-8", "replace")
            self.states.append(fields)
        elif kind == RecordType.CUDA_RAW:
            self.raw.append(tail[: fields["raw_bytes"]])
        else:
            (self.contexts if kind == RecordType.CUDA_CONTEXT else self.uses).append(fields)

    def all_work(self) -> NDArray[Any]:
        return np.concatenate(self.work) if self.work else np.empty(0, schema.GPU_WORK)

    def all_marks(self) -> NDArray[Any]:
        return np.concatenate(self.marks) if self.marks else np.empty(0, schema.GPU_MARK)
