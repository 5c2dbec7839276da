"""Writes what the two balancers of a compose lab start from: haproxy.cfg, keepalived.conf, filter.rules and more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lbconfig import haproxy, keepalived, packet_filter, transparency
from lbconfig.errors import LoadBalancingError
from lbconfig.site import Site

from .inside.balancer import ARMS_FILE, FALLBACKS_FILE, INNER, OUTER
from .lab import LabError
from .layout import LAB, UnitFiles, authority_file, open_files
from .server_states import forget_states

CHECK_PROGRAM = "/usr/local/sbin/haproxy-answers"  # in the image
UnitEditor = Callable[[str, str, str], str]


def _as_rendered(_unit: str, _file: str, text: str) -> str:
    return text


def write_balancer_files(site: Site, run: Path, edit: UnitEditor = _as_rendered) -> None:
    """Write the files of every unit.

    Parameters
    ----------
    site : Site
        A site with a pair.
    run : Path
        The run folder, with the certificate of the lab's authority: health checks over TLS verify with it.
    edit : callable of (unit, file name, text) to text
        Changes a rendered file before it is written: planted defects.

    Raises
    ------
    LabError
        When the site has no pair, or no configuration can be made from it.
    """
    if site.balancer.pair is None:
        raise LabError(f"{site.name}: expected a pair (balancer.unit, balancer.pair) for a compose lab, found one balancer")
    for unit in site.balancer.unit:
        files = UnitFiles(run, unit.name)
        inside = UnitFiles(Path(LAB), unit.name)
        files.directory.mkdir(parents=True, exist_ok=True)
        forget_states(files.server_states)
        files.ca.write_bytes(authority_file(run).read_bytes())
        runtime = haproxy.Runtime(
            runtime_socket=str(inside.runtime_socket), fd_limit=open_files(), server_state_file=str(inside.server_states),
            ca_file=str(inside.ca),
        )  # fmt: skip
        checked = keepalived.KeepalivedRuntime(
            check_program=CHECK_PROGRAM, runtime_socket=str(inside.runtime_socket), inner_interface=INNER,
            interface=OUTER if site.balancer.is_two_arm else "eth0",
        )  # fmt: skip
        try:
            texts = {
                files.configuration: haproxy.render(site, runtime, unit.name),
                files.keepalived: keepalived.render(site, unit.name, checked),
                files.filter_rules: packet_filter.render(site, unit.name),
                files.way_back: transparency.unit_script(site),
            }
        except LoadBalancingError as error:
            raise LabError(str(error)) from error
        pages = dict.fromkeys((vip.fallback.address, vip.fallback.port) for vip in site.vip if vip.fallback)
        (files.directory / FALLBACKS_FILE).write_text(json.dumps(list(pages)))
        arms = {OUTER: unit.address, INNER: unit.inner_address} if unit.inner_address is not None else {}
        (files.directory / ARMS_FILE).write_text(json.dumps(arms))
        for path, text in texts.items():
            path.write_text(edit(unit.name, path.name, text))
