"""Calls the scheduler before each change point: sys.monitoring on 3.12 and later, settrace's opcodes on 3.11."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.explore.points import Site, UnderTest, points
from gilprobe.explore.primitives import active
from gilprobe.explore.real import get_ident

_TOOL_IDS = (4, 3, 1)


class Instrument:
    """On while a session lasts. A point's key is id(code) + offset: unique, as the bytecode is inside the object."""

    def __init__(self, under: UnderTest, meet: Callable[[CodeType], None], every: bool = False) -> None:
        self.under = under
        self.meet = meet  # called with code that is about to run for the first time
        self.every = every
        self.sites: dict[int, Site] = {}
        self.codes: dict[int, CodeType] = {}
        self.tracer: Any = None
        self.tool: int | None = None

    def learn(self, code: CodeType) -> None:
        self.meet(code)
        self.codes[id(code)] = code
        for offset, site in points(code, self.under, self.every).items():
            self.sites[id(code) + offset] = site

    def install(self) -> None:
        if sys.version_info >= (3, 12):
            self._install_monitoring()
        else:
            self.tracer = self._make_tracer()

    def _install_monitoring(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        for tool in _TOOL_IDS:
            if monitoring.get_tool(tool) is None:
                break
        else:
            raise GilprobeError(
                "all of sys.monitoring's tool slots are taken", "stop the debugger or coverage tool first"
            )
        self.tool = tool
        monitoring.use_tool_id(tool, "gilprobe.explore")
        events = monitoring.events
        disable = monitoring.DISABLE
        sites, codes, under = self.sites, self.codes, self.under

        def started(code: CodeType, _offset: int) -> Any:
            if id(code) not in codes and under.has(code.co_filename):
                run = active.run
                if run is None or run.current is None or run.current.ident != get_ident():
                    return None  # a thread that nobody controls
                self.learn(code)
                monitoring.set_local_events(tool, code, events.INSTRUCTION)
            return disable

        def instruction(code: CodeType, offset: int) -> Any:
            try:
                site = sites[id(code) + offset]  # not .get(): 3.13t yields the processor 40 times in there, measured
            except KeyError:
                return disable
            run = active.run
            if run is not None:
                task = run.current
                if task is not None and task.ident == get_ident():
                    run.point(task, site)
            return None

        monitoring.register_callback(tool, events.PY_START, started)
        monitoring.register_callback(tool, events.PY_RESUME, started)
        monitoring.register_callback(tool, events.INSTRUCTION, instruction)
        monitoring.set_events(tool, events.PY_START | events.PY_RESUME)
        monitoring.restart_events()

    def _make_tracer(self) -> Any:
        has = self.under.has
        locals_of: dict[int, Any] = {}  # by id(code): its hash is that of all its names and constants

        def call(frame: FrameType, _event: str, _arg: Any) -> Any:
            code = frame.f_code
            local = locals_of.get(id(code))
            if local is None:
                if not has(code.co_filename):
                    return None
                self.learn(code)  # and keeps it
                local = locals_of[id(code)] = _local_tracer(points_of(code))
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return local

        def points_of(code: CodeType) -> dict[int, Site]:
            start = id(code)
            return {key - start: site for key, site in self.sites.items() if site.code is code}

        return call

    def remove(self) -> None:
        if self.tool is not None:
            monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
            monitoring.set_events(self.tool, 0)
            for code in self.codes.values():
                monitoring.set_local_events(self.tool, code, 0)
            for event in (monitoring.events.PY_START, monitoring.events.PY_RESUME, monitoring.events.INSTRUCTION):
                monitoring.register_callback(self.tool, event, None)
            monitoring.free_tool_id(self.tool)
            self.tool = None


def _local_tracer(sites: dict[int, Site]) -> Any:
    """The trace function of one code object. sites: by offset."""

    def local(frame: FrameType, event: str, _arg: Any) -> Any:
        offset = frame.f_lasti
        if offset in sites and event == "opcode":
            run = active.run
            if run is not None:
                task = run.current
                if task is not None and task.ident == get_ident():
                    switches = run.switches
                    run.point(task, sites[offset])
                    if run.switches != switches:
                        # 3.11 writes the locals it took before this call back into the frame, closure cells
                        # included (sysmodule.c, call_trampoline); reading them anew makes them current.
                        _ = frame.f_locals
        return local

    return local
