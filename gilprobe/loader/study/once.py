"""One cell, for gilprobe profile to look at. Run as `python -m gilprobe.loader.study.once REQUEST` (JSON)."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path

import torch

from gilprobe.loader.study.cell import loader_of
from gilprobe.loader.study.dataset import Pictures


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "This DataLoader will create")
    request = json.loads(sys.argv[1])
    cell = request["cell"]
    files = pickle.loads(Path(request["pictures"]).read_bytes())
    loader = loader_of(cell, Pictures(files, cell["images"], cell["codec"]))
    for _ in range(request["epochs"]):
        for _ in loader:
            pass
    if getattr(sys, "_is_gil_enabled", lambda: True)() != request["gil"]:
        sys.exit("the GIL is not as this build should have it")


if __name__ == "__main__":
    main()
