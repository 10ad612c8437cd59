"""What the pages of the guard and of the live service share: colours, style, the sign, and how elements are built.

* :func:`static_folder` is where the files are; whoever serves pages serves them too.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["static_folder"]


def static_folder() -> Path:
    """
    The folder of the shared files.

    Examples
    --------
    >>> sorted(file.name for file in static_folder().iterdir())
    ['caliber.css', 'caliber.svg', 'elements.js']
    """
    return Path(str(files(__package__))) / "static"
