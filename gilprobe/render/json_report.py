"""The JSON report: a contract, documented in the README."""

from __future__ import annotations

import json
from typing import Any

from gilprobe.model import Profile


class Json:
    suffix = ".json"

    def render(self, profile: Profile) -> str:
        return json.dumps(_encodable(profile.to_dict()), indent=1, ensure_ascii=True)


def _encodable(value: Any) -> Any:
    """Half a surrogate pair, which strict readers of JSON refuse, becomes U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value
