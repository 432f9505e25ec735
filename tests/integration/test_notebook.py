"""%%gilprobe in a real IPython shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pythons import ROOT

pytest.importorskip("IPython", reason="NO IPYTHON: it is not installed, so the notebook's magic is not tested")

SHELL = """
import sys
sys.path.insert(0, {root!r})
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.displaypub import CapturingDisplayPublisher
shell = InteractiveShell.instance()
shell.display_pub = CapturingDisplayPublisher()
shell.run_cell("%load_ext gilprobe")
cell = sys.argv[1].replace("\\\\n", chr(10))
shell.run_cell(cell)
pages = [output["data"]["text/html"] for output in shell.display_pub.outputs]
print(len(pages), pages[0][:8] if pages else "", "in work" in "".join(pages), shell.user_ns.get("x"))
"""


def shell(cell: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SHELL.format(root=str(ROOT)), cell.replace("\n", "\\n")],
        cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


CELL = """%%gilprobe {}
import threading, time
lock = threading.Lock()
def work():
    for _ in range(10):
        with lock: time.sleep(0.002)
threads = [threading.Thread(target=work) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
x = 5
"""


def test_the_page_is_shown_below_the_cell_whose_names_stay(tmp_path: Path) -> None:
    assert shell(CELL.format(""), tmp_path).splitlines()[-1] == "1 <div><if True 5"
    assert not list(tmp_path.glob("*.gilprobe"))
    shell(CELL.format("-o kept.gilprobe --events --rate 50"), tmp_path)
    assert (tmp_path / "kept.gilprobe").is_dir()


def test_an_error_is_two_lines_and_the_cells_own_error_is_the_cells(tmp_path: Path) -> None:
    out = shell(CELL.format("--rat 5"), tmp_path)
    assert (
        "%%gilprobe does not know --rat" in out and "Usage: %%gilprobe" in out and out.splitlines()[-1].startswith("0 ")
    )
    assert "ZeroDivisionError" in (out := shell("%%gilprobe\n1 / 0", tmp_path)) and out.splitlines()[-1].startswith(
        "1 "
    )


NOTEBOOK = """
import sys, nbformat
from nbclient import NotebookClient
cells = ["%load_ext gilprobe", "%%gilprobe --events\\nimport threading\\nx = 41", "print(x + 1)",
         "%%gilprobe\\nimport asyncio\\nawait asyncio.sleep(0)"]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(book, timeout=300, kernel_name="python3", allow_errors=True).execute()
for cell in book.cells:
    print([(o.output_type, o.get("text") or o.get("evalue") or o["data"]["text/html"][:12]) for o in cell.outputs])
"""


def test_in_a_kernel_the_page_is_all_that_is_shown_and_awaiting_is_refused_with_a_way_out(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="NO NBCLIENT: it is not installed, no notebook's kernel is tested")
    pytest.importorskip("ipykernel", reason="NO IPYKERNEL: it is not installed, no notebook's kernel is tested")
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded, page, other, awaits = (eval(line) for line in done.stdout.splitlines())
    assert loaded == [] and page == [("display_data", "<div><iframe")] and other == [("stream", "42\n")]
    ((kind, said),) = awaits
    assert kind == "stream" and "awaits at its top" in said and "with gilprobe.profile()" in said
