"""The wheel: one library, no Python ABI, no sources."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what a clone holds: what lies built in this checkout must not get in by itself."""
    tree = tmp_path_factory.mktemp("tree")
    kept = ["pyproject.toml", "CMakeLists.txt", "README.md", "gilprobe"]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return built


def test_tag_names_the_machine_and_no_python(wheel: Path) -> None:
    assert wheel.name == "gilprobe-0.1.0-py3-none-linux_x86_64.whl"


def test_holds_one_library_every_module_and_no_source(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".so" in name} == {"gilprobe/native/libgilprobe.so"}
    assert not [name for name in names if name.endswith((".c", ".h"))]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gilprobe").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_library_needs_no_python(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        library = archive.extract("gilprobe/native/libgilprobe.so", tmp_path)
    shown = subprocess.run(["readelf", "-dW", library], capture_output=True, text=True, check=True).stdout
    assert "SYMBOLIC" in shown
    assert "libpython" not in shown


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read("gilprobe-0.1.0.dist-info/METADATA").decode())
        entry_points = archive.read("gilprobe-0.1.0.dist-info/entry_points.txt").decode()
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.split(">")[0].strip() for line in required}
    assert names == {"click", "rich", "jinja2", "numpy", "capstone", "pyelftools"}
    assert "gilprobe = gilprobe.cli:main" in entry_points.replace("gilprobe=", "gilprobe = ")
