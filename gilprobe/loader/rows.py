"""Large samples go into their batch as they come, and batches into memory that the consumer let go of.

A batch of 32 pictures of 640x408 is 25 MB: kept as samples first and stacked then, it is taken from the system and
faulted in anew each time, and copied when it has long left the caches. The result is default_collate's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data

from gilprobe.loader import collate

# Smaller samples cost less to stack than to look at.
LEAST_SAMPLE_BYTES = 1 << 16
_ALIGNMENT = 64  # torch's own (c10/core/alignment.h, gAlignment)
_COLLATE = torch.utils.data.default_collate


class Pool:
    """Memory of one worker's batches. At most `most` blocks are kept; each comes back from whichever thread drops
    the last reference to its batch."""

    def __init__(self, most: int) -> None:
        self._free: deque[np.ndarray[Any, Any]] = deque(maxlen=most)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Not zeroed."""
        wanted = int(np.prod(shape)) * dtype.itemsize
        memory = self._fitting(wanted)
        if memory is None:
            raw = np.empty(wanted + _ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % _ALIGNMENT
            memory = raw[start : start + wanted]
        return np.asarray(_Lent(memory, self._free))[:wanted].view(dtype).reshape(shape)

    def _fitting(self, wanted: int) -> np.ndarray[Any, Any] | None:
        while True:
            try:
                memory = self._free.popleft()
            except IndexError:
                return None
            if wanted <= memory.nbytes <= 2 * wanted:
                return memory


class _Lent:
    """The owner of a batch's memory, as NumPy and torch see it: gone when the last view of it is."""

    def __init__(self, memory: np.ndarray[Any, Any], free: deque[np.ndarray[Any, Any]]) -> None:
        self._memory, self._free = memory, free
        self.__array_interface__ = {
            "shape": memory.shape,
            "typestr": "|u1",
            "data": (memory.ctypes.data, False),
            "version": 3,
        }

    def __del__(self) -> None:
        self._free.append(self._memory)


class Rows:
    """A batch under way, of samples alike: a large array or tensor, or a tuple with one in it."""

    def __init__(self, fields: list[_Field], is_tuple: bool) -> None:
        self._fields, self._is_tuple = fields, is_tuple

    def add(self, sample: Any) -> bool:
        """False, and nothing done, for a sample unlike the first: take samples() then."""
        parts: Sequence[Any] = sample if self._is_tuple and type(sample) is tuple else (sample,)
        if (self._is_tuple and type(sample) is not tuple) or len(parts) != len(self._fields):
            return False
        if not all(field.takes(part) for field, part in zip(self._fields, parts, strict=True)):
            return False
        for field, part in zip(self._fields, parts, strict=True):
            field.add(part)
        return True

    def samples(self) -> list[Any]:
        columns = [field.parts() for field in self._fields]
        return list(zip(*columns, strict=True)) if self._is_tuple else columns[0]

    def batch(self) -> Any:
        collated = [field.collated() for field in self._fields]
        # A list for tuples, as default_collate gives ("backwards compatibility").
        return collated if self._is_tuple else collated[0]


def begin(first: Any, count: int, collate_fn: Any, pool: Pool) -> Rows | None:
    """None where the samples are better, or must be, collated together."""
    if collate_fn is not _COLLATE or not collate.is_default():
        return None
    is_tuple = type(first) is tuple
    parts = first if is_tuple else (first,)
    if not any(_Stacked.suits(part) for part in parts):
        return None
    return Rows([_Stacked(part, count, pool) if _Stacked.suits(part) else _Listed() for part in parts], is_tuple)


class _Field:
    def takes(self, part: Any) -> bool:
        raise NotImplementedError

    def add(self, part: Any) -> None:
        raise NotImplementedError

    def parts(self) -> list[Any]:
        raise NotImplementedError

    def collated(self) -> Any:
        raise NotImplementedError


class _Listed(_Field):
    """What is small, or not an array, waits for the others."""

    def __init__(self) -> None:
        self._parts: list[Any] = []

    def takes(self, part: Any) -> bool:
        return True

    def add(self, part: Any) -> None:
        self._parts.append(part)

    def parts(self) -> list[Any]:
        return self._parts

    def collated(self) -> Any:
        # A tuple, as default_collate has it after zip: of texts it is handed on as it is.
        column: Any = tuple(self._parts)
        return _COLLATE(column)


class _Stacked(_Field):
    def __init__(self, first: Any, count: int, pool: Pool) -> None:
        self._kind, array = type(first), _array(first)
        assert array is not None
        self._shape, self._dtype, self._filled = array.shape, array.dtype, 0
        self._rows = pool.take((count, *array.shape), array.dtype)

    @staticmethod
    def suits(part: Any) -> bool:
        array = _array(part)
        return array is not None and array.nbytes >= LEAST_SAMPLE_BYTES

    def takes(self, part: Any) -> bool:
        array = _array(part) if type(part) is self._kind else None
        return array is not None and array.shape == self._shape and array.dtype == self._dtype

    def add(self, part: Any) -> None:
        self._rows[self._filled] = part if self._kind is np.ndarray else part.numpy()
        self._filled += 1

    def parts(self) -> list[Any]:
        rows = [self._rows[number].copy() for number in range(self._filled)]
        return rows if self._kind is np.ndarray else [torch.from_numpy(row) for row in rows]

    def collated(self) -> torch.Tensor:
        return torch.from_numpy(self._rows[: self._filled])


def _array(part: Any) -> np.ndarray[Any, Any] | None:
    """The array, or a plain tensor's, where default_collate would do no more than copy it; else None."""
    if type(part) is torch.Tensor:
        usual = part.layout is torch.strided and part.device.type == "cpu" and not part.requires_grad
        if not usual or part.is_conj() or part.is_neg() or part.dtype not in _TENSOR_DTYPES:
            return None
        return part.numpy()  # type: ignore[no-any-return]
    if type(part) is not np.ndarray:
        return None
    # torch warns of arrays that cannot be written to, and refuses negative strides: it shall.
    return part if part.flags.c_contiguous and part.flags.writeable and part.dtype in collate.DTYPES else None


_TENSOR_DTYPES = frozenset(collate.DTYPES.values())
