"""What associations cost that do nothing: 5,000 on our wire engine, against 50 on the pynetdicom engine.

Method. Both SCPs run at the same time, each with its associations open and silent. A round is two seconds in which the time
that each process spent on a processor is read from the kernel (/proc/PID/schedstat, nanoseconds). Memory is what the process
has to itself (USS), less what it had before the first association, at the end; the kernel's socket buffers are not in it.
The peer's figures are for its own 50: what they cost is shown for comparison, the bars are the two maxima.
"""

from __future__ import annotations

import resource
import select
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from simulators.client import Target, Timeouts
from simulators.dicom.association import Association
from simulators.dicom.dimse import VERIFICATION
from simulators.dicom.negotiation import ProposedContext
from simulators.operations import Service

from .dicom_store import AE_TITLE
from .nodes import running_scp
from .rows import Row, row_of_maximum

_OURS, _PEERS = 5000, 50
_CORE_MAX = 0.02  # of one core, for all of ours
_KB_MAX = 40.0  # for each
_WINDOW_S = 2.0
_LEAST_NS = 100_000  # of a window: a process that does nothing at all is credited with this
_TIMEOUTS = Timeouts(connect_s=10, negotiate_s=20, send_s=10, response_s=10)
_CONTEXTS = (ProposedContext(VERIFICATION, ("1.2.840.10008.1.2",)),)


class _Crowd(NamedTuple):
    process: psutil.Process
    associations: int
    bytes_before: int

    def busy_ns(self) -> int:
        """Return the time that the process has spent on processors."""
        return sum(
            int((thread / "schedstat").read_text().split()[0]) for thread in Path(f"/proc/{self.process.pid}/task").iterdir()
        )

    def each_bytes(self) -> float:
        """Return what each association takes of memory."""
        return max(1, self.process.memory_full_info().uss - self.bytes_before) / self.associations


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure, and return a row for the processor and one for memory.

    Parameters
    ----------
    rounds : int
        Windows of two seconds.
    quick : bool
        A window of a quarter of a second: to see that it works, not to quote.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    window_s = _WINDOW_S / 8 if quick else _WINDOW_S
    with tempfile.TemporaryDirectory(prefix="preflight-bench-") as directory, ExitStack() as stack:
        ours = stack.enter_context(_crowd("simulators.dicom.wire_scp", Path(directory) / "ours", _OURS))
        theirs = stack.enter_context(_crowd("simulators.dicom.storage_scp", Path(directory) / "theirs", _PEERS))
        cores: dict[_Crowd, list[float]] = {ours: [], theirs: []}
        for _ in range(rounds):
            before = {crowd: crowd.busy_ns() for crowd in cores}
            select.select([], [], [], window_s)  # the window that is measured: nothing is awaited
            for crowd, figures in cores.items():
                figures.append(max(_LEAST_NS, crowd.busy_ns() - before[crowd]) / (window_s * 1e9))
        each_ours, each_theirs = ([crowd.each_bytes() / 1024] * rounds for crowd in (ours, theirs))
    peer = f"pynetdicom at {_PEERS}"
    return [
        row_of_maximum(f"{_OURS:,} idle associations", "core", cores[ours], _CORE_MAX, peers={peer: cores[theirs]}),
        row_of_maximum(f"{_OURS:,} idle associations, each", "KB", each_ours, _KB_MAX, peers={peer: each_theirs}),
    ]


@contextmanager
def _crowd(module: str, directory: Path, count: int) -> Iterator[_Crowd]:
    with running_scp(module, directory, count + 10) as (process, port), ExitStack() as stack:
        node = psutil.Process(process.pid)
        crowd = _Crowd(node, count, node.memory_full_info().uss)
        for _ in range(count):
            association = Association(
                Target("127.0.0.1", port, Service.DICOM), "127.1.0.1", calling_ae="BENCH", called_ae=AE_TITLE,
                contexts=_CONTEXTS, timeouts=_TIMEOUTS,
            )  # fmt: skip
            stack.callback(association.close)
        yield crowd
