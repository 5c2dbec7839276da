"""The nodes that play a site's real ones: from the site and its defects to what their services are started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lbconfig.site import Node, ServiceKind, Site
from simulators.misbehaviour import Misbehaviour
from simulators.node import SimulatedNode
from simulators.web.certificates import CertificateFiles

from .lab import Defects, LabError
from .native_nodes import endpoints_of
from .outbound import outbound_of


def simulated_node(
    site: Site, node: Node, defects: Defects, directories: Mapping[str, Path], certificate: CertificateFiles,
    users: Mapping[str, str], receiver: str,
) -> SimulatedNode:  # fmt: skip
    """Return what one node of a site is started with.

    Parameters
    ----------
    site, node : Site, Node
        The site, and which of its nodes.
    defects : Defects
        Of which the node's misbehaviour matters here.
    directories : mapping of str to Path
        Each node's own folder, as this node finds it.
    certificate : CertificateFiles
        Of its page, as this node finds it.
    users : mapping of str to str
        Names and passwords of the web page.
    receiver : str
        The address that the node sends to, where it sends of itself.
    """
    return SimulatedNode(
        name=node.name,
        directory=directories[node.name],
        site_directories=tuple(directories.values()),
        certificate_file=certificate.certificate_file,
        key_file=certificate.key_file,
        users=users,
        ae_title=site.dicom.ae_title,
        accept_unknown_called_ae=site.dicom.unknown_called_ae == "accepted",
        storage=site.dicom.storage,
        engines={"dicom": site.engines.storage, "dmwl": site.engines.worklist},
        processes=site.engines.processes,
        proxied_from={vip.service: site.balancer.addresses for vip in site.vip if vip.source == "proxy-protocol"},
        outbound=outbound_of(site, node, receiver, defects),
        misbehaviour=_misbehaviour_of(node.name, defects),
    )


def certificate_names(site: Site, node: Node) -> list[str]:
    """Return the names that the certificate of a node's page covers: the VIP's name and address, and the node's own."""
    vip = site.vip_of("https")
    return list(dict.fromkeys(name for name in (vip.hostname, vip.address, node.address) if name))


def check_defects(site: Site, defects: Defects) -> None:
    """Raise LabError when a defect names what the site has not."""
    endpoints = endpoints_of(site)
    nodes = {node.name for node in site.node}
    named = [(lie.node, lie.service) for lie in defects.misbehaviour] + [
        (relay.node, relay.service) for relay in defects.relays
    ]
    named += [(sent.node, sent.service) for sent in defects.sent_from]
    for node, service in named:
        if (node, service) not in endpoints:
            raise LabError(f"defect of {node}/{service}: expected a service of the site, found none such")
    units = {unit.name for unit in site.balancer.unit}
    for what, known, wanted in (
        ("expired certificate", nodes, defects.expired_certificates),
        ("not admitted", nodes, defects.not_admitted),
        ("past the balancer", nodes, defects.past_the_balancer),
        ("other authority", units, defects.other_authority),
    ):
        for name in wanted:
            if name not in known:
                raise LabError(f"{what}: expected one of {', '.join(sorted(known)) or 'a pair'}, found {name}")


def _misbehaviour_of(node: str, defects: Defects) -> dict[ServiceKind, tuple[Misbehaviour, ...]]:
    found: dict[ServiceKind, tuple[Misbehaviour, ...]] = {}
    for lie in defects.misbehaviour:
        if lie.node == node:
            found[lie.service] = (*found.get(lie.service, ()), lie.misbehaviour)
    return found
