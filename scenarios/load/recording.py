"""What one generator writes down: its operations, its arrivals, its pulse.

Each operation is written by one `write(2)` as soon as its fate is known (1.7 µs, beside the 100 µs that an operation costs
at least). So a generator that is killed with -9 loses no more than what was under way in it: the operation that each of its
clients was waiting for. A node may hold those payloads, and no history names them. Locust's master therefore ends with an
error when a generator has died, and such a run is not judged.
"""

from __future__ import annotations

from pathlib import Path

from simulators.operations import Operation, operation_file
from simulators.pulse import PulseWriter, pulse_path

from .records import Arrival, arrival_file


class Recorder:
    """The files of one generator. It writes at once; nothing of it waits in memory.

    Parameters
    ----------
    records : Path
        The run's folder.
    generator : int
        Its number.

    Raises
    ------
    RecordError
        When a file holds something else, or cannot be written.
    """

    def __init__(self, records: Path, generator: int) -> None:
        self.generator = generator
        self.handled = 0
        name = f"generator-{generator}"
        self._operations = operation_file(records / f"{name}.operations")
        self._arrivals = arrival_file(records / f"{name}.arrivals")
        self._pulse = PulseWriter(pulse_path(records, name))

    def operation(self, operation: Operation) -> None:
        """Write down one attempt."""
        self.handled += 1
        self._operations.append((operation,))

    def arrival(self, arrival: Arrival) -> None:
        """Write down one arrival."""
        self._arrivals.append((arrival,))

    def beat(self, lag_ns: int, connections: int) -> None:
        """Take one wake-up of the event loop, which came `lag_ns` too late; every twentieth becomes a pulse."""
        self._pulse.beat(lag_ns, connections, self.handled)

    def last_pulse(self, connections: int) -> None:
        """Write a pulse now: the end of a run."""
        self._pulse.write(connections, self.handled)

    def close(self) -> None:
        """Close the files."""
        self._operations.close()
        self._arrivals.close()
        self._pulse.close()
