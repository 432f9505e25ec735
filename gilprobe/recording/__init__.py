"""Reads what the native core wrote (native/format.h): the twin of its writer."""

from gilprobe.recording.contents import Code, Image, RecordedSpan, RecordedThread, Recording, Stack
from gilprobe.recording.reader import read_file, read_folder

__all__ = ["Code", "Image", "RecordedSpan", "RecordedThread", "Recording", "Stack", "read_file", "read_folder"]
