"""The modality: a storage SCU (PS3.4 B.2) that writes down what became of every image it tried to store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

from ..client import Attempt, Begun, Failed, Target, Timeouts
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import SUCCESS, WARNINGS, CommandField, CommandSet
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
_Prepared: TypeAlias = tuple[EncodedInstance, Attempt, Framed | None]  # None as long as there is no association that it fits
_Sent: TypeAlias = tuple[Begun, EncodedInstance, Framed, bytes]  # has left whole, with this digest; waits for its answer


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
    """

    def __init__(
        self, target: Target, source: str, *, calling_ae: str, called_ae: str, images: Iterable[Sendable] = (),
        timeouts: Timeouts,
    ) -> None:  # fmt: skip
        pairs = dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images)
        contexts = [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in pairs]
        super().__init__(target, source, calling_ae=calling_ae, called_ae=called_ae, contexts=contexts, timeouts=timeouts)
        self._messages: dict[Places, StoreMessage] = {}

    def store(self, instance: EncodedInstance, attempt: Attempt) -> Operation:
        """Send an image by C-STORE, on a new association when none is open; its fate is the operation.

        Warnings (B000, B006, B007) are acknowledged, with `warning` set; any other status but 0 is refused. An answer to
        another message, or for another instance, tells nothing about this one: indeterminate.
        """
        sent = self._sent((instance, attempt, None))
        return sent if isinstance(sent, Operation) else self._answered(sent)

    def store_all(self, jobs: Iterable[tuple[EncodedInstance, Attempt]]) -> Iterator[Operation]:
        """Store images one after the other, each as `store` does, and yield their operations in the same order.

        Nothing is sent ahead: an image leaves when its operation is asked for, after the answer to the one before it. But
        while the peer works on an image, the next one is taken from `jobs` and framed; a generator that names copies does so
        at that moment. And the answer is waited for awake (`Association.receive_answer`, eager): this is the way to store as
        fast as the peer can take it, at the price of a processor. `store` sleeps until its answer comes.

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
        prepared = self._prepared(coming)
        while prepared is not None:
            sent = self._sent(prepared)
            if self._association is not None:
                self._association.give_way()
            prepared = None
            try:
                prepared = self._prepared(coming)
            finally:  # whatever the jobs do, what was sent has a fate
                yield sent if isinstance(sent, Operation) else self._answered(sent, eager=True)

    def _prepared(self, jobs: Iterator[tuple[EncodedInstance, Attempt]]) -> _Prepared | None:
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

    def _sent(self, prepared: _Prepared) -> Operation | _Sent:
        """Send an image; return its operation when that failed."""
        instance, attempt, framed = prepared
        begun = Begun(attempt, self.target, self.source)
        try:
            association = self._ready()
            if framed is None or framed.message.association is not association or framed.message.latest is not framed:
                framed = self._framed(association, instance)
            if framed is None:
                reason = f"expected {instance.sop_class} in {instance.transfer_syntax} to be accepted, found it refused"
                raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, reason)
            association.send_framed(framed.pieces)
        except Failed as failed:
            return self._failed(begun, failed, instance.size_bytes, instance.digest)
        return begun, instance, framed, framed.message.digest_of(instance)  # while the peer reads

    def _answered(self, sent: _Sent, *, eager: bool = False) -> Operation:
        begun, instance, framed, digest = sent
        size_bytes = framed.message.size_bytes
        try:
            response = framed.message.association.receive_answer(framed.usual_answer, eager=eager)
            if response is None:
                return begun.ended(Outcome.ACKNOWLEDGED, Phase.DONE, self._connection, size_bytes=size_bytes, digest=digest)
            check_answer(response, CommandField.C_STORE_RSP, framed.message_id)
            _check_instance(response, instance)
        except Failed as failed:
            return self._failed(begun, failed, size_bytes, digest)
        return self._judged(begun, response, _ACKNOWLEDGING, size_bytes, digest)


def _check_instance(response: CommandSet, instance: EncodedInstance) -> None:
    """Raise Failed when a response is for another instance; it may leave it out (PS3.7 table 9.1-1)."""
    expected = instance.sop_instance.decode("ascii")
    if response.sop_instance not in ("", expected):
        raise Failed(
            Outcome.INDETERMINATE, Phase.RESPONSE, f"expected an answer for {expected}, found one for {response.sop_instance}"
        )
