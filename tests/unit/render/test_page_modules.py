"""The page's modules become one script."""

from __future__ import annotations

import re

from gilprobe.render.html import MODULES, WEB, script

DECLARED = re.compile(r"^(?:export )?(?:async )?(?:const|class|function) (\w+)", re.MULTILINE)
IMPORTED = re.compile(r'^import .* from "\./(\w+)\.js";$', re.MULTILINE)


def test_no_name_is_declared_by_two_modules() -> None:
    names = [name for module in MODULES for name in DECLARED.findall((WEB / f"{module}.js").read_text())]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_modules_stand_after_what_they_import_and_none_is_forgotten() -> None:
    assert {path.stem for path in WEB.glob("*.js")} == set(MODULES)
    for at, module in enumerate(MODULES):
        text = (WEB / f"{module}.js").read_text()
        assert set(IMPORTED.findall(text)) <= set(MODULES[:at])
    assert not re.search(r"^(import|export) ", script(), re.MULTILINE)
    assert "</script" not in script()
