"""A workstation that nodes store images at, and report commitments to: in threads of the calling process, on pynetdicom.

It keeps nothing: it writes down what came from which address. As real ones do, it lets in only those that it knows.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection
from socketserver import BaseServer
from typing import Self, cast

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dimse_primitives import C_STORE, N_EVENT_REPORT
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from ..received import Received, ReceivedLog
from .commitment import ALL_COMMITTED, STORAGE_COMMITMENT
from .dimse import SUCCESS
from .scp import ACSE_TIMEOUT_S, InheritedServer, peer_of
from .storage_scp import answer_echo, storage_contexts

_REJECTED_PERMANENTLY, _BY_SERVICE_USER, _CALLING_AE_NOT_RECOGNIZED = 1, 1, 3  # PS3.8, table 9-21
_ENDS_WITHIN_S = 5.0
NOT_COMMITTED = "not all images are committed"


class ImageReceiver:
    """Listens from its making until it is closed.

    Parameters
    ----------
    listening : socket.socket
        Bound and listening; closed with the receiver.
    ae_title : str
        Its AE title; others are rejected.
    admitted : collection of str
        The addresses that may associate.
    log : ReceivedLog
        Where it writes down what came.
    """

    def __init__(self, listening: socket.socket, ae_title: str, admitted: Collection[str], log: ReceivedLog) -> None:
        _config.LOG_HANDLER_LEVEL = "none"
        self._admitted = frozenset(admitted)
        self._log = log
        entity = ApplicationEntity(ae_title)
        entity.require_called_aet = True
        entity.acse_timeout = ACSE_TIMEOUT_S
        entity.network_timeout = None
        commitment = build_context(STORAGE_COMMITMENT)
        commitment.scu_role, commitment.scp_role = False, True  # of whoever calls: reports come from the SCP
        self._server = InheritedServer(
            entity, listening, [*storage_contexts(), commitment],
            [
                (evt.EVT_REQUESTED, self._admit), (evt.EVT_C_ECHO, answer_echo), (evt.EVT_C_STORE, self._take),
                (evt.EVT_N_EVENT_REPORT, self._note),
            ],
        )  # fmt: skip
        self._thread = threading.Thread(target=self._server.serve_forever, name="image receiver", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to listen, and end what is open."""
        BaseServer.shutdown(self._server)  # pynetdicom's own looks for it among those that it has started itself
        self._server.server_close()
        self._thread.join(_ENDS_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _admit(self, event: Event) -> None:
        peer = peer_of(event)[0]
        if peer not in self._admitted:
            self._log.add(Received(peer, "", admitted=False))
            event.assoc.acse.send_reject(_REJECTED_PERMANENTLY, _BY_SERVICE_USER, _CALLING_AE_NOT_RECOGNIZED)
            event.assoc.kill()

    def _take(self, event: Event) -> int:
        request = cast(C_STORE, event.request)
        self._log.add(Received(peer_of(event)[0], str(request.AffectedSOPInstanceUID), admitted=True))
        return SUCCESS

    def _note(self, event: Event) -> tuple[int, None]:
        """Write a report down, with what it complains of."""
        request = cast(N_EVENT_REPORT, event.request)
        transaction = str(event.event_information.get("TransactionUID") or "")
        complaint = "" if request.EventTypeID == ALL_COMMITTED else NOT_COMMITTED
        self._log.add(Received(peer_of(event)[0], transaction, admitted=True, complaint=complaint))
        return SUCCESS, None
