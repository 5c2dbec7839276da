"""The modality: a storage SCU (PS3.4 B.2) that writes down what became of every image it tried to store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self

from ..client import Attempt, Begun, Failed, Target, Timeouts
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import SUCCESS, VERIFICATION, WARNINGS, CommandField, CommandSet, StoreRequest, c_echo_rq
from .instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EncodedInstance
from .negotiation import ProposedContext

_NO_DIGEST = bytes(16)


class Sendable(Protocol):
    """What a presentation context is proposed for."""

    @property
    def sop_class(self) -> str:
        """The SOP Class UID."""

    @property
    def transfer_syntax(self) -> str:
        """The UID of the transfer syntax it is encoded in."""


def contexts_for(images: Iterable[Sendable]) -> tuple[ProposedContext, ...]:
    """Return what to propose for images: Verification, then one context for each SOP class and transfer syntax.

    One transfer syntax a context, so that the peer cannot choose one that an image is not encoded in.
    """
    pairs = dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images)
    verification = ProposedContext(VERIFICATION, (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN))
    return (verification, *(ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs))


class Modality:
    """One modality, with at most one association at a time and one request outstanding on it.

    Parameters
    ----------
    target : Target
        Where it stores.
    source : str
        The source address to bind.
    calling_ae, called_ae : str
        AE titles, 1 to 16 characters.
    images : iterable of SampleImage or EncodedInstance
        What it will send: their presentation contexts are proposed.
    timeouts : Timeouts
        The limit of each phase, in seconds.
    """

    def __init__(
        self, target: Target, source: str, *, calling_ae: str, called_ae: str, images: Iterable[Sendable] = (),
        timeouts: Timeouts,
    ) -> None:  # fmt: skip
        self.target = target
        self.source = source
        self.calling_ae = calling_ae
        self.called_ae = called_ae
        self.contexts = contexts_for(images)
        self.timeouts = timeouts
        self.last_failure = ""
        self._association: Association | None = None
        self._message_id = 0
        self._requests: dict[str, StoreRequest] = {}

    @property
    def is_open(self) -> bool:
        """Whether there is an association that, as far as is known without waiting, still stands."""
        return self._association is not None and self._association.is_alive()

    @property
    def node(self) -> str:
        """Who answers on the open association; empty when there is none, or it did not tell."""
        return self._association.node if self._association else ""

    def open(self) -> None:
        """Open the association, in place of one that is open.

        Raises
        ------
        Failed
            REFUSED: by the network, or by the peer (its status is then that of the rejection).
        ProtocolError
            When the AE titles or contexts cannot be proposed.
        """
        self.release()
        self._association = Association(
            self.target, self.source, calling_ae=self.calling_ae, called_ae=self.called_ae, contexts=self.contexts,
            timeouts=self.timeouts,
        )  # fmt: skip

    def echo(self, attempt: Attempt) -> Operation:
        """Send a C-ECHO, on a new association when none is open; its fate is the operation, whatever the network does."""
        begun = Begun(attempt, self.target, self.source)
        try:
            association = self._ready()
            context = association.transfer_syntax_for(VERIFICATION)
            if context is None:
                raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, "expected Verification to be accepted, found it refused")
            message_id = self._next_message_id()
            response, _ = association.request(context[0], c_echo_rq(message_id))
            self._check_answer(response, CommandField.C_ECHO_RSP, message_id, "")
        except Failed as failed:
            return self._failed(begun, failed, 0, _NO_DIGEST)
        return self._judged(begun, association, response, 0, _NO_DIGEST)

    def store(self, instance: EncodedInstance, attempt: Attempt) -> Operation:
        """Send an image by C-STORE, on a new association when none is open; its fate is the operation.

        Warnings (B000, B006, B007) are acknowledged, with `warning` set; any other status but 0 is refused. An answer to
        another message, or for another instance, tells nothing about this one: indeterminate.
        """
        begun = Begun(attempt, self.target, self.source)
        try:
            association = self._ready()
            context_id = association.context_for(instance.sop_class, instance.transfer_syntax)
            if context_id is None:
                reason = f"expected {instance.sop_class} in {instance.transfer_syntax} to be accepted, found it refused"
                raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, reason)
            message_id = self._next_message_id()
            command = self._request_for(instance.sop_class).patched(message_id, instance.sop_instance)
            association.send(context_id, command, instance.buffers, checked=True)
            digest = instance.digest  # computed while the peer reads
            response, _ = association.receive()
            self._check_answer(response, CommandField.C_STORE_RSP, message_id, instance.sop_instance.decode("ascii"))
        except Failed as failed:
            return self._failed(begun, failed, instance.size_bytes, instance.digest)
        return self._judged(begun, association, response, instance.size_bytes, digest)

    def release(self) -> None:
        """Release the association in order, if there is one."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def abort(self) -> None:
        """Abort the association, if there is one."""
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _ready(self) -> Association:
        association = self._association
        if association is None or not association.is_alive():
            self.open()
            association = self._association
        if association is None:
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, "expected an association, found none")
        return association

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _request_for(self, sop_class: str) -> StoreRequest:
        request = self._requests.get(sop_class)
        if request is None:
            request = self._requests[sop_class] = StoreRequest(sop_class)
        return request

    def _check_answer(self, response: CommandSet, expected: CommandField, message_id: int, sop_instance: str) -> None:
        found_instance = response.sop_instance or sop_instance  # it may be left out of a response (PS3.7 table 9.1-1)
        if (response.command_field, response.responded_to, found_instance) == (expected, message_id, sop_instance):
            return
        raise Failed(
            Outcome.INDETERMINATE, Phase.RESPONSE,
            f"expected {expected.name} to message {message_id} for {sop_instance or 'no instance'}, found command "
            f"{response.command_field:04X}H to message {response.responded_to} for {response.sop_instance or 'no instance'}",
        )  # fmt: skip

    def _failed(self, begun: Begun, failed: Failed, size_bytes: int, digest: bytes) -> Operation:
        self.last_failure = failed.reason
        connection = self._association.connection if self._association else None
        operation = begun.ended(
            failed.outcome, failed.phase, connection, status=failed.status, size_bytes=size_bytes, digest=digest
        )
        if failed.phase is Phase.NEGOTIATE and self._association is not None:
            return operation  # one context was refused: the association itself is sound
        self.abort()
        return operation

    def _judged(
        self, begun: Begun, association: Association, response: CommandSet, size_bytes: int, digest: bytes
    ) -> Operation:
        warning = response.status in WARNINGS
        acknowledged = warning or response.status == SUCCESS
        if not acknowledged:
            self.last_failure = f"status {response.status:04X}H {response.error_comment}".strip()
        return begun.ended(
            Outcome.ACKNOWLEDGED if acknowledged else Outcome.REFUSED, Phase.DONE, association.connection,
            status=response.status, warning=warning, size_bytes=size_bytes, digest=digest,
        )  # fmt: skip
