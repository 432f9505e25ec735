"""The interpreters of this machine, and a free-threaded one where there is none.

    interpreters.py list                                        every CPython found, as JSON
    interpreters.py free-threaded --make DIR --requirements F   a virtual environment on a free-threaded one

Standard library only; runs on any Python from 3.9.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe"
SUITE, SOURCE = "trixie", "python3.13"
CFLAGS = "-O2 -g1 -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer"
PROBE = (
    "import json,sys,sysconfig;print(json.dumps([sys.executable,list(sys.version_info[:3]),"
    "bool(sysconfig.get_config_var('Py_GIL_DISABLED')),sys.version_info.releaselevel,"
    "sys.implementation.name, sys.prefix != sys.base_prefix]))"
)


class Unavailable(Exception):
    """No free-threaded interpreter can be had; the text says why."""


def candidates() -> list[Path]:
    names = [f"python3.{minor}{suffix}" for minor in range(11, 16) for suffix in ("", "t")] + ["python3"]
    found = [Path(path) for name in names if (path := shutil.which(name))]
    found.append(Path(sys.executable))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    roots = [pyenv / "versions", Path.home() / ".local/share/uv/python", CACHE]
    for root in roots:
        for folder in sorted(root.glob("*")):
            found += [
                path for path in sorted(folder.glob("bin/python3*")) if re.fullmatch(r"python3(\.\d+t?)?", path.name)
            ]
    return [path for path in found if ".pyenv/shims" not in str(path)]


def interpreters() -> list[dict[str, object]]:
    """Each once, by its real executable: {executable, version, free_threaded}."""
    seen: dict[str, dict[str, object]] = {}
    for path in candidates():
        try:
            real = str(path.resolve(strict=True))
            if real in seen:
                continue
            out = subprocess.run(
                [str(path), "-c", PROBE], capture_output=True, text=True, timeout=20, check=True
            ).stdout
            _, version, free_threaded, _, implementation, virtual = json.loads(out)
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        if implementation == "cpython" and not virtual and tuple(version) >= (3, 11, 0):
            seen[real] = {
                "executable": real,
                "version": ".".join(map(str, version)),
                "free_threaded": free_threaded,
            }
    return sorted(
        seen.values(), key=lambda item: (tuple(map(int, str(item["version"]).split("."))), item["free_threaded"])
    )


def free_threaded() -> Path:
    """The newest one found, else one built from Debian's source package. Raises Unavailable."""
    found = [item for item in interpreters() if item["free_threaded"]]
    if found:
        return Path(str(found[-1]["executable"]))
    return build()


def build() -> Path:
    prefix = CACHE / "python-3.13t"
    work = Path(tempfile.mkdtemp(prefix="gilprobe-python-"))
    try:
        print(
            f"no free-threaded Python found: building 3.13t from Debian {SUITE}'s source (about three minutes)",
            flush=True,
        )
        archive = fetch_source(work)
        subprocess.run(["tar", "xf", archive, "-C", work], check=True)
        (source,) = (path for path in work.glob("Python-3.13*") if path.is_dir())
        run(
            [
                "./configure",
                f"--prefix={prefix}",
                "--disable-gil",
                "--disable-test-modules",
                "--without-static-libpython",
                f"CFLAGS={CFLAGS}",
            ],
            source,
        )
        run(["make", f"-j{os.cpu_count() or 1}"], source)
        run(["make", "install"], source)
    except (OSError, subprocess.CalledProcessError, Unavailable) as error:
        shutil.rmtree(prefix, ignore_errors=True)
        raise Unavailable(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return prefix / "bin" / "python3.13t"


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {done.stdout[-600:]}")


def mirror() -> str:
    """The Debian mirror this machine's own apt uses."""
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for file in files:
        if file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                match = re.match(r"\s*(?:URIs:|deb(?:-src)?\s+(?:\[[^]]*\]\s+)?)\s*(\S+://\S*?/debian/?)(?:\s|$)", line)
                if match:
                    return match.group(1)
    raise Unavailable("no Debian mirror in this machine's apt sources")


def fetch_source(work: Path) -> Path:
    """The upstream archive, its sha256 as the signed index has it. Touches no apt state but its own."""
    if not shutil.which("apt-get"):
        raise Unavailable("apt-get is missing: this is no Debian machine")
    state = work / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True)
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    signed = f"[signed-by={keyring}] " if keyring.exists() else ""
    (state / "sources.list").write_text(f"deb-src {signed}{mirror()} {SUITE} main\n")
    options = [
        f"-oDir::Etc::SourceList={state}/sources.list",
        f"-oDir::Etc::SourceParts={state}/parts",
        f"-oDir::State::Lists={state}/lists",
        f"-oDir::Cache={state}/cache",
        "-oAPT::Sandbox::User=root",
    ]
    before = apt_state()
    run(["apt-get", *options, "-q", "update"], work)
    run(["apt-get", *options, "-q", "source", "--download-only", SOURCE], work)
    (archive,) = work.glob(f"{SOURCE}_*.orig.tar.xz")
    shown = subprocess.run(
        ["apt-cache", *options, "showsrc", SOURCE], capture_output=True, text=True, check=True
    ).stdout
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if f" {digest} {archive.stat().st_size} {archive.name}" not in shown:
        raise Unavailable(f"{archive.name} is not the file that the package index describes")
    if apt_state() != before:
        raise Unavailable("the system's apt lists changed during the download")
    return archive


def apt_state() -> list[tuple[str, int, int]]:
    lists = Path("/var/lib/apt/lists")
    return sorted(
        (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in lists.glob("*") if path.is_file()
    )


def make_environment(folder: Path, requirements: Path) -> None:
    folder.mkdir(exist_ok=True)
    missing = folder / "missing"
    try:
        python = free_threaded()
    except Unavailable as error:
        reason = " ".join(str(error).split())
        missing.write_text(reason)
        print(f"NO FREE-THREADED PYTHON: {reason}. The tests that need one will be skipped.", flush=True)
        return
    missing.unlink(missing_ok=True)
    print(f"setting up {folder} with {python.name}", flush=True)
    subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
    # Building numpy from source would take ten minutes: wheels only.
    subprocess.run(
        [
            str(folder / "bin/python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "-r",
            str(requirements),
        ],
        check=True,
    )
    (folder / "interpreter").write_text(str(python))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    environment = commands.add_parser("free-threaded")
    environment.add_argument("--make", type=Path, required=True)
    environment.add_argument("--requirements", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "list":
        json.dump(interpreters(), sys.stdout, indent=1)
    else:
        make_environment(arguments.make, arguments.requirements)


if __name__ == "__main__":
    main()
