"""Every planted defect is caught by the check that it names, on the VIP that it names."""

import subprocess
import sys
from pathlib import Path

from reports.writer import read_report
from scenarios.options import ROOT
from scenarios.plants import Plant

RUN_WITHIN_S = 600
CODES = {"fail": ("fail", 1), "unknown": ("incomplete", 3)}  # what the whole report says then, and the command's code


def test_the_named_check_catches_it_on_the_named_vip(site: Path, plant: Plant, tmp_path: Path) -> None:
    out = tmp_path / "report"
    command = [
        sys.executable, "-m", "preflight", "accept", "--plant", plant.id, "--profile", plant.profile, "--only", plant.check,
        "--site", str(site), "--lab", plant.lab, "--out", str(out),
    ]  # fmt: skip
    command += ["--duration", "60"] if plant.profile == "soak" else []
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)
    report = read_report(out / "report.json")
    named = f"{plant.check}/{plant.vip}" if plant.vip else plant.check
    verdicts = {check.id: (check.verdict, check.reason) for check in report.checks}
    assert verdicts[named][0] == plant.verdict, f"{named}: {verdicts[named]}\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
    whole, code = CODES[plant.verdict]
    assert (run.returncode, report.verdict, report.plant) == (code, whole, plant.id)
    assert plant.id in (out / "index.html").read_text(encoding="utf-8")
    if plant.id.startswith("node-slowed"):  # it fails there and only there
        assert [check for check, (verdict, _) in verdicts.items() if verdict == "fail"] == [named], verdicts
