"""Where clients of a site send, and how long they wait: the site's own words, in the clients' terms."""

from __future__ import annotations

from lbconfig.site import RealServer, ServiceKind, Site, Vip
from simulators.client import Target, Timeouts
from simulators.operations import Service, Way

SERVICE_OF: dict[ServiceKind, Service] = {
    "dicom": Service.DICOM, "hl7": Service.HL7, "dmwl": Service.DMWL, "https": Service.HTTPS,
}  # fmt: skip


def through(vip: Vip) -> Target:
    """Return the VIP as a target."""
    return Target(vip.address, vip.port, SERVICE_OF[vip.service])


def straight(site: Site, vip: Vip, server: RealServer) -> Target:
    """Return a real server itself as a target: the baseline."""
    return Target(site.node_named(server.node).address, server.port, SERVICE_OF[vip.service], Way.STRAIGHT)


def timeouts_of(site: Site) -> Timeouts:
    """Return the site's time-outs for clients."""
    clients = site.clients
    return Timeouts(
        connect_s=clients.connect_timeout_s, negotiate_s=clients.negotiate_timeout_s, send_s=clients.send_timeout_s,
        response_s=clients.response_timeout_s,
    )  # fmt: skip
