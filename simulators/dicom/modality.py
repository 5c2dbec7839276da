"""The modality: a storage SCU (PS3.4 B.2) that writes down what became of every image it tried to store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

from ..client import Attempt, Begun, Failed, Target, Timeouts
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import SUCCESS, WARNINGS, CommandField, CommandSet
from .framing import Buffer
from .instances import EncodedInstance, Places
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer
from .store_message import Framed, StoreMessage

_ACKNOWLEDGING = WARNINGS | {SUCCESS}
_MOST_MESSAGES = 64  # templates that are kept laid out, at 32 KB each


class Sendable(Protocol):
    """What a presentation context is proposed for."""

    @property
    def sop_class(self) -> str:
        """The SOP Class UID."""

    @property
    def transfer_syntax(self) -> str:
        """The UID of the transfer syntax it is encoded in."""


# Plain tuples: one with names takes eight times as long to make, and each image needs both.
Job: TypeAlias = tuple[EncodedInstance, Attempt]
Prepared: TypeAlias = tuple[EncodedInstance, Attempt, Framed | None]  # None as long as there is no association that it fits
Sent: TypeAlias = tuple[Begun, EncodedInstance, Framed, bytes]  # has left whole, with this digest; waits for its answer


class Modality(Requestor):
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
        What it will send. One presentation context is proposed for each SOP class and transfer syntax, so that the peer
        cannot choose one that an image is not encoded in.
    timeouts : Timeouts
        The limit of each phase, in seconds.
    eager : bool
        Whether `store_all` waits for answers to small images awake, at the price of a processor
        (`Association.receive_answer`): to find out how fast a peer is. Where many modalities share a machine, it is not for
        them; in gevent it does nothing.
    """

    def __init__(
        self, target: Target, source: str, *, calling_ae: str, called_ae: str, images: Iterable[Sendable] = (),
        timeouts: Timeouts, eager: bool = False,
    ) -> None:  # fmt: skip
        pairs = dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images)
        contexts = [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs]
        super().__init__(target, source, calling_ae=calling_ae, called_ae=called_ae, contexts=contexts, timeouts=timeouts)
        self._messages: dict[Places, StoreMessage] = {}
        self._eager = eager

    def store(self, instance: EncodedInstance, attempt: Attempt) -> Operation:
        """Send an image by C-STORE, on a new association when none is open; its fate is the operation.

        Warnings (B000, B006, B007) are acknowledged, with `warning` set; any other status but 0 is refused. An answer to
        another message, or for another instance, tells nothing about this one: indeterminate.
        """
        sent = self._sent((instance, attempt, None))
        return sent if isinstance(sent, Operation) else self._answered(sent)

    def store_all(self, jobs: Iterable[Job]) -> Iterator[Operation]:
        """Store images one after the other, each as `store` does, and yield their operations in the same order.

        Nothing is sent ahead: an image leaves when its operation is asked for, after the answer to the one before it. But
        while the peer works on an image, the next one is taken from `jobs` and framed; a generator that names copies does so
        at that moment: this is the way to store as fast as the peer can take it.

        Parameters
        ----------
        jobs : iterable of (EncodedInstance, Attempt)
            It must not wait: the answer to the image under way is read only when the next one is there. Images that are
            due at certain times are for `store`. What it raises is raised here, after the operation of that image.

        Yields
        ------
        Operation
            The fate of one image.
        """
        coming = iter(jobs)
        prepared = self.prepared(coming)
        while prepared is not None:
            sent = self._sent(prepared)
            if self._association is not None:
                self._association.give_way()
            prepared = None
            try:
                prepared = self.prepared(coming)
            finally:  # whatever the jobs do, what was sent has a fate
                yield sent if isinstance(sent, Operation) else self._answered(sent, eager=self._eager)

    def prepared(self, jobs: Iterator[Job]) -> Prepared | None:
        """Take the next job, if there is one, and frame its image; what was framed before must have left by then."""
        job = next(jobs, None)
        if job is None:
            return None
        instance, attempt = job
        association = self._association
        return instance, attempt, None if association is None else self._framed(association, instance)

    def _framed(self, association: Association, instance: EncodedInstance) -> Framed | None:
        """Return what goes over the association for an image; None when its presentation context was not accepted."""
        if not association.is_established:
            return None
        message = self._messages.get(instance.places)
        if message is None or not message.is_for(association, instance):
            context_id = association.context_for(instance.sop_class, instance.transfer_syntax)
            if context_id is None:
                return None
            if len(self._messages) >= _MOST_MESSAGES:
                self._messages.clear()
            message = self._messages[instance.places] = StoreMessage(association, context_id, instance)
        return message.framed(self._next_message_id(), instance)

    def sent_in_part(self, prepared: Prepared) -> Operation | tuple[Sent, list[Buffer]]:
        """Send what can leave of an image without waiting; return it with the rest, or its operation when that failed.

        It opens an association where there is none; that does wait. For whoever polls many modalities; `judged` or `lost`
        follows.
        """
        return self._begun(prepared, Association.send_some)

    def judged(self, sent: Sent, response: CommandSet | None) -> Operation:
        """Return the operation of an image that was answered; None is the usual answer, that it is stored."""
        begun, instance, framed, digest = sent
        size_bytes = framed.message.size_bytes
        if response is None:
            return begun.ended(Outcome.ACKNOWLEDGED, Phase.DONE, self._connection, size_bytes=size_bytes, digest=digest)
        try:
            check_answer(response, CommandField.C_STORE_RSP, framed.message_id)
            _check_instance(response, instance)
        except Failed as failed:
            return self.lost(sent, failed)
        return self._judged(begun, response, _ACKNOWLEDGING, size_bytes, digest)

    def lost(self, sent: Sent, failed: Failed) -> Operation:
        """Return the operation of an image that left, in part or whole, and was not answered."""
        begun, _, framed, digest = sent
        return self._failed(begun, failed, framed.message.size_bytes, digest)

    def _sent(self, prepared: Prepared) -> Operation | Sent:
        sent = self._begun(prepared, Association.send_framed)
        return sent if isinstance(sent, Operation) else sent[0]

    def _begun(
        self, prepared: Prepared, send: Callable[[Association, list[Buffer]], list[Buffer] | None]
    ) -> Operation | tuple[Sent, list[Buffer]]:
        """Send an image; return it with what is still to be sent, or its operation when that failed."""
        instance, attempt, framed = prepared
        begun = Begun(attempt, self.target, self.source)
        try:
            association = self._ready()
            if framed is None or framed.message.association is not association or framed.message.latest is not framed:
                framed = self._framed(association, instance)
            if framed is None:
                reason = f"expected {instance.sop_class} in {instance.transfer_syntax} to be accepted, found it refused"
                raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, reason)
            rest = send(association, framed.pieces)
        except Failed as failed:
            return self._failed(begun, failed, instance.size_bytes, instance.digest)
        digest = framed.message.digest_of(instance)  # while the peer reads
        return (begun, instance, framed, digest), rest or []

    def _answered(self, sent: Sent, *, eager: bool = False) -> Operation:
        framed = sent[2]
        message = framed.message
        try:  # awake for small images alone: a large one keeps the processors busy, and waits need not be short
            response = message.association.receive_answer(framed.usual_answer, eager=eager and message.is_small)
        except Failed as failed:
            return self.lost(sent, failed)
        return self.judged(sent, response)


def _check_instance(response: CommandSet, instance: EncodedInstance) -> None:
    """Raise Failed when a response is for another instance; it may leave it out (PS3.7 table 9.1-1)."""
    expected = instance.sop_instance.decode("ascii")
    if response.sop_instance not in ("", expected):
        raise Failed(
            Outcome.INDETERMINATE, Phase.RESPONSE, f"expected an answer for {expected}, found one for {response.sop_instance}"
        )
