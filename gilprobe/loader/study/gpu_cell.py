"""One cell of the GPU study: decodes JPEG with nvImageCodec in threads or processes and prints what it measured.

Run by its path, with one argument, a JSON object: mode (threads, processes), workers, backend (hybrid, gpu, hardware),
seconds, batch, pictures (a pickled list of JPEG files). Standard library and nvImageCodec only: torch would bring a
libcupti of its own.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

BACKENDS = {"hybrid": "HYBRID_CPU_GPU", "gpu": "GPU_ONLY", "hardware": "HW_GPU_ONLY"}
START_S = 120


class Device:
    """The first GPU's primary context, as nvImageCodec uses it. Raises RuntimeError with CUDA's error."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        self.context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)

    def use(self) -> int:
        """Makes the context current in this thread; a stream of the thread's own."""
        self._call("cuCtxSetCurrent", self.context)
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # 1: does not wait for the default stream
        return stream.value or 0

    def synchronize(self) -> None:
        self._call("cuCtxSynchronize")

    def _call(self, name: str, *arguments: Any) -> None:
        error = getattr(self.driver, name)(*arguments)
        if error:
            raise RuntimeError(f"{name} gives CUDA's error {error}")


def decode(device: Device, wanted: dict[str, Any], files: list[bytes], start: Any) -> dict[str, Any]:
    """One worker: a Decoder and a stream of its own, output left on the device. start.wait() begins the clock."""
    from nvidia import nvimgcodec

    stream = device.use()
    backend = nvimgcodec.Backend(getattr(nvimgcodec, BACKENDS[wanted["backend"]]))
    decoder = nvimgcodec.Decoder(device_id=0, backends=[backend], max_num_cpu_threads=1)
    batch = wanted["batch"]
    batches = [files[at : at + batch] for at in range(0, len(files) - batch + 1, batch)]

    def decode_batch(number: int) -> list[Any]:
        # Bytes alone would make nvImageCodec import numpy, which the carried free-threaded Python has not.
        sources = [nvimgcodec.CodeStream(file) for file in batches[number % len(batches)]]
        images: list[Any] = decoder.decode(sources, cuda_stream=stream)
        return images

    for number in range(2):
        images = decode_batch(number)
    if any(image is None or image.buffer_kind != nvimgcodec.ImageBufferKind.STRIDED_DEVICE for image in images):
        raise RuntimeError(f"backend {wanted['backend']} left no image on the device")
    device.synchronize()
    start.wait(START_S)
    start_ns = time.monotonic_ns()
    end_ns, count = start_ns + int(wanted["seconds"] * 1e9), 0
    while time.monotonic_ns() < end_ns:
        images = decode_batch(count)
        count += 1
    device.synchronize()
    return {"images": count * batch, "start_ns": start_ns, "end_ns": time.monotonic_ns()}


def process(wanted: dict[str, Any], start: Any, answers: Any) -> None:
    try:
        answers.put(decode(Device(), wanted, pickle.loads(Path(wanted["pictures"]).read_bytes()), start))
    except Exception as error:
        start.abort()
        answers.put({"error": f"{type(error).__name__}: {error}"})


def in_processes(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(wanted["workers"]), spawn.SimpleQueue()
    workers = [spawn.Process(target=process, args=(wanted, start, answers)) for _ in range(wanted["workers"])]
    for worker in workers:
        worker.start()
    found: list[dict[str, Any]] = []
    while len(found) < len(workers):
        crashed = [worker.exitcode for worker in workers if worker.exitcode]
        if not answers.empty():
            found.append(answers.get())
        elif crashed:
            start.abort()
            found.append({"error": f"a worker ended with status {crashed[0]}"})
            break
        time.sleep(0.002)
    for worker in workers:
        if len(found) < len(workers):
            worker.terminate()
        worker.join()
    return found


def in_threads(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    device, files = Device(), pickle.loads(Path(wanted["pictures"]).read_bytes())
    start, found = threading.Barrier(wanted["workers"]), []

    def work() -> None:
        try:
            found.append(decode(device, wanted, files, start))
        except Exception as error:
            start.abort()
            found.append({"error": f"{type(error).__name__}: {error}"})

    workers = [threading.Thread(target=work, name=f"worker {number}") for number in range(wanted["workers"])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


def main() -> None:
    wanted = json.loads(sys.argv[1])
    found = (in_threads if wanted["mode"] == "threads" else in_processes)(wanted)
    # A worker that the barrier let down says only that; the first cause is another's.
    errors = [item["error"] for item in found if "error" in item]
    answer: dict[str, Any] = {"gil": getattr(sys, "_is_gil_enabled", lambda: True)()}
    if errors:
        answer["error"] = next((error for error in errors if "BrokenBarrier" not in error), errors[0])
    else:
        begin_ns, end_ns = min(item["start_ns"] for item in found), max(item["end_ns"] for item in found)
        answer["images"] = sum(item["images"] for item in found)
        answer["images_per_s"] = answer["images"] / (end_ns - begin_ns) * 1e9
        answer["window_ns"] = [begin_ns, end_ns]
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
