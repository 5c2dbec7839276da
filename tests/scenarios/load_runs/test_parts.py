"""What is seen of a real lab: a real HAProxy, services that write their pulses, and the kernel's own counts."""

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from compose.keeper_client import CHECKOUT
from compose.lab import LabError
from compose.native import NativeLab
from compose.ports import check_free
from lbconfig.site_file import load_site
from scenarios.load_runs import kernel_figures as kernel
from scenarios.load_runs.frames import arrivals_frame, part_of_pulse, pulse_paths, pulses_frame
from scenarios.load_runs.parts import SAMPLE_EVERY_S, PartsWatch
from scenarios.load_runs.parts_seen import PartsSeen, ProcessMoment, lag_quantile_s
from scenarios.options import DEFAULT_SITE
from simulators.operations import RecordError, RecordFile
from simulators.pulse import BEAT_S, PULSE_FIELDS, PULSE_MAGIC, Pulse
from tests.scenarios.conftest import SECOND
from tests.scenarios.load_histories import arrival, balancer, machine, parts, process, written

LIMIT_S = 30.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeLab]:
    """Have a lab for crowds up, on a block of 127.0.0.0/8 where nobody listens."""
    text = (CHECKOUT / "lbconfig" / "sites" / "loopback.toml").read_text()
    chance, path = random.Random(os.getpid()), tmp_path_factory.mktemp("site") / "site.toml"
    while True:
        path.write_text(text.replace("127.0.110.", f"127.{chance.randint(64, 190)}.{chance.randint(1, 254)}."))
        with contextlib.suppress(LabError):
            check_free([(vip.address, vip.port) for vip in load_site(path).vip])
            break
    site = load_site(path)
    crowds = msgspec.structs.replace(
        site, engines=msgspec.structs.replace(site.engines, storage="wire", worklist="wire"),
        dicom=msgspec.structs.replace(site.dicom, storage="digest"),
    )  # fmt: skip
    with NativeLab(crowds, tmp_path_factory.mktemp("lab")) as running:
        yield running


def watched(lab: NativeLab, enough: Callable[[PartsSeen], bool]) -> PartsSeen:
    """Watch until enough was seen."""
    deadline = time.monotonic() + LIMIT_S
    with PartsWatch(lab) as watch:
        while not enough(seen := watch.seen()):
            assert time.monotonic() < deadline, f"expected enough to be seen, found {seen.parts}, {len(seen.machine)} samples"
            threading.Event().wait(SAMPLE_EVERY_S)
    return watch.seen()


def test_every_part_of_a_lab_is_seen(lab: NativeLab) -> None:
    services = {f"node/{node.name}/{service}" for node in lab.site.node for service in ("dicom", "dmwl")}
    seen = watched(lab, lambda seen: services <= set(seen.parts) and all(one.moments for one in seen.processes))
    assert {one.part for one in seen.processes} >= services
    assert all(moment.rss_bytes > 0 for one in seen.processes for moment in one.moments)
    assert all(moment.beats for one in seen.processes for moment in one.moments[1:-1])
    edges = [
        moment for one in seen.processes for moment in (one.moments[0], one.moments[-1])
    ]  # may be cut, to less than a beat
    assert all(moment.beats or moment.over_s < 2 * BEAT_S for moment in edges)
    last = seen.balancer[-1]
    assert (last.maxconn, last.threads >= 1, 0 <= last.idle_share <= 1) == (lab.balancer.info().maxconn, True, True)
    assert [vip.vip for vip in last.vips] == [vip.name for vip in lab.site.vip]
    assert last.cpu_cores is not None
    assert last.rss_bytes is not None
    assert last.open_files is not None
    assert 0 < last.open_files < last.file_limit
    assert 0 <= seen.machine[-1].busy_cores <= seen.machine[-1].cores
    assert {"balancer", "harness", *services} <= set(seen.mean_cores())
    assert (seen.strange_cores() or 0) >= 0


def test_the_sessions_of_each_vip_are_seen(lab: NativeLab) -> None:
    vip = lab.site.vip_of("hl7")
    with socket.create_connection((vip.address, vip.port), LIMIT_S):
        seen = watched(lab, lambda seen: any(counts.sessions for moment in seen.balancer for counts in moment.vips))
    busy = {counts.vip for moment in seen.balancer for counts in moment.vips if counts.sessions}
    assert busy == {vip.name}


def test_a_run_of_hours_is_looked_at_so_seldom_that_nothing_grows(tmp_path: Path) -> None:
    lab = NativeLab(load_site(DEFAULT_SITE), tmp_path)
    assert [PartsWatch(lab, hours * 3600).every_s for hours in (0.5, 1, 10)] == [0.5, 0.5, 5.0]


def test_a_balancer_on_another_machine_keeps_its_cpu_to_itself(lab: NativeLab) -> None:
    watch = PartsWatch(lab)
    assert watch._used_by(os.getpid()) is None  # a process of this number is here, and it is no HAProxy


