"""`preflight lab`: a lab to play with, kept as long as the command lives."""

from __future__ import annotations

import signal
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from compose.containers.host import HostedLab, labs, take_down
from compose.lab import LabError
from compose.native import NativeLab
from lbconfig.site import Site
from scenarios.in_containers import CODE, SITE, docker_ready, prepare_for_containers
from scenarios.load_runs.plans import under_load
from scenarios.options import LoadOptions, Options
from scenarios.stock import furnish

_ENDS = (signal.SIGINT, signal.SIGTERM)


def keep_native_lab(site: Site, site_file: Path, directory: Path, console: Console, *, for_load: bool) -> None:
    """Bring a native lab up, say where everything is, and take it down at Ctrl-C. Raises LabError."""
    loaded = under_load(site, LoadOptions()) if for_load else site
    lab = NativeLab(loaded, directory)
    lab.start()
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # from here on they are waited for, and interrupt nothing
        card = furnish(lab, site_file)
        if for_load:
            lab.keep_receipts_only()
        _show_site(console, loaded)
        console.print(f"Web page: user {lab.web_user}, password {lab.web_password}; CA {lab.ca_file}", highlight=False)
        console.print(f"Logs, journals, images: {lab.directory}", highlight=False)
        console.print(
            f"For other clients: {card}, which `locust -f scenarios/load/mixed.py` finds by itself", highlight=False
        )
        console.print("Ctrl-C takes it down.")
        signal.sigwait(_ENDS)
    finally:
        lab.stop()


def keep_lab_in_containers(site_file: Path, subnet: str | None, out: Path, console: Console, *, for_load: bool) -> None:
    """Bring a lab in containers up, say how to get into it, and take it down at Ctrl-C or when somebody else does.

    Parameters
    ----------
    site_file : Path
        The site.
    subnet : str or None
        The network that its hosts are moved to.
    out : Path
        Where reports that are made in it go.
    console : Console
        Where it says so.
    for_load : bool
        With nodes for crowds, which keep receipts and no images.

    Raises
    ------
    LabError, UsageError, SiteError
        When it does not come up.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    profile = "rate" if for_load else "standard"
    prepared, text = prepare_for_containers(Options(site=site_file, lab="compose", profile=profile, seed=0, out=out), subnet)
    try:
        with docker_ready(console.print):
            lab = HostedLab(prepared.site, text, out, defects=prepared.defects)
            with lab:
                furnished = [
                    "python3",
                    "-m",
                    "scenarios.furnish_containers",
                    str(SITE),
                    *(["--for-load"] if for_load else []),
                ]
                if lab.run_in_tester(furnished) != 0:
                    raise LabError("the lab: expected it to be ready to play with, found what stands above")
                _show_site(console, prepared.site)
                _show_ways_in(console, lab)
                lab.wait_until_gone()
                console.print("somebody took it down")
    except KeyboardInterrupt:
        console.print("taken down")


def show_labs(console: Console) -> None:
    """List the labs in containers that are there. Raises LabError when Docker does not answer."""
    found = labs()
    if not found:
        console.print("no lab in containers is there")
        return
    table = Table("lab", "containers", "run folder", "")
    for lab in found:
        state = "its command lives" if lab.is_kept else "left behind: preflight lab down --lab compose"
        table.add_row(lab.project, f"{lab.running} of {lab.containers} run", str(lab.run or ""), state)
    console.print(table)


def take_labs_down(names: Collection[str], console: Console) -> None:
    """Take down labs in containers.

    Parameters
    ----------
    names : collection of str
        Which; none: all.
    console : Console
        Where it says which are gone.

    Raises
    ------
    LabError
        When one is not there, or something of it is left.
    """
    found = labs()
    for name in names:
        if name not in {lab.project for lab in found}:
            known = ", ".join(lab.project for lab in found) or "none there"
            raise LabError(f"{name}: expected a lab in containers that is there ({known})")
    for lab in found:
        if lab.project in names or not names:
            take_down(lab.project, lab.run)
            console.print(f"{lab.project} is gone")
    if not found:
        console.print("no lab in containers was there")


def _show_site(console: Console, site: Site) -> None:
    table = Table("virtual service", "address", "real servers")
    for vip in site.vip:
        servers = ", ".join(
            f"{server.label} {site.node_named(server.node).address}:{server.port}" for server in vip.real_server
        )
        table.add_row(vip.name, f"{vip.address}:{vip.port}", servers)
    console.print(table)


def _show_ways_in(console: Console, lab: HostedLab) -> None:
    tester = f"docker exec -it {lab.project}-tester-1"
    suite = f"python3 -m pytest -c {CODE}/pyproject.toml {CODE}/scenarios --lab compose --only PERSIST-1 --out /out/mine"
    load = f"locust -f {CODE}/scenarios/load/mixed.py --headless --lab-card /lab/card.json --records /out/load"
    for line in (
        "This host has no address in the lab's network: go in by its tester.",
        f"A shell:     {tester} bash",
        f"Checks:      {tester} {suite}",
        f"Load:        {tester} {load}",
        f"A balancer:  docker exec -it {lab.project}-lb-1-1 bash",
        f"Its files, the nodes' journals and all logs: {lab.run}",
        "Ctrl-C takes it down; so does: preflight lab down --lab compose",
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
