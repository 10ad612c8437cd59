"""What a server said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: dict

    @property
    def json(self) -> Any:
        return json.loads(self.text)
