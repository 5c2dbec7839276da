from pathlib import Path

import numpy as np

from scenarios.frames import operations_frame, receipts_frame
from simulators.journal import journal_path
from simulators.operations import Service
from tests.benchmarks.checkers import judge_all
from tests.benchmarks.load_records import NODES, Place, write


def test_every_checker_passes_over_the_records_of_a_run_in_which_nothing_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, 200_000)
    judged = judge_all(tmp_path)
    assert set(judged.verdicts.values()) == {"pass"}
    assert len(judged.verdicts) == 31
    assert judged.operations == 200_000


def test_the_records_are_of_eight_generators_and_their_receipts_are_shuffled(tmp_path: Path) -> None:
    write(tmp_path, 20_000)
    place = Place.below(tmp_path)
    operations = operations_frame(place.histories.glob("*.operations"))
    receipts = receipts_frame([journal_path(place.nodes / node, Service.HL7) for node in NODES])
    assert np.unique(operations["key"].to_numpy() >> np.uint64(44)).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not receipts["received_ns"].is_sorted()
    assert operations.filter(operations["attempt"] == 2).height > 0
