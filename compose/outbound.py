"""What a simulated node is told of the receiver that it may send to."""

from __future__ import annotations

from lbconfig.site import Node, ServiceKind, Site
from simulators.outbound import Outbound

from .lab import Defects

SENDING: tuple[ServiceKind, ...] = ("dicom", "hl7")


def outbound_of(site: Site, node: Node, receiver: str, defects: Defects) -> dict[ServiceKind, Outbound]:
    """Return what each service of a node that sends is told.

    Parameters
    ----------
    site : Site
        The receiver's AE title and ports.
    node : Node
        Sends from its own address, unless a defect says otherwise.
    receiver : str
        The address that the receiver listens on.
    defects : Defects
        Of which `sent_from` matters here.
    """
    moved = {(defect.node, defect.service): defect.address for defect in defects.sent_from}
    return {
        service: Outbound(
            ae_title=site.receiver.ae_title, address=receiver, dicom_port=site.receiver.dicom_port,
            hl7_port=site.receiver.hl7_port, source=moved.get((node.name, service), node.address),
        )
        for service in SENDING
    }  # fmt: skip
