from __future__ import annotations

from pathlib import Path

from scenarios.load.recording import Recorder
from scenarios.load.records import ARRIVAL_FIELDS, ARRIVAL_MAGIC, Arrival, Fate, WaitedFor
from simulators.client import Attempt, Begun, Target
from simulators.operations import Identity, Kind, Outcome, Phase, Service, read_operations, read_records
from simulators.pulse import PULSE_FIELDS, PULSE_MAGIC, Pulse, pulse_path

OPERATION = Begun(Attempt(Identity(1, Kind.QUERY, 3, 1)), Target("127.0.0.1", 1, Service.DMWL), "127.1.0.1").ended(
    Outcome.ACKNOWLEDGED, Phase.DONE, None
)
ARRIVAL = Arrival(1, 3, Service.DMWL, Fate.DONE, WaitedFor.NOTHING, 10, 20, 30, 1, 0, 2500)


def test_an_operation_is_in_the_file_as_soon_as_it_was_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 3)
    recorder.operation(OPERATION)
    recorder.arrival(ARRIVAL)  # nothing is closed yet: a kill would lose neither
    (found,) = read_operations(tmp_path / "generator-3.operations")
    assert found == OPERATION._replace(node=bytes(16))
    assert list(read_records(tmp_path / "generator-3.arrivals", ARRIVAL_MAGIC, ARRIVAL_FIELDS)) == [tuple(ARRIVAL)]
    recorder.close()


def test_a_pulse_counts_the_operations_so_far(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 3)
    recorder.operation(OPERATION)
    recorder.beat(7_000_000, 4)
    recorder.last_pulse(5)
    recorder.close()
    (values,) = read_records(pulse_path(tmp_path, "generator-3"), PULSE_MAGIC, PULSE_FIELDS)
    pulse = Pulse(*values)
    assert (pulse.lag_max_ns, pulse.beats, pulse.connections, pulse.handled) == (7_000_000, 1, 5, 1)


def test_a_generator_that_plays_again_appends_to_its_files(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path, 3)
        recorder.operation(OPERATION)
        recorder.close()
    assert len(list(read_operations(tmp_path / "generator-3.operations"))) == 2
