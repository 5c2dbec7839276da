from pathlib import Path

from simulators.dicom.arrival import Arrival, Digested
from simulators.dicom.store_handler import STORED, StoreHandler
from simulators.misbehaviour import Misbehaviour
from simulators.operations import Identity, Kind
from simulators.service import ServiceSettings


def test_one_image_in_5000_is_acknowledged_and_not_recorded(tmp_path: Path) -> None:
    settings = ServiceSettings(
        node="mach7-1", service="dicom", listen_fd=0, directory=str(tmp_path), site_directories=(str(tmp_path),),
        storage="digest", misbehaviour=(Misbehaviour.LOSES_EVERY_5000TH,),
    )  # fmt: skip
    handler = StoreHandler(settings)
    arrival = Arrival("1.2.840.10008.5.1.4.1.1.2", Identity(1, Kind.INSTANCE, 1, 1).uid, "1.2.840.10008.1.2", Digested(),
                      ("127.0.0.1", 1), "PREFLIGHT")  # fmt: skip
    answers = [handler.take(arrival) for _ in range(10_000)]
    handler.close()
    assert [number for number, answer in enumerate(answers, 1) if answer == STORED] == [2500, 7500]
