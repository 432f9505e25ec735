"""The interpreters of this machine, and a free-threaded one where there is none.

    interpreters.py list                                        every CPython found, as JSON
    interpreters.py free-threaded --make DIR --requirements F   a virtual environment on a free-threaded one
    interpreters.py fetch-gil 3.14 3.15                         GIL builds from Debian's packages, into the cache

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


# What pip and ctypes in the built interpreter need of this machine: header, Debian package.
HEADERS = {"openssl/ssl.h": "libssl-dev", "zlib.h": "zlib1g-dev", "ffi.h": "libffi-dev"}


class Unavailable(Exception):
    """An interpreter cannot be had; the text says why."""


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
    return found


def interpreters() -> list[dict[str, object]]:
    """Each once, by its real executable (behind a pyenv shim too): {executable, version, free_threaded}."""
    seen: dict[tuple[int, int], dict[str, object]] = {}
    asked: set[Path] = set()
    for path in candidates():
        try:
            if path.resolve(strict=True) in asked:
                continue
            asked.add(path.resolve())
            out = subprocess.run(
                [str(path), "-c", PROBE], capture_output=True, text=True, timeout=20, check=True
            ).stdout
            executable, version, free_threaded, _, implementation, virtual = json.loads(out)
            real = Path(executable).resolve(strict=True)
            file = real.stat()
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        if implementation == "cpython" and not virtual and tuple(version) >= (3, 11, 0):
            # By inode: python3.13 and python3.13t of one installation are hard links.
            seen[file.st_dev, file.st_ino] = {
                "executable": str(real),
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
    # Under the cache, where moving it is one rename: an interrupted installation must not be found.
    staged = CACHE / f".installing-{os.getpid()}"
    try:
        print(
            f"no free-threaded Python found: building 3.13t from Debian {SUITE}'s source (about three minutes)",
            flush=True,
        )
        check_headers()
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
        run(["make", "install", f"DESTDIR={staged}"], source)
        shutil.rmtree(prefix, ignore_errors=True)
        (staged / prefix.relative_to("/")).rename(prefix)
    except (OSError, subprocess.CalledProcessError, Unavailable) as error:
        raise Unavailable(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(staged, ignore_errors=True)
    return prefix / "bin" / "python3.13t"


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {done.stdout[-600:]}")


def check_headers() -> None:
    """Raises Unavailable where the built interpreter would have no ssl (so no pip), zlib or ctypes."""
    missing = [
        package
        for header, package in HEADERS.items()
        if subprocess.run(
            ["gcc", "-E", "-x", "c", "-"], input=f"#include <{header}>\n", text=True, capture_output=True, check=False
        ).returncode
    ]
    if missing:
        raise Unavailable(f"building 3.13t needs headers: apt-get install {' '.join(missing)}")


def mirror(etc: Path = Path("/etc/apt")) -> str:
    """The mirror of Debian's main archive that this machine's own apt uses. Raises Unavailable."""
    suites: dict[str, set[str]] = {}
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if file.suffix in (".list", ".sources") and file.is_file():
            read = deb822 if file.suffix == ".sources" else one_line
            for uri, suite in read(file.read_text(errors="replace")):
                suites.setdefault(uri, set()).add(suite)
    # Vendors have a /debian with main too; only the archive itself has CODENAME-updates.
    found = [uri for uri, its in suites.items() if any(suite.endswith("-updates") for suite in its)]
    found += [uri for uri in suites if re.search(r"/debian/?$", uri)]
    if not found:
        raise Unavailable("no Debian mirror in this machine's apt sources")
    return found[0]


def one_line(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of the lines of a .list file that hold component main."""
    lines = re.findall(r"^\s*deb(?:-src)?\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", text, re.MULTILINE)
    return [(uri, suite) for uri, suite, components in lines if "main" in components.split()]


