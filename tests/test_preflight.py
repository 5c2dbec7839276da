"""The command: what it refuses, what it lists, and the exit codes of reports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reports.writer import ClaimedFolder, read_report
from scenarios.options import DEFAULT_SITE, ROOT


def preflight(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PATH": path})
    return subprocess.run(
        [sys.executable, "-m", "preflight", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env=environment,
    )  # fmt: skip


BAD_SITES = {
    "wrong type": ("port = 6667", 'port = "6667"', "vip[1].port: expected", '"6667"'),
    "unknown key": ("retries = 3", "retrys = 3", "balancer.retrys: ", "retries"),
    "port out of range": ("port = 5104", "port = 0", "vip[2].port: expected 1 to 65535, found 0", ""),
    "two VIPs on one address and port": (
        'address = "127.0.110.101"\nport = 6667',
        'address = "127.0.110.100"\nport = 11112',
        "127.0.110.100:11112",
        "",
    ),
    "expired waiver": (
        "[balancer]",
        '[[waiver]]\ncheck = "PERSIST-1/HL7"\nby = "J. Doe"\nwhy = "no reason"\nuntil = 2020-01-31\n\n[balancer]',
        "waiver[0].until",
        "2020-01-31",
    ),
    "a required check that does not exist": (
        'nodes_are = "simulated"',
        'nodes_are = "simulated"\nrequired = ["REACH-1", "PERSIST-7"]',
        "required[1]",
        "did you mean PERSIST-",
    ),
    "a waiver of a check that this VIP does not have": (
        "[balancer]",
        '[[waiver]]\ncheck = "DMWL-1/HL7"\nby = "J. Doe"\nwhy = "no reason"\nuntil = 2099-01-31\n\n[balancer]',
        "waiver[0].check",
        "DMWL-1",
    ),
}


@pytest.mark.parametrize(("found", "replacement", "where", "what"), BAD_SITES.values(), ids=BAD_SITES)
def test_a_bad_site_file_is_one_clear_line_and_exit_2(
    tmp_path: Path, found: str, replacement: str, where: str, what: str
) -> None:
    text = DEFAULT_SITE.read_text(encoding="utf-8")
    assert found in text
    site = tmp_path / "hospital.toml"
    site.write_text(text.replace(found, replacement, 1), encoding="utf-8")
    run = preflight("accept", "--site", str(site), "--out", str(tmp_path / "report"))
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("hospital.toml: ")
    assert where in run.stderr
    assert what in run.stderr
    assert not (tmp_path / "report").exists()


def test_a_site_without_one_of_the_four_services_is_refused(tmp_path: Path) -> None:
    text = DEFAULT_SITE.read_text(encoding="utf-8")
    site = tmp_path / "hospital.toml"
    site.write_text(text[: text.rindex("[[vip]]")], encoding="utf-8")
    run = preflight("accept", "--site", str(site), "--out", str(tmp_path / "report"))
    assert run.returncode == 2
    assert "https" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--site", "nowhere.toml"),
        ("--only", "NOPE-1"),
        ("--only", "REACH-1/NOPE"),
        ("--only", "DMWL-1/HL7"),
        ("--only", "LOAD-1"),
        ("--duration", "10"),
        ("--profile", "load", "--factor", "nan"),
        ("--profile", "load", "--page", "1000000"),
        ("--plant", "nope"),
        ("--profile", "nope"),
        ("--lab", "moon"),
        ("--subnet", "10.1.1.0/24"),
        ("--lab", "compose", "--site", "lbconfig/sites/loopback.toml"),
        ("--lab", "compose", "--subnet", "10.1.0.0/16"),
        ("--lab", "compose", "--profile", "load", "--page", "8089"),
        ("--profile", "load", "--workers", "2"),
        ("--lab", "compose", "--profile", "load", "--workers", "33"),
        ("--images", "nowhere"),
        ("--site", "lbconfig/sites/brief.toml"),
        ("--what", "ever"),
    ],
)
def test_bad_usage_is_exit_2_and_starts_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run = preflight("accept", "--out", str(tmp_path / "report"), *arguments)
    assert run.returncode == 2
    assert run.stderr
    assert not (tmp_path / "report").exists()


def test_a_lab_in_containers_without_docker_is_exit_2_and_says_what_to_install(tmp_path: Path) -> None:
    run = preflight("accept", "--lab", "compose", "--out", str(tmp_path / "report"), path="/nowhere")
    assert run.returncode == 2
    assert run.stderr.strip() == (
        "docker: expected Docker Engine and Compose v2, found none. Install them: make docker-programs"
    )


def test_only_labs_in_containers_are_taken_down_by_name() -> None:
    run = preflight("lab", "down", "--lab", "native")
    assert run.returncode == 2
    assert "a native lab lives as long as the command that brought it up" in run.stderr


def test_a_missing_balancer_program_is_exit_2_and_says_what_to_install(tmp_path: Path) -> None:
    """A mount namespace of its own hides the program, wherever the distribution puts it."""
    hide = "for p in /usr/sbin/haproxy /usr/local/sbin/haproxy; do [ -e $p ] && mount --bind /dev/null $p; done"
    command = f"{hide}; exec {sys.executable} -m preflight accept --out {tmp_path / 'report'}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount namespace takes root")
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "haproxy" in run.stderr


def test_a_folder_that_another_run_writes_into_is_refused(tmp_path: Path) -> None:
    folder = ClaimedFolder(tmp_path / "report")
    try:
        run = preflight("accept", "--out", str(tmp_path / "report"))
    finally:
        folder.release()
    assert run.returncode == 2
    assert "another --out" in run.stderr


def test_a_site_that_requires_only_what_cannot_be_run_yet_is_incomplete_and_says_so(tmp_path: Path) -> None:
    site = tmp_path / "hospital.toml"
    text = DEFAULT_SITE.read_text(encoding="utf-8")
    site.write_text(text.replace("[balancer]", 'required = ["CONFIG-1"]\n\n[balancer]', 1), encoding="utf-8")
    run = preflight("accept", "--site", str(site), "--out", str(tmp_path / "report"))
    report = read_report(tmp_path / "report" / "report.json")
    assert (run.returncode, report.verdict) == (3, "incomplete")
    assert {check.reason for check in report.checks} == {"this version cannot run it yet"}


def test_plants_are_listed_for_other_programs() -> None:
    listed = json.loads(preflight("plants", "--json").stdout)
    assert len(listed) >= 14
    assert all(list(plant) == ["id", "breaks", "check", "vip"] for plant in listed)
    assert len({plant["id"] for plant in listed}) == len(listed)


def test_a_report_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    run = preflight("report", "--out", str(tmp_path))
    assert run.returncode == 2
    assert "preflight accept" in run.stderr


def test_half_the_knee_of_a_folder_without_a_report_is_one_clear_line(tmp_path: Path) -> None:
    run = preflight("load", "--soak", "--half-the-knee-of", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert f"--half-the-knee-of {tmp_path}: " in run.stderr
    assert "expected a report" in run.stderr


def test_half_the_knee_and_a_factor_exclude_each_other(tmp_path: Path) -> None:
    run = preflight("load", "--factor", "2", "--half-the-knee-of", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (run.returncode, run.stderr) == (2, "--factor: expected none beside --half-the-knee-of, found 2\n")
