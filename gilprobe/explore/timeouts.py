"""Which waits with a timeout do not care how they ended: their result is thrown away by the code under test."""

from __future__ import annotations

import dis
import itertools
from types import CodeType, FrameType

from gilprobe.explore.points import UnderTest

_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}


class Unheeded:
    """Asked with a frame of the waiting thread: whether the innermost call under test discards what it returns.

    Such a wait ends early in any schedule, as a slow machine would have it: the code goes on as if it had been woken.
    Thread.join is left out: it returns nothing that could be heeded.
    """

    def __init__(self, under: UnderTest) -> None:
        self._under = under
        self._discarding: dict[CodeType, frozenset[int]] = {}

    def __call__(self, frame: FrameType | None) -> bool:
        while frame is not None and not self._under.has(frame.f_code.co_filename):
            if frame.f_code.co_name == "join_thread":
                return False
            frame = frame.f_back
        if frame is None:
            return False
        code = frame.f_code
        if code not in self._discarding:
            self._discarding[code] = _discarding(code)
        return frame.f_lasti in self._discarding[code]


def _discarding(code: CodeType) -> frozenset[int]:
    """Offsets of the calls whose result is popped; 3.11 leaves f_lasti on the call's last cache entry."""
    return frozenset(
        offset
        for call, after in itertools.pairwise(dis.get_instructions(code))
        if call.opname in _CALLS and after.opname == "POP_TOP"
        for offset in range(call.offset, after.offset, 2)
    )
