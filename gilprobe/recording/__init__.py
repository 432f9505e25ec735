"""Reads what the native core wrote (native/format.h): the twin of its writer."""

from gilprobe.recording.reader import (
    Code,
    Image,
    RecordedSpan,
    RecordedThread,
    Recording,
    Stack,
    read_file,
    read_folder,
)

__all__ = ["Code", "Image", "RecordedSpan", "RecordedThread", "Recording", "Stack", "read_file", "read_folder"]
