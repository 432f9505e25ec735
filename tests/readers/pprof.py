"""profile.proto (google/pprof, proto/profile.proto) as protobuf's own parser has it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
INT, UINT, BOOL, TEXT = FIELD.TYPE_INT64, FIELD.TYPE_UINT64, FIELD.TYPE_BOOL, FIELD.TYPE_STRING
ONE, MANY = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED

# message: field: (number, one or many, type or message)
MESSAGES: Mapping[str, Mapping[str, tuple[int, Any, Any]]] = {
    "Profile": {
        "sample_type": (1, MANY, "ValueType"), "sample": (2, MANY, "Sample"), "mapping": (3, MANY, "Mapping"),
        "location": (4, MANY, "Location"), "function": (5, MANY, "Function"), "string_table": (6, MANY, TEXT),
        "drop_frames": (7, ONE, INT), "keep_frames": (8, ONE, INT), "time_nanos": (9, ONE, INT),
        "duration_nanos": (10, ONE, INT), "period_type": (11, ONE, "ValueType"), "period": (12, ONE, INT),
        "comment": (13, MANY, INT), "default_sample_type": (14, ONE, INT), "doc_url": (15, ONE, INT),
    },
    "ValueType": {"type": (1, ONE, INT), "unit": (2, ONE, INT)},
    "Sample": {"location_id": (1, MANY, UINT), "value": (2, MANY, INT), "label": (3, MANY, "Label")},
    "Label": {"key": (1, ONE, INT), "str": (2, ONE, INT), "num": (3, ONE, INT), "num_unit": (4, ONE, INT)},
    "Mapping": {
        "id": (1, ONE, UINT), "memory_start": (2, ONE, UINT), "memory_limit": (3, ONE, UINT),
        "file_offset": (4, ONE, UINT), "filename": (5, ONE, INT), "build_id": (6, ONE, INT),
        "has_functions": (7, ONE, BOOL), "has_filenames": (8, ONE, BOOL), "has_line_numbers": (9, ONE, BOOL),
        "has_inline_frames": (10, ONE, BOOL),
    },
    "Location": {
        "id": (1, ONE, UINT), "mapping_id": (2, ONE, UINT), "address": (3, ONE, UINT), "line": (4, MANY, "Line"),
        "is_folded": (5, ONE, BOOL),
    },
    "Line": {"function_id": (1, ONE, UINT), "line": (2, ONE, INT), "column": (3, ONE, INT)},
    "Function": {
        "id": (1, ONE, UINT), "name": (2, ONE, INT), "system_name": (3, ONE, INT), "filename": (4, ONE, INT),
        "start_line": (5, ONE, INT),
    },
}  # fmt: skip


def _profile_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
    for message, fields in MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, (number, label, kind) in fields.items():
            field = made.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = FIELD.TYPE_MESSAGE, f".perftools.profiles.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))


def read_pprof(data: bytes) -> Any:
    """The message. Checks what pprof itself refuses: unknown fields, ids that lead nowhere, too few values."""
    profile = _profile_class()()
    raw = gzip.decompress(data)
    profile.ParseFromString(raw)
    assert profile.SerializeToString() and len(profile.SerializeToString()) == len(raw), "fields it does not know"
    strings, texts = len(profile.string_table), profile.string_table
    assert texts[0] == "" and len(set(texts)) == strings
    functions = {function.id for function in profile.function}
    locations = {location.id for location in profile.location}
    assert 0 not in functions | locations
    assert (len(functions), len(locations)) == (len(profile.function), len(profile.location))
    for function in profile.function:
        assert max(function.name, function.filename, function.system_name) < strings
    for location in profile.location:
        assert location.line and all(line.function_id in functions for line in location.line)
    for sample in profile.sample:
        assert set(sample.location_id) <= locations and len(sample.value) == len(profile.sample_type)
        assert all(0 < label.key < strings and label.str < strings for label in sample.label)
    assert texts[profile.default_sample_type] in {texts[kind.type] for kind in profile.sample_type}
    return profile
