"""Where a node sends of its own accord: the one AE title and receiver that it knows, and the address that it sends from."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .client import Target, Timeouts
from .operations import Service, Way

Port = Annotated[int, Meta(ge=1, le=65535)]
TIMEOUTS = Timeouts(connect_s=4, negotiate_s=5, send_s=10, response_s=10)


class Outbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node is told of the receiver that it may send to.

    Parameters
    ----------
    ae_title : str
        The receiver's AE title: a C-MOVE names it as its destination, a result in OBR-28 as who is to get a copy.
    address : str
        Where it listens.
    dicom_port, hl7_port : int
        Its ports.
    source : str
        The address that the node sends from: its own.
    """

    ae_title: str
    address: str
    dicom_port: Port
    hl7_port: Port
    source: str

    @property
    def dicom(self) -> Target:
        """Where images go."""
        return Target(self.address, self.dicom_port, Service.DICOM, Way.STRAIGHT)

    @property
    def hl7(self) -> Target:
        """Where messages go."""
        return Target(self.address, self.hl7_port, Service.HL7, Way.STRAIGHT)
