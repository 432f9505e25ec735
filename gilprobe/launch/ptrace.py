"""One thread of another process, stopped, made to call a function, and let go on as if nothing had been (ptrace(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

CONT, DETACH, GETREGSET, SETREGSET, SEIZE, INTERRUPT = 7, 17, 0x4204, 0x4205, 0x4206, 0x4207
EVENT_STOP = 128
NT_PRSTATUS, NT_X86_XSTATE = 1, 0x202
ANY_THREAD = 0x40000000  # waitpid's __WALL
MOST_XSTATE_BYTES = 1 << 14
RED_ZONE_BYTES, STACK_ALIGNMENT = 128, 16
NO_SYSCALL = (1 << 64) - 1
DIRECTION_FLAG = 1 << 10
# No code lies there: the call's return is a fault that we catch.
RETURN_ADDRESS = 0

# struct user_regs_struct of x86-64, all unsigned long
NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
REGISTERS = struct.Struct(f"<{len(NAMES)}Q")
ARGUMENTS = ("rdi", "rsi", "rdx")


class CallFailed(Exception):
    """The thread met the signal `number` inside the call. It goes on where it was."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class StoppedThread:
    """`stop` it, `call` with it, `let_go`; a with block lets it go at its end.

    All raise OSError as ptrace does: EPERM where it is not allowed or another tracer has the thread, ESRCH where it has
    ended. Signals that come for the thread meanwhile reach it. The caller holds back its own: left in the midst of
    `call`, by a KeyboardInterrupt say, the thread would be lost.
    """

    def __init__(self, tid: int) -> None:
        self._tid = tid

    def stop(self) -> None:
        _ptrace(SEIZE, self._tid)
        _ptrace(INTERRUPT, self._tid)
        try:
            while number := self._wait_until_stopped():
                _ptrace(CONT, self._tid, data=number)
            self._registers = self._get(NT_PRSTATUS, REGISTERS.size)
            self._extended = self._get(NT_X86_XSTATE, MOST_XSTATE_BYTES)
        except OSError:
            self.let_go()
            raise

    def let_go(self) -> None:
        with suppress(ProcessLookupError):
            _ptrace(DETACH, self._tid)

    def __enter__(self) -> StoppedThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.let_go()

    @property
    def pc(self) -> int:
        return self._named(self._registers)["rip"]

    @property
    def system_call(self) -> int | None:
        """The number of the one it is in."""
        number = self._named(self._registers)["orig_rax"]
        return None if number == NO_SYSCALL else number

    def call(self, function: int, arguments: Sequence[int | bytes]) -> int:
        """What function(*arguments) returns, cut to 64 bits; bytes are passed by address.

        Raises CallFailed where it faults, OSError (ESRCH) where the thread ends.
        """
        registers = self._named(self._registers)
        stack = registers["rsp"] - RED_ZONE_BYTES
        values = []
        for argument in arguments:
            if isinstance(argument, bytes):
                stack -= len(argument)
                _write(self._tid, stack, argument)
                values.append(stack)
            else:
                values.append(argument)
        stack = (stack & -STACK_ALIGNMENT) - 8
        _write(self._tid, stack, struct.pack("<Q", RETURN_ADDRESS))
        registers |= dict(zip(ARGUMENTS, values, strict=False))
        registers |= {"rip": function, "rsp": stack, "rax": 0, "orig_rax": NO_SYSCALL}
        registers["eflags"] &= ~DIRECTION_FLAG
        self._set(NT_PRSTATUS, REGISTERS.pack(*registers.values()))
        try:
            return self._run_to_the_return()
        finally:
            self._set(NT_X86_XSTATE, self._extended)
            self._set(NT_PRSTATUS, self._registers)

    def _run_to_the_return(self) -> int:
        number = 0
        while True:
            _ptrace(CONT, self._tid, data=number)
            number = self._wait_until_stopped()
            if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT):
                registers = self._named(self._get(NT_PRSTATUS, REGISTERS.size))
                if number == signal.SIGSEGV and registers["rip"] == RETURN_ADDRESS:
                    return registers["rax"]
                raise CallFailed(number)

    def _wait_until_stopped(self) -> int:
        """The signal that it is to get when it goes on; 0 = none. Raises OSError (ESRCH) where it has ended."""
        _, status = os.waitpid(self._tid, ANY_THREAD)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return 0 if status >> 16 == EVENT_STOP else os.WSTOPSIG(status)

    def _get(self, kind: int, most: int) -> bytes:
        buffer = ctypes.create_string_buffer(most)
        vector = _Vector(ctypes.addressof(buffer), most)
        _ptrace(GETREGSET, self._tid, kind, ctypes.addressof(vector))
        return buffer.raw[: vector.length]

    def _set(self, kind: int, values: bytes) -> None:
        buffer = ctypes.create_string_buffer(values, len(values))
        vector = _Vector(ctypes.addressof(buffer), len(values))
        _ptrace(SETREGSET, self._tid, kind, ctypes.addressof(vector))

    @staticmethod
    def _named(registers: bytes) -> dict[str, int]:
        return dict(zip(NAMES, REGISTERS.unpack(registers), strict=True))


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(tid: int, address: int, data: bytes) -> None:
    with open(f"/proc/{tid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        memory.seek(address)
        memory.write(data)
