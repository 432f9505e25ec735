"""Threads have a number in their process's file and a place in Profile.threads."""

from __future__ import annotations

from collections.abc import Sequence

from gilprobe.recording import Recording


def places_of(recordings: Sequence[Recording]) -> list[dict[int, int]]:
    """Of each recording: a thread's number in the file -> its index in Profile.threads."""
    places, first = [], 0
    for recording in recordings:
        places.append({number: first + at for at, number in enumerate(sorted(recording.threads))})
        first += len(recording.threads)
    return places
