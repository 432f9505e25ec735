"""Which of a machine's apt sources is Debian's own archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.interpreters import Unavailable, mirror

ARCHIVE = "Types: deb\nURIs: http://deb.example/debian\nSuites: trixie trixie-updates\nComponents: main\n"
SECURITY = "Types: deb\nURIs: http://deb.example/debian-security\nSuites: trixie-security\nComponents: main\n"


def etc(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        (folder / "sources.list.d" / name.replace("_", ".")).write_text(text)
    return folder


def test_a_vendors_debian_folder_is_not_taken_for_the_archive(tmp_path: Path) -> None:
    vendor = "deb [arch=amd64] https://vendor.example/debian stable main\n"
    assert mirror(etc(tmp_path, a_list=vendor, debian_sources=ARCHIVE)) == "http://deb.example/debian"


def test_nor_is_the_security_archive(tmp_path: Path) -> None:
    assert mirror(etc(tmp_path, debian_sources=SECURITY + "\n# more\n\n" + ARCHIVE)) == "http://deb.example/debian"


def test_sources_list_without_updates(tmp_path: Path) -> None:
    folder = etc(tmp_path)
    (folder / "sources.list").write_text(
        "# deb http://old.example/debian sid main\ndeb http://m.example/debian sid main\n"
    )
    assert mirror(folder) == "http://m.example/debian"


def test_a_mirror_may_have_any_path(tmp_path: Path) -> None:
    line = "deb http://proxy.example/repository/apt bookworm-updates main contrib\n"
    assert mirror(etc(tmp_path, a_list=line)) == "http://proxy.example/repository/apt"


@pytest.mark.parametrize("text", ["", "Enabled: no\n" + ARCHIVE, SECURITY, "\xff\x00 deb"])
def test_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unavailable, match="no Debian mirror"):
        mirror(etc(tmp_path, debian_sources=text))
