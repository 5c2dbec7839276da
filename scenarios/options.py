"""The options of a run, as the report's contract names them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

import msgspec

from scenarios.catalogue import BY_ID, LAB_ABILITIES, PROFILES, profile_of

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_SITE = ROOT / "lbconfig" / "sites" / "loopback.toml"
HARDENED_SITE = ROOT / "lbconfig" / "sites" / "hardened_loopback.toml"
PAIR_HARDENED_SITE = ROOT / "lbconfig" / "sites" / "hardened.toml"
TRANSPARENT_SITE = ROOT / "lbconfig" / "sites" / "transparent.toml"
TWO_ARM_SITE = ROOT / "lbconfig" / "sites" / "two-arm.toml"
PROXIED_SITE = ROOT / "lbconfig" / "sites" / "proxied_loopback.toml"
DEFAULT_OUT = Path("out") / "report"
MOST_PROCESSES = 64
MOST_WORKERS = 32  # so many addresses the lab's network has for them
MOST_EXAMS = 1_000_000_000  # a year, as in a site file
LabKind = Literal["native", "compose"]
SITE_OF_LAB: dict[LabKind, Path] = {"native": DEFAULT_SITE, "compose": ROOT / "lbconfig" / "sites" / "brief.toml"}
LoadShape = Literal["steady", "steps", "day"]


class UsageError(Exception):
    """An option cannot be used; the message says which, what was expected and what was found."""


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What load runs are told beyond the site file; None: as the profile has it.

    Parameters
    ----------
    exams_per_year : float or None
        In place of the site's own.
    duration_s : float or None
        Of the main run of the profile.
    factor : float or None
        Times the peak hour's rate.
    shape : str
        steady, steps or day.
    processes : int
        Generator processes; 1: Locust in one process, without a master.
    page : int or None
        The port of Locust's own page, on 127.0.0.1.
    workers : int
        Of a lab in containers: how many containers are the generators; 0: the tester itself.
    """

    exams_per_year: float | None = None
    duration_s: float | None = None
    factor: float | None = None
    shape: LoadShape = "steady"
    processes: int = 1
    page: int | None = None
    workers: int = 0

    @property
    def generators(self) -> int:
        """How many generators take part."""
        return self.workers or self.processes


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `preflight accept` and `pytest scenarios/` are told.

    Parameters
    ----------
    site : Path
        The site file.
    lab : str
        Where it runs: native, or compose (in containers).
    profile : str
        A set of checks by name.
    seed : int
        Of every random choice.
    only : tuple of str
        Check ids (`PERSIST-1`, or `PERSIST-1/HL7` for one VIP); empty: all.
    out : Path
        The report's folder.
    plant : str or None
        The id of a defect that is put there on purpose.
    images, messages : Path or None
        Folders of the user's own samples.
    load : LoadOptions
        Of load runs.
    shown_site, shown_out : Path or None
        What `site` and `out` are called where the report is read, if that is another machine.
    """

    site: Path = DEFAULT_SITE
    lab: LabKind = "native"
    profile: str = "standard"
    seed: int
    only: tuple[str, ...] = ()
    out: Path = DEFAULT_OUT
    plant: str | None = None
    images: Path | None = None
    messages: Path | None = None
    load: LoadOptions = LoadOptions()
    shown_site: Path | None = None
    shown_out: Path | None = None


def checked(options: Options) -> Options:
    """Return the options, or raise UsageError for the first that cannot be used."""
    if options.profile not in PROFILES:
        raise UsageError(f"--profile: expected one of {', '.join(PROFILES)}, found {options.profile}")
    if options.profile == "pair" and not profile_of("pair", options.lab).trials:
        raise UsageError(f"--profile: pair needs a lab with a pair of balancers, which the {options.lab} lab has not")
    for wanted in options.only:
        check = BY_ID.get(wanted.partition("/")[0])
        if check is not None and not check.built:
            raise UsageError(f"--only: {wanted} is in the catalogue, but this version cannot run it yet")
        if check is not None and check.needs and check.needs not in LAB_ABILITIES[options.lab]:
            raise UsageError(f"--only: {wanted} needs {check.needs}, which the {options.lab} lab has not")
        if check is not None and check.id not in profile_of(options.profile, options.lab).checks:
            others = [name for name, profile in PROFILES.items() if check.id in profile.checks]
            raise UsageError(
                f"--only: expected a check of the profile {options.profile}, found {wanted}: add --profile {others[0]}"
            )
    for name, folder in (("--images", options.images), ("--messages", options.messages)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{name}: expected a folder, found {folder}")
    _check_load(options.load)
    if options.load.workers and options.lab != "compose":
        raise UsageError(f"--workers: expected beside --lab compose, found --lab {options.lab}")
    if options.load != LoadOptions() and not PROFILES[options.profile].is_load:
        loads = ", ".join(name for name, profile in PROFILES.items() if profile.is_load)
        raise UsageError(f"--profile: expected one of {loads} beside options of load runs, found {options.profile}")
    return options


def _check_load(load: LoadOptions) -> None:
    exams = load.exams_per_year
    if exams is not None and not 1 <= exams <= MOST_EXAMS:
        raise UsageError(f"--exams-per-year: expected 1 to {MOST_EXAMS}, found {exams}")
    for name, value in (("--duration", load.duration_s), ("--factor", load.factor)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name}: expected a number above 0, found {value}")
    if not 1 <= load.processes <= MOST_PROCESSES:
        raise UsageError(f"--processes: expected 1 to {MOST_PROCESSES}, found {load.processes}")
    if not 0 <= load.workers <= MOST_WORKERS:
        raise UsageError(f"--workers: expected 0 to {MOST_WORKERS}, found {load.workers}")
    if load.workers and load.processes > 1:
        raise UsageError(f"--processes: expected 1 beside --workers, found {load.processes}")
    if load.page is not None and not 1 <= load.page <= 65535:
        raise UsageError(f"--page: expected a port, found {load.page}")


def fresh_seed() -> int:
    """Return a seed of 32 bits for a run that was given none."""
    return secrets.randbits(32)
