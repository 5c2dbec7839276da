"""What the node's HTTPS service and its viewer agree on. Light: a viewer must not load a server."""

from __future__ import annotations

import msgspec

COOKIE = "mach7_session"
NODE_HEADER = "X-Mach7-Node"  # in every response: who answered
IDENTITY_HEADER = "X-Preflight-Identity"  # in a request: the code of a query's identity, to be noted as an observation
DICOMWEB = "/dicom-web"
DICOM_JSON = "application/dicom+json"  # PS3.18 8.7.3
FORM = "application/x-www-form-urlencoded"


class NoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a note's request: the code of its identity, and what the user wrote."""

    identity: str
    text: str
