"""What is handed over when a run ends: records as Parquet, the raw logs and journals, and the report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from compose.lab import CanReadJournals, CanSteerBalancer, Lab
from reports.verdict import BalancerSeen, Pictures, Report, ReportVerdict
from reports.writer import write_report
from scenarios.acceptance import Acceptance, sha256
from scenarios.episodes import Episode
from scenarios.frames import columns
from scenarios.load_runs.stories import LoadPlayed
from scenarios.pair_pictures import takeovers_seen
from scenarios.pictures import pictures_of
from scenarios.run import Run
from scenarios.takeovers import UnitEpisode
from simulators.operations import RecordError

EXIT_OF: dict[ReportVerdict, int] = {"pass": 0, "pass_with_waivers": 0, "fail": 1, "incomplete": 3}
OPERATIONS = "operations.parquet"
RECEIPTS = "receipts.parquet"
PICTURED = ("workload", "service", "way", "outcome", "source", "node", "begun_ns", "ended_ns")
BALANCER_LOG = "logs/haproxy.log"
BALANCER_CONFIGURATION = "logs/haproxy.cfg"


def lab_directory(out: Path) -> Path:
    """Return where the lab of a run lives while it runs; its logs and journals stay, the rest is removed with it."""
    return out / "logs" / "lab"


def balancer_seen(lab: Lab, product: str) -> BalancerSeen:
    """Return the balancer as it is: product, version, and the digest of the configuration that it runs."""
    if not isinstance(lab, CanSteerBalancer):
        return BalancerSeen(product=product, version="not told", configuration_sha256="")
    return BalancerSeen(
        product=product, version=lab.balancer.info().version, configuration_sha256=sha256(lab.configuration_file)
    )


def write_records(run: Run, out: Path) -> pl.DataFrame:
    """Write all operations and receipts of a run as Parquet, piece by piece; return the operations, as far as pictures go."""
    operations = run.scan_all_operations()
    operations.sink_parquet(out / OPERATIONS)
    run.scan_all_receipts().sink_parquet(out / RECEIPTS)
    return columns(operations, *PICTURED)


def keep_logs(lab: Lab, out: Path) -> None:
    """Keep a lab's configuration, logs and journals below `out/logs`, and remove what else it left in its own folder."""
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for log in sorted((lab.directory / "logs").glob("*")):
        shutil.copyfile(log, logs / log.name)
    if isinstance(lab, CanSteerBalancer):
        for source, name in ((lab.configuration_file, BALANCER_CONFIGURATION), (lab.log_file, BALANCER_LOG)):
            if source.exists():
                shutil.copyfile(source, out / name)
    if isinstance(lab, CanReadJournals):
        for node, folder in lab.node_directories().items():
            for record in sorted((*folder.glob("journal/*.receipts"), *folder.glob("pulses/*.pulse"))):
                _keep(record, logs / f"{node}-{record.name}")
    for history in sorted(lab.directory.glob("*.operations")):
        shutil.move(history, logs / history.name)
    for plan in lab.directory.glob("load/*/plan.json"):
        plan.unlink()  # it holds a password
    if (lab.directory / "load").exists():
        shutil.move(lab.directory / "load", logs / "load")
    shutil.rmtree(lab.directory, ignore_errors=True)


def _keep(record: Path, target: Path) -> None:
    """Keep a record that may still be written where it is: a node of a lab that outlives this run goes on with it."""
    try:
        target.hardlink_to(record)
    except OSError:  # on another file system
        shutil.copyfile(record, target)


def hand_over(
    acceptance: Acceptance, lab: Lab | None, run: Run | None, episodes: Sequence[Episode], takeovers: Sequence[UnitEpisode],
    load: LoadPlayed, out: Path,
) -> Report:  # fmt: skip
    """Write everything into `out` and return the report.

    Without a run (the lab never came up) there is only the report. Where records or logs cannot be written (the disk is
    full, somebody removed them) no pass stands: the report says so, and is incomplete.
    """
    pictures = Pictures()
    try:
        if run is not None:
            operations = write_records(run, out)
            pictures = pictures_of(run.site, operations, episodes, run.started_ns)
            seen = takeovers_seen(run, takeovers)
            pictures = msgspec.structs.replace(pictures, takeovers=seen, load=load.stories(run))
            run.close()
        if lab is not None:
            keep_logs(lab, out)
    except (OSError, RecordError, pl.exceptions.PolarsError) as error:
        acceptance.doubt(f"the evidence could not be kept: {error}")
    acceptance.drop_missing_evidence(out)
    report = acceptance.report()
    write_report(out, report, pictures)
    return report
