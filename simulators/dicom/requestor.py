"""What every association requestor of ours does alike: opens one association at a time, echoes on it, and turns each
attempt into an operation, whatever the network does.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from ..client import Attempt, Begun, Connection, Failed, Target, Timeouts
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import SUCCESS, VERIFICATION, WARNINGS, CommandField, CommandSet, c_echo_rq
from .instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from .negotiation import ProposedContext

VERIFICATION_CONTEXT = ProposedContext(VERIFICATION, (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN))
_NO_DIGEST = bytes(16)


class Requestor:
    """An SCU with at most one association at a time and one request outstanding on it.

    Parameters
    ----------
    target, source, calling_ae, called_ae, timeouts
        As each `Association` of it takes them.
    contexts : iterable of ProposedContext
        What is proposed beside Verification and `proposes`.

    Attributes
    ----------
    proposes : tuple of ProposedContext
        What every requestor of a class proposes beside Verification.
    """

    proposes: ClassVar[tuple[ProposedContext, ...]] = ()

    def __init__(
        self, target: Target, source: str, *, calling_ae: str, called_ae: str, contexts: Iterable[ProposedContext] = (),
        timeouts: Timeouts,
    ) -> None:  # fmt: skip
        self.target = target
        self.source = source
        self.calling_ae = calling_ae
        self.called_ae = called_ae
        self.contexts = (VERIFICATION_CONTEXT, *self.proposes, *contexts)
        self.timeouts = timeouts
        self.last_failure = ""
        self._association: Association | None = None
        self._connection: Connection | None = None
        self._message_id = 0

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
            message_id = self._next_message_id()
            response, _ = association.request(self._context_of(association, VERIFICATION), c_echo_rq(message_id))
            check_answer(response, CommandField.C_ECHO_RSP, message_id)
        except Failed as failed:
            return self._failed(begun, failed)
        return self._judged(begun, response, {SUCCESS})

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
        """Return the open association, or a new one where there is none that still stands."""
        association = self._association
        if association is None or not association.is_alive():
            self.abort()
            self._connection = None
            self.open()
            association = self._association
        if association is None:
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, "expected an association, found none")
        self._connection = association.connection
        return association

    def _context_of(self, association: Association, abstract_syntax: str) -> int:
        context = association.transfer_syntax_for(abstract_syntax)
        if context is None:
            raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, f"expected {abstract_syntax} to be accepted, found it refused")
        return context[0]

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _failed(self, begun: Begun, failed: Failed, size_bytes: int = 0, digest: bytes = _NO_DIGEST) -> Operation:
        """Return the operation of an attempt that was not answered; its association is aborted.

        Where one context was refused, the association itself is sound, and stays.
        """
        self.last_failure = failed.reason
        if failed.phase is not Phase.NEGOTIATE:
            self.abort()
        return begun.ended(
            failed.outcome, failed.phase, self._connection, status=failed.status, size_bytes=size_bytes, digest=digest
        )

    def _judged(
        self,
        begun: Begun,
        response: CommandSet,
        acknowledging: Iterable[int],
        size_bytes: int = 0,
        digest: bytes = _NO_DIGEST,
    ) -> Operation:
        """Return the operation of an attempt that was answered; any status that does not acknowledge it refuses it."""
        acknowledged = response.status in acknowledging
        if not acknowledged:
            self.last_failure = f"status {response.status:04X}H {response.error_comment}".strip()
        return begun.ended(
            Outcome.ACKNOWLEDGED if acknowledged else Outcome.REFUSED, Phase.DONE, self._connection, status=response.status,
            warning=acknowledged and response.status in WARNINGS, size_bytes=size_bytes, digest=digest,
        )  # fmt: skip


def check_answer(response: CommandSet, expected: CommandField, message_id: int) -> None:
    """Raise Failed unless a response answers this very message: another one tells nothing about it.

    Raises
    ------
    Failed
        INDETERMINATE in phase RESPONSE.
    """
    if (response.command_field, response.responded_to) != (expected, message_id) or response.status < 0:
        raise Failed(
            Outcome.INDETERMINATE, Phase.RESPONSE,
            f"expected {expected.name} to message {message_id} with a status, found command {response.command_field:04X}H "
            f"to message {response.responded_to}, status {response.status:04X}H",
        )  # fmt: skip
