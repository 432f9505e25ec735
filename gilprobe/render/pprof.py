"""A contention profile for pprof: gzip'd profile.proto (google/pprof, proto/profile.proto), like Go's block profile.

A sample is all waits at one stack for one thing: `contentions/count`, `delay/nanoseconds`. Labels: kind, object, type,
thread (who waited) and released by, each with as many values as there are. Idling is no contention and not in it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from datetime import datetime

from gilprobe.model import Frame, Profile, Wait
from gilprobe.render.tables import Numbers, Strings
from gilprobe.render.wording import place

# profile.proto's field numbers.
SAMPLE_TYPE, SAMPLE, LOCATION, FUNCTION, STRING_TABLE = 1, 2, 4, 5, 6
TIME_NANOS, DURATION_NANOS, PERIOD_TYPE, PERIOD, COMMENT, DEFAULT_SAMPLE_TYPE = 9, 10, 11, 12, 13, 14
VALUE_TYPE, VALUE_UNIT = 1, 2
SAMPLE_LOCATIONS, SAMPLE_VALUES, SAMPLE_LABEL = 1, 2, 3
LABEL_KEY, LABEL_STR = 1, 2
LOCATION_ID, LOCATION_LINE = 1, 4
LINE_FUNCTION, LINE_LINE = 1, 2
FUNCTION_ID, FUNCTION_NAME, FUNCTION_SYSTEM_NAME, FUNCTION_FILENAME = 1, 2, 3, 4


class Pprof:
    suffix = ".pb.gz"

    def render(self, profile: Profile) -> bytes:
        strings = Strings("")  # the format's: text 0 is empty
        functions: Numbers[tuple[str, str]] = Numbers(first=1)
        locations: Numbers[Frame] = Numbers(first=1)
        delay = _value_type(strings, "delay", "nanoseconds")
        out = [_bytes(SAMPLE_TYPE, _value_type(strings, "contentions", "count")), _bytes(SAMPLE_TYPE, delay)]
        waits = [wait for wait in profile.waits if not wait.idle]
        out += [_bytes(SAMPLE, _sample(wait, strings, locations)) for wait in waits]
        for frame in locations:
            line = _int(LINE_FUNCTION, functions[frame.function, frame.file]) + _int(LINE_LINE, frame.line)
            out.append(_bytes(LOCATION, _int(LOCATION_ID, locations[frame]) + _bytes(LOCATION_LINE, line)))
        for function, file in functions:
            name = strings[function]
            out.append(
                _bytes(
                    FUNCTION,
                    _int(FUNCTION_ID, functions[function, file])
                    + _int(FUNCTION_NAME, name)
                    + _int(FUNCTION_SYSTEM_NAME, name)
                    + _int(FUNCTION_FILENAME, strings[file]),
                )
            )
        out.append(_int(TIME_NANOS, _started_ns(profile)))
        out.append(_int(DURATION_NANOS, round(profile.meta.get("wall_s", 0.0) * 1e9)))
        out.append(_bytes(PERIOD_TYPE, _value_type(strings, "contentions", "count")) + _int(PERIOD, 1))
        comments = [f"gilprobe {profile.meta.get('gilprobe', '')}"]
        comments += [f"not observed: {item.what}: {item.why}" for item in profile.not_observed]
        out.append(_packed(COMMENT, [strings[comment] for comment in comments]))
        out.append(_int(DEFAULT_SAMPLE_TYPE, strings["delay"]))
        out += [_bytes(STRING_TABLE, text.encode()) for text in strings.list()]
        return gzip.compress(b"".join(out), mtime=0)


def _sample(wait: Wait, strings: Strings, locations: Numbers[Frame]) -> bytes:
    out = [_packed(SAMPLE_LOCATIONS, [locations[frame] for frame in wait.waiter])]
    out.append(_packed(SAMPLE_VALUES, [wait.count, round(wait.total_s * 1e9)]))
    labels = [("kind", str(wait.kind)), ("object", wait.name), ("type", wait.object_type)]
    labels += [("thread", name) for name in wait.threads]
    labels += [("released by", f"{by.thread or '?'} at {place(by.stack[0])}") for by in wait.releasers if by.stack]
    for key, value in labels:
        if value:
            out.append(_bytes(SAMPLE_LABEL, _int(LABEL_KEY, strings[key]) + _int(LABEL_STR, strings[value])))
    return b"".join(out)


def _value_type(strings: Strings, name: str, unit: str) -> bytes:
    return _int(VALUE_TYPE, strings[name]) + _int(VALUE_UNIT, strings[unit])


def _started_ns(profile: Profile) -> int:
    try:
        return round(datetime.fromisoformat(str(profile.meta.get("started", ""))).timestamp() * 1000) * 1_000_000
    except ValueError:
        return 0


# Protocol buffers' wire format: a field's number and wire type (0 varint, 2 length-delimited), then its value.


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value > 0 else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _packed(field: int, values: Iterable[int]) -> bytes:
    packed = b"".join(map(_varint, values))
    return _bytes(field, packed) if packed else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
