"""What a process does that serves until it is told to end: in a container, where it is process 1, and on the host."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

from lbconfig.site_file import SiteError

from .lab import LabError


@contextlib.contextmanager
def until_sigterm() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end what is done inside, in order; a LabError or SiteError ends it with a message, code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # process 1 has no default of its own for it
    try:
        yield
    except KeyboardInterrupt:
        return
    except (LabError, SiteError) as error:
        sys.exit(str(error))
