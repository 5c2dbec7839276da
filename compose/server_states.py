"""What a balancer's operators set while it runs (drain, halt), taken over a reload in a file."""

from __future__ import annotations

from pathlib import Path

from lbconfig.runtime_api import MasterCli, RuntimeApi

_NO_STATES = "1\n"  # the format's version, and nothing


def forget_states(file: Path) -> None:
    """Write a file that holds no state: a HAProxy that starts with it calls servers what its checks say."""
    _write(file, _NO_STATES)


def reload_with_states(master: MasterCli, api: RuntimeApi, file: Path) -> None:
    """Reload HAProxy so that what is drained or halted stays so; return when the new worker serves.

    The file is emptied afterwards: a HAProxy that starts afresh days later would take up a halt that has long been undone.

    Raises
    ------
    BalancerError
        When the states cannot be read, or the reload fails.
    """
    _write(file, api.server_states())
    try:
        master.reload()
    finally:
        forget_states(file)


def _write(file: Path, states: str) -> None:
    """Write a file whole or not at all: HAProxy reads whatever is there."""
    written = file.with_suffix(".new")
    written.write_text(states)
    written.replace(file)