def deb822(text: str) -> list[tuple[str, str]]:
    """(URI, suite) of the enabled stanzas of a .sources file that hold component main."""
    found = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        pairs = re.findall(r"(?m)^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza)
        fields = {name.lower(): value.split() for name, value in pairs}
        if "main" in fields.get("components", []) and fields.get("enabled") != ["no"]:
            found += [(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", [])]
    return found


def private_apt(work: Path, kind: str, suite: str) -> list[str]:
    """Options that keep apt-get to a state of its own under `work`. kind: deb or deb-src."""
    if not shutil.which("apt-get"):
        raise Unavailable("apt-get is missing: this is no Debian machine")
    state = work / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True)
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    signed = f"[signed-by={keyring}] " if keyring.exists() else ""
    (state / "sources.list").write_text(f"{kind} {signed}{mirror()} {suite} main\n")
    (state / "status").touch()
    return [
        f"-oDir::Etc::SourceList={state}/sources.list",
        f"-oDir::Etc::SourceParts={state}/parts",
        f"-oDir::State={state}",
        f"-oDir::State::Lists={state}/lists",
        f"-oDir::State::status={state}/status",
        f"-oDir::Cache={state}/cache",
        "-oAPT::Sandbox::User=root",
        "-q",
    ]


def fetch_source(work: Path) -> Path:
    """The upstream archive, its sha256 as the signed index has it. Touches no apt state but its own."""
    options = private_apt(work, "deb-src", SUITE)
    before = apt_state()
    run(["apt-get", *options, "update"], work)
    run(["apt-get", *options, "source", "--download-only", SOURCE], work)
    (archive,) = work.glob(f"{SOURCE}_*.orig.tar.xz")
    shown = subprocess.run(
        ["apt-cache", *options, "showsrc", SOURCE], capture_output=True, text=True, check=True
    ).stdout
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if f" {digest} {archive.stat().st_size} {archive.name}" not in shown:
        raise Unavailable(f"{archive.name} is not the file that the package index describes")
    if apt_state() != before:
        raise Unavailable("the system's apt or dpkg state changed during the download")
    return archive


def fetch_gil(version: str) -> Path:
    """Debian sid's GIL build of `version` ("3.14") with sid's own libc, under the cache. Raises Unavailable."""
    prefix = CACHE / f"python-{version}"
    binary = prefix / "bin" / f"python{version}"
    if binary.exists():
        return binary
    if not shutil.which("patchelf"):
        raise Unavailable("patchelf is missing: apt-get install patchelf")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Under the cache, so that the last step is a rename and a half interpreter is never found.
    work = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=CACHE))
    try:
        options = private_apt(work, "deb", "sid")
        before = apt_state()
        run(["apt-get", *options, "update"], work)
        wanted = ["install", "-y", "--download-only", "--no-install-recommends", f"python{version}"]
        run(["apt-get", *options, *wanted], work)
        if apt_state() != before:
            raise Unavailable("the system's apt or dpkg state changed during the download")
        root = work / "root"
        for package in sorted((work / "apt/cache/archives").glob("*.deb")):
            run(["dpkg", "-x", str(package), str(root)], work)
        libraries = "usr/lib/x86_64-linux-gnu"
        # An RPATH, not a RUNPATH: it also holds for the libraries of extension modules.
        pointed = ["--set-interpreter", f"{prefix}/{libraries}/ld-linux-x86-64.so.2"]
        pointed += ["--force-rpath", "--set-rpath", f"{prefix}/{libraries}"]
        run(["patchelf", *pointed, str(root / f"usr/bin/python{version}")], work)
        for name in ("bin", "lib"):
            if not (root / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        shutil.rmtree(prefix, ignore_errors=True)
        root.rename(prefix)
        # Only now: the loader's path that patchelf wrote is the final one.
        run([str(binary), "-c", "import ssl, ctypes, zlib"], work)
    except (OSError, subprocess.SubprocessError, Unavailable) as error:
        shutil.rmtree(prefix, ignore_errors=True)
        raise Unavailable(str(error)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return binary


def apt_state() -> list[tuple[str, int, int]]:
    """The system's lists, archives, automatic marks and dpkg status: (path, mtime in ns, bytes)."""
    files = [Path("/var/lib/dpkg/status"), Path("/var/lib/apt/extended_states")]
    files += [*Path("/var/lib/apt/lists").glob("*"), *Path("/var/cache/apt").glob("**/*")]
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file())


def make_environment(folder: Path, requirements: Path) -> None:
    """A virtual environment in `folder`; where it cannot be had, one loud line and the reason in `folder`/missing."""
    folder.mkdir(exist_ok=True)
    missing = folder / "missing"
    try:
        python = free_threaded()
        missing.unlink(missing_ok=True)
        print(f"setting up {folder} with {python.name}", flush=True)
        run([str(python), "-m", "venv", str(folder.absolute())], Path.cwd())
        # Building numpy from source would take ten minutes: wheels only.
        wheels = ["-q", "--disable-pip-version-check", "--only-binary=:all:", "-r", str(requirements)]
        run([str(folder.absolute() / "bin/python"), "-m", "pip", "install", *wheels], Path.cwd())
    except Unavailable as error:
        reason = " ".join(str(error).split())
        # make demo takes bin/python for a whole environment.
        shutil.rmtree(folder / "bin", ignore_errors=True)
        missing.write_text(reason)
        print(f"NO FREE-THREADED PYTHON: {reason}. The tests that need one will be skipped.", flush=True)
        return
    (folder / "interpreter").write_text(str(python))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    environment = commands.add_parser("free-threaded")
    environment.add_argument("--make", type=Path, required=True)
    environment.add_argument("--requirements", type=Path, required=True)
    gil = commands.add_parser("fetch-gil")
    gil.add_argument("versions", nargs="+", metavar="VERSION")
    arguments = parser.parse_args()
    if arguments.command == "list":
        json.dump(interpreters(), sys.stdout, indent=1)
    elif arguments.command == "fetch-gil":
        for version in arguments.versions:
            try:
                print(f"{version}: {fetch_gil(version)}", flush=True)
            except Unavailable as error:
                print(f"NO PYTHON {version}: {' '.join(str(error).split())}", flush=True)
    else:
        make_environment(arguments.make, arguments.requirements)


if __name__ == "__main__":
    main()
