"""The command `preflight`: it parses, calls, prints. Everything else lives in the rooms."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, cast, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from compose.bundle import write_bundle
from compose.images.build import BuildError
from compose.lab import LabError
from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site
from reports.errors import ReportError
from reports.terminal import print_verdict
from reports.writer import ClaimedFolder, read_report
from scenarios.handover import EXIT_OF
from scenarios.in_containers import CODE, docker_ready, play_in_containers, prepare_for_containers
from scenarios.lab_command import keep_lab_in_containers, keep_native_lab, show_labs, take_labs_down
from scenarios.load.model_table import print_model as print_load_model
from scenarios.load_runs.half_the_knee import NoKneeError, factor_at_half
from scenarios.load_runs.plans import under_load
from scenarios.options import (
    DEFAULT_OUT,
    ROOT,
    SITE_OF_LAB,
    LabKind,
    LoadOptions,
    LoadShape,
    Options,
    UsageError,
    checked,
    fresh_seed,
)
from scenarios.plants import plants
from scenarios.preparation import prepare

BAD_USAGE = 2
_SUITE = ("-p", "no:logging", "-p", "no:cacheprovider", "-s")  # of pytest, wherever it runs
INCOMPLETE = 3

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Proves a load-balanced imaging site."
)
lab_app = typer.Typer(no_args_is_help=True, help="Bring a lab up, to play with.")
app.add_typer(lab_app, name="lab")

SiteOption = Annotated[Path, typer.Option("--site", help="The site file.")]
LabsSiteOption = Annotated[Path | None, typer.Option("--site", help="The site file (default: the lab's own).")]
LabOption = Annotated[str, typer.Option("--lab", help="Where it runs: native, or compose (in containers).")]
SubnetOption = Annotated[
    str | None, typer.Option("--subnet", help="Of a compose lab: the network A.B.C.0/24 that its hosts are moved to.")
]
WorkersOption = Annotated[
    int, typer.Option("--workers", help="Of a compose lab: containers that play load, under one master.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="The seed of every random choice; a new one where none is given.")
]
ExamsOption = Annotated[
    float | None, typer.Option("--exams-per-year", help="Of load runs, in place of the site's own number.")
]
DurationOption = Annotated[float | None, typer.Option("--duration", help="Of the profile's main load run, in seconds.")]
FactorOption = Annotated[
    float | None,
    typer.Option("--factor", help="Of the main load run: times the peak hour's rate (default: the check's own)."),
]
ShapeOption = Annotated[str, typer.Option("--shape", help="How its arrivals are spread: steady, steps, day.")]
ProcessesOption = Annotated[int, typer.Option("--processes", help="Load generators; from two on under Locust's master.")]
PageOption = Annotated[
    int | None, typer.Option("--page", help="The port of Locust's own page, on 127.0.0.1, while the main load run lasts.")
]


@app.command()
def accept(
    site: LabsSiteOption = None,
    lab: LabOption = "native",
    subnet: SubnetOption = None,
    profile: Annotated[str, typer.Option(help="A set of checks by name.")] = "standard",
    seed: SeedOption = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A check id, such as PERSIST-1 or PERSIST-1/HL7; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The report's folder.")] = DEFAULT_OUT,
    plant: Annotated[str | None, typer.Option(help="A defect that is put there on purpose.")] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of DICOM files to store as well.")] = None,
    messages: Annotated[Path | None, typer.Option(help="A folder of HL7 files to send as well.")] = None,
    exams_per_year: ExamsOption = None,
    duration: DurationOption = None,
    factor: FactorOption = None,
    shape: ShapeOption = "steady",
    processes: ProcessesOption = 1,
    page: PageOption = None,
    workers: WorkersOption = 0,
) -> None:
    """Run the acceptance suite and hand over the report. Exit: 0 pass, 1 fail, 2 bad usage or site file, 3 incomplete."""
    kind = _lab_kind(lab)
    options = Options(
        site=site or SITE_OF_LAB[kind],
        lab=kind,
        profile=profile,
        seed=fresh_seed() if seed is None else seed,
        only=tuple(only or ()),
        out=out,
        plant=plant,
        images=images,
        messages=messages,
        load=_load_options(exams_per_year, duration, factor, shape, processes, page, workers),
    )
    _accept(options, subnet)


@app.command()
def load(
    site: LabsSiteOption = None,
    lab: LabOption = "native",
    subnet: SubnetOption = None,
    exams_per_year: ExamsOption = None,
    duration: DurationOption = None,
    factor: FactorOption = None,
    shape: ShapeOption = "steady",
    processes: ProcessesOption = 1,
    page: PageOption = None,
    workers: WorkersOption = 0,
    soak: Annotated[bool, typer.Option(help="At the average rate, for long, and judged by SOAK-1.")] = False,
    half_the_knee_of: Annotated[
        Path | None, typer.Option(help="The folder of a report with LOAD-4: the rate is half of what that found.")
    ] = None,
    print_model: Annotated[
        bool, typer.Option(help="Print the clinical load model and its sources, and run nothing.")
    ] = False,
    seed: SeedOption = None,
    out: Annotated[Path, typer.Option(help="The report's folder.")] = Path("out") / "load",
) -> None:
    """Put the load of a hospital on the site, and hand over the report of that run. Exit codes as of `accept`."""
    kind = _lab_kind(lab)
    asked = _load_options(exams_per_year, duration, factor, shape, processes, page, workers)
    if half_the_knee_of is not None:
        asked = _at_half_the_knee(site or SITE_OF_LAB[kind], asked, half_the_knee_of)
    options = Options(
        site=site or SITE_OF_LAB[kind],
        lab=kind,
        profile="soak" if soak else "rate",
        seed=fresh_seed() if seed is None else seed,
        out=out,
        load=asked,
    )
    if print_model:
        try:
            print_load_model(under_load(_site(options.site), checked(options).load).load, Console())
        except UsageError as error:
            _refuse(str(error))
        return
    _accept(options, subnet)


@app.command("plants")
def plants_command(
    site: LabsSiteOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """List the defects that can be put there on purpose, with the check that must see each."""
    sites = [site] if site is not None else list(SITE_OF_LAB.values())
    known = list({plant.id: plant for chosen in sites for plant in plants(_site(chosen))}.values())
    if as_json:
        listed = [{"id": plant.id, "breaks": plant.breaks, "check": plant.check, "vip": plant.vip} for plant in known]
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode() + "\n")
        return
    table = Table("plant", "what is broken", "must be caught by")
    for plant in known:
        table.add_row(plant.id, plant.breaks, f"{plant.check}/{plant.vip}" if plant.vip else plant.check)
    Console().print(table)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="The report's folder.")] = DEFAULT_OUT,
) -> None:
    """Print the verdict of a report that was written before; exit as `accept` did."""
    try:
        found = read_report(out / "report.json")
    except ReportError as error:
        _refuse(str(error))
    print_verdict(found, out / "index.html", Console())
    raise typer.Exit(EXIT_OF[found.verdict])


@lab_app.command("up")
def lab_up(
    site: LabsSiteOption = None,
    lab: LabOption = "native",
    subnet: SubnetOption = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Where it keeps logs, journals, images (default: a new folder in out/)."),
    ] = None,
    for_load: Annotated[
        bool, typer.Option("--for-load", help="As load runs have it: nodes for crowds, which keep receipts and no images.")
    ] = False,
) -> None:
    """Bring a lab up, print where everything is, and take it down at Ctrl-C."""
    kind = _lab_kind(lab)
    _check_subnet(kind, subnet)
    path = site or SITE_OF_LAB[kind]
    place = directory or Path("out") / f"lab-{time.strftime('%Y%m%d-%H%M%S')}"
    console = Console()
    try:
        if kind == "compose":
            keep_lab_in_containers(path, subnet, place, console, for_load=for_load)
        else:
            keep_native_lab(_site(path), path, place, console, for_load=for_load)
    except (UsageError, SiteError) as error:
        _refuse(str(error))
    except LabError as error:
        console.print(str(error), highlight=False, soft_wrap=True, markup=False, style="bold red")
        raise typer.Exit(INCOMPLETE) from error


@lab_app.command("status")
def lab_status(lab: LabOption = "compose") -> None:
    """Say which labs in containers are there, whoever brought them up."""
    _told_of_containers(lab, show_labs)


@lab_app.command("down")
def lab_down(
    names: Annotated[list[str] | None, typer.Argument(help="As `lab status` names them; none: all.")] = None,
    lab: LabOption = "compose",
) -> None:
    """Take down the labs in containers that are there, and what was left of earlier ones."""
    _told_of_containers(lab, lambda console: take_labs_down(names or [], console))


@lab_app.command("bundle")
def lab_bundle(
    out: Annotated[Path, typer.Option(help="The archive's file.")] = Path("out") / "preflight-bundle.tar",
) -> None:
    """Pack one archive that installs both labs on a machine without a network: code, wheels, programs, images."""
    console = Console(stderr=True)
    try:
        bundle = write_bundle(out, lambda doing: console.print(f"{time.strftime('%H:%M:%S')} {doing}", highlight=False))
    except (BuildError, LabError) as error:
        _refuse(str(error))
    console.print(
        f"{bundle.size_bytes / 1e6:.0f} MB; there: tar xf {bundle.file.name}, and in its folder ./install", highlight=False
    )
    sys.stdout.write(f"{bundle.sha256}  {bundle.file}\n")


def main() -> None:
    """Run the command."""
    app()


def _load_options(
    exams_per_year: float | None, duration_s: float | None, factor: float | None, shape: str, processes: int,
    page: int | None, workers: int,
) -> LoadOptions:  # fmt: skip
    if shape not in get_args(LoadShape):
        _refuse(f"--shape: expected one of {', '.join(get_args(LoadShape))}, found {shape}")
    return LoadOptions(
        exams_per_year=exams_per_year,
        duration_s=duration_s,
        factor=factor,
        shape=cast(LoadShape, shape),
        processes=processes,
        page=page,
        workers=workers,
    )


def _at_half_the_knee(site: Path, asked: LoadOptions, out: Path) -> LoadOptions:
    if asked.factor is not None:
        _refuse(f"--factor: expected none beside --half-the-knee-of, found {asked.factor:g}")
    try:
        factor = factor_at_half(under_load(_site(site), asked), out)
    except NoKneeError as error:
        _refuse(f"--half-the-knee-of {out}: {error}")
    Console().print(f"half the knee of {out}: {factor:.3g} times the peak hour's rate", highlight=False)
    return msgspec.structs.replace(asked, factor=factor)


def _accept(options: Options, subnet: str | None) -> NoReturn:
    _check_subnet(options.lab, subnet)
    try:
        if options.lab == "compose":
            raise typer.Exit(_accept_in_containers(options, subnet))
        prepare(options)
        ClaimedFolder(options.out).release()  # an unusable folder is told here; the suite takes it for itself
    except (UsageError, ReportError, SiteError) as error:
        _refuse(str(error))
    _become_suite(options)


def _accept_in_containers(options: Options, subnet: str | None) -> int:
    """Run the suite in the tester of a lab in containers; return its exit code."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the lab is taken down in good order
    try:
        prepared, text = prepare_for_containers(options, subnet)
        ClaimedFolder(options.out).release()
        shown = ["--shown-site", str(options.site), "--shown-out", str(options.out)]
        suite = [*_SUITE, "--board", str(CODE / "scenarios"), *_arguments(options), *shown]
        with docker_ready(console.print):
            return play_in_containers(prepared, text, suite, console.print, workers=options.load.workers)
    except LabError as error:
        console.print(str(error), highlight=False, soft_wrap=True, markup=False, style="bold red")
    except KeyboardInterrupt:
        console.print("ended before there was a verdict")
    return INCOMPLETE