def test_connections_that_wait_to_be_accepted_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        place = listener.getsockname()
        assert kernel.accept_queues([place, ("127.0.0.1", 1)]) == {place: 0}
        with socket.create_connection(place), socket.create_connection(place):
            assert kernel.accept_queues([place]) == {place: 2}


def test_the_source_with_the_most_ports_towards_one_place_is_found() -> None:
    source = f"127.{os.getpid() % 100 + 100}.77.3"
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener, contextlib.ExitStack() as kept:
        for _ in range(150):
            kept.enter_context(socket.create_connection(listener.getsockname(), source_address=(source, 0)))
        found, count = kernel.busiest_source()
    assert count >= 150
    assert found == source or count > 150


def test_a_process_that_has_ended_has_no_figures() -> None:
    assert (kernel.process(2**22 - 1), kernel.open_files(2**22 - 1), kernel.siblings(2**22 - 1)) == (None, None, [])


def test_files_of_a_process_are_counted(tmp_path: Path) -> None:
    before = kernel.open_files(os.getpid())
    assert before is not None
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        assert kernel.open_files(os.getpid()) == before + 2


def pulses(directory: Path, *moments: Pulse) -> Path:
    path = directory / "pulses" / "generator-3-77.pulse"
    with RecordFile(path, PULSE_MAGIC, PULSE_FIELDS) as file:
        file.append(moments)
    return path


def pulse(at_s: float, cpu_s: float, *, lag_max_ms: int = 2, rss: int = 50) -> Pulse:
    return Pulse(round(at_s * SECOND), 77, round(cpu_s * SECOND), rss, lag_max_ms * 1_000_000, 20_000_000, 20, 3, 9)


def test_pulses_become_the_moments_of_a_process(tmp_path: Path) -> None:
    pulses(tmp_path, pulse(1, 10), pulse(2, 10.5), pulse(4, 11.5, lag_max_ms=7))
    (seen,) = PartsSeen().with_pulses(pulses_frame(pulse_paths(tmp_path))).processes
    assert (seen.part, seen.pid) == ("generator/3", 77)
    assert seen.moments == (
        ProcessMoment(2 * SECOND, 1.0, 0.5, 0.002, 0.001, 20, 50, 3, 9),
        ProcessMoment(4 * SECOND, 2.0, 0.5, 0.007, 0.001, 20, 50, 3, 9),
    )


def test_a_pulse_is_named_by_its_path() -> None:
    assert part_of_pulse(Path("load/peak/pulses/generator-12-4711.pulse")) == "generator/12"
    assert part_of_pulse(Path("nodes/mach7-1/pulses/hl7-4711.pulse")) == "node/mach7-1/hl7"


def test_a_record_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = pulses(tmp_path, pulse(1, 10), pulse(2, 11))
    path.write_bytes(path.read_bytes()[:-5])
    assert pulses_frame([path]).height == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="PFARRIVALS"):
        arrivals_frame([pulses(tmp_path, pulse(1, 10))])


def test_arrivals_are_read_from_every_generator(tmp_path: Path) -> None:
    assert arrivals_frame([]).height == 0
    assert written(tmp_path, [arrival(0), arrival(1, generator=2)])["generator"].to_list() == [1, 2]


def test_what_was_seen_is_cut_at_the_edges_of_a_time() -> None:
    later = process("node/n3/hl7")._replace(moments=process().moments[49:])
    seen = parts(later).during(10 * SECOND + SECOND // 4, 12 * SECOND)
    assert [(moment.at_ns // SECOND, moment.over_s) for moment in seen.machine] == [(11, 0.75), (12, 1.0)]
    assert [(moment.over_s, moment.beats) for moment in seen.of("generator/1")[0].moments] == [(0.75, 15), (1.0, 20)]
    assert "node/n3/hl7" not in seen.parts


def test_cpu_is_the_same_however_pulses_and_samples_fall() -> None:
    rare = process(cpu=0.9, seconds=range(3, 61, 3))
    seen = parts(rare).during(10 * SECOND, 12 * SECOND)
    assert seen.mean_cores()["generator/1"] == pytest.approx(0.9)


def test_what_strangers_used_is_what_nobody_of_the_run_did() -> None:
    seen = parts(balancer=balancer(cpu=0.5), machine=machine(busy=3.0))  # 0.3 + 0.2 + 0.2 by processes, 0.05 by the harness
    assert seen.strange_cores() == pytest.approx(1.75)
    assert PartsSeen().strange_cores() is None


def test_the_quantile_of_lag_is_found_from_the_latest_of_each_second() -> None:
    moments = [process(lag_ms=lag).moments[0] for lag in range(1, 101)]
    assert lag_quantile_s(moments) == pytest.approx(0.082)  # 0.99 ** 20 of 100 values: the 82nd
    assert lag_quantile_s([]) == 0
