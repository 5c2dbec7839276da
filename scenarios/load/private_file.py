"""Values in files that hold a password: JSON, readable by their owner alone."""

from __future__ import annotations

from pathlib import Path

import msgspec


def write_private(value: msgspec.Struct, path: Path) -> None:
    """Write a value, for other processes of the same user to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # before the password is in it
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
