"""Everything that is read and checked before anything is started, for the command and for plain pytest alike."""

from __future__ import annotations

import ipaddress
import socket

import msgspec

from compose.lab import Defects, LabError
from compose.layout import tester_network
from compose.native import check_loopback
from compose.native_balancer import find_haproxy
from compose.networks import networks_of
from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site
from scenarios.acceptance import check_ids
from scenarios.catalogue import PROFILES
from scenarios.kit import OwnSamples, own_samples
from scenarios.load_runs.plans import sources_needed, under_load
from scenarios.load_runs.process import PAGE_HOST
from scenarios.options import Options, UsageError, checked
from scenarios.plants import PlantError, plant_named

_OTHER_SOURCES = 200  # of what is said beside load runs


class Prepared(msgspec.Struct, frozen=True):
    """A run that can be started: its options, the site, the defects to plant, the user's own samples."""

    options: Options
    site: Site
    defects: Defects
    own: OwnSamples


def prepare(options: Options) -> Prepared:
    """Read and check all that a run is told.

    Raises
    ------
    UsageError
        For the first thing that cannot be used: an option, the site file, a plant, a sample, a program that is missing.
    """
    try:
        checked(options)
        site = load_site(options.site)
        if PROFILES[options.profile].is_load:
            site = under_load(site, options.load)
            _check_load(site, options)
        check_ids(site, options)
        if options.lab == "native":
            check_loopback(site)
            find_haproxy(None)
        else:
            networks_of(site)
        defects = plant_named(site, options.plant).defects if options.plant else Defects()
    except (SiteError, PlantError, LabError) as error:
        raise UsageError(str(error)) from error
    return Prepared(options, site, defects, own_samples(options))


def _check_load(site: Site, options: Options) -> None:
    """Raise UsageError where the clients' network is too small for the load, or the port of Locust's page is taken."""
    needed = sources_needed(site, PROFILES[options.profile].trials, options.load) + _OTHER_SOURCES
    key, network = "clients.network", ipaddress.IPv4Network(site.clients.network)
    if options.lab == "compose" and site.clients.routed_network is not None:
        key, network = "clients.routed_network", tester_network(site.clients.routed_network)
    if network.num_addresses < needed:
        raise UsageError(
            f"{options.site.name}: {key}: expected a network of {needed} addresses for these load runs, found {network} with "
            f"{network.num_addresses}"
        )
    if options.load.page is not None and options.lab != "native":
        raise UsageError("--page: expected a lab on this machine's own addresses: no host outside reaches into a compose lab")
    if options.load.page is not None:
        try:
            socket.create_server((PAGE_HOST, options.load.page)).close()
        except OSError as error:
            raise UsageError(f"--page: expected a free port on {PAGE_HOST}, found {options.load.page}: {error}") from error