def _become_suite(options: Options) -> NoReturn:
    """Turn this process into pytest over the scenarios, which exits as its report calls for.

    One process and no wrapper: a signal, even the one that cannot be caught, meets what owns the lab.
    """
    own = ["--site", str(options.site), "--out", str(options.out)]
    for name, folder in (("--images", options.images), ("--messages", options.messages)):
        own += [name, str(folder)] if folder else []
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *_SUITE]
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [*command, "--board", str(ROOT / "scenarios"), *own, *_arguments(options)]
    os.execve(sys.executable, arguments, _environment())  # noqa: S606


def _arguments(options: Options) -> list[str]:
    """Return the arguments of the suite that do not depend on where it runs."""
    arguments = ["--lab", options.lab, "--profile", options.profile, "--seed", str(options.seed)]
    arguments += ["--plant", options.plant] if options.plant else []
    for check in options.only:
        arguments += ["--only", check]
    return arguments + _load_arguments(options.load)


def _load_arguments(load: LoadOptions) -> list[str]:
    arguments = ["--shape", load.shape, "--processes", str(load.processes), "--workers", str(load.workers)]
    given = (
        ("--exams-per-year", load.exams_per_year),
        ("--duration", load.duration_s),
        ("--factor", load.factor),
        ("--page", load.page),
    )
    for name, value in given:
        arguments += [name, str(value)] if value is not None else []
    return arguments


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _told_of_containers(lab: str, action: Callable[[Console], None]) -> None:
    if _lab_kind(lab) != "compose":
        _refuse(f"--lab: expected compose, found {lab}: a native lab lives as long as the command that brought it up")
    try:
        action(Console())
    except LabError as error:
        Console(stderr=True).print(str(error), highlight=False, soft_wrap=True, markup=False, style="bold red")
        raise typer.Exit(INCOMPLETE) from error


def _check_subnet(lab: LabKind, subnet: str | None) -> None:
    if subnet is not None and lab != "compose":
        _refuse(f"--subnet: expected beside --lab compose, found --lab {lab}")


def _lab_kind(lab: str) -> LabKind:
    if lab not in get_args(LabKind):
        _refuse(f"--lab: expected one of {', '.join(get_args(LabKind))}, found {lab}")
    return cast(LabKind, lab)


def _site(path: Path) -> Site:
    try:
        return load_site(path)
    except SiteError as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    Console(stderr=True).print(message, highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(BAD_USAGE)


if __name__ == "__main__":
    main()
