"""Fetches the demo's photographs: the sample pictures inside scikit-learn's and scikit-image's wheels, cached.

They are cropped with a fixed seed and encoded anew, so that no two files are alike. Needs Pillow.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe" / "pictures"
WHEELS = {
    "scikit-learn==1.7.2": ("china.jpg", "flower.jpg"),
    "scikit-image==0.25.2": ("rocket.jpg", "coffee.png", "chelsea.png", "astronaut.png"),
}
COUNT, SEED, SIZE = 96, 20, (640, 408)


def originals() -> list[bytes]:
    pictures = []
    for requirement, names in WHEELS.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "-q",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--only-binary=:all:",
                    "-d",
                    folder,
                    requirement,
                ],
                check=True,
            )
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for entry in archive.namelist():
                    if entry.rpartition("/")[2] in names:
                        pictures.append(archive.read(entry))
    return pictures


def make(folder: Path = CACHE) -> Path:
    """The folder with COUNT JPEG files, made if need be."""
    done = folder / "complete"
    if done.exists():
        return folder
    from PIL import Image

    print("fetching the sample photographs", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(SEED)
    sources = [Image.open(io.BytesIO(data)).convert("RGB") for data in originals()]
    if not sources:
        raise SystemExit(
            "gilprobe: the wheels hold no sample pictures\nCheck the versions in reports/demo/pictures.py."
        )
    for number in range(COUNT):
        source = sources[number % len(sources)]
        share = chosen.uniform(0.6, 0.95)
        width, height = int(source.width * share), int(source.height * share)
        left, top = chosen.randrange(source.width - width), chosen.randrange(source.height - height)
        picture = source.crop((left, top, left + width, top + height)).resize(SIZE)
        picture.save(folder / f"{number:03}.jpg", quality=chosen.randrange(80, 96), subsampling="4:2:0")
    done.touch()
    return folder


if __name__ == "__main__":
    make()
