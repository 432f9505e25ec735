"""The JSON report: a contract, documented in the README."""

from __future__ import annotations

import json

from gilprobe.model import Profile


class Json:
    suffix = ".json"

    def render(self, profile: Profile) -> str:
        return json.dumps(profile.to_dict(), indent=1, ensure_ascii=True)
