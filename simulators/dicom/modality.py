"""The modality: a storage SCU (PS3.4 B.2) that writes down what became of every image it tried to store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from ..client import Attempt, Begun, Failed, Target, Timeouts
from ..operations import Operation, Outcome, Phase
from .association import Association
from .dimse import SUCCESS, WARNINGS, CommandField, CommandSet, StoreRequest, StoreResponse
from .instances import EncodedInstance
from .negotiation import ProposedContext
from .requestor import Requestor, check_answer
from .upper_layer import Buffer, whole_command

_ACKNOWLEDGING = WARNINGS | {SUCCESS}


class Sendable(Protocol):
    """What a presentation context is proposed for."""

    @property
    def sop_class(self) -> str:
        """The SOP Class UID."""

    @property
    def transfer_syntax(self) -> str:
        """The UID of the transfer syntax it is encoded in."""


class _Framed(NamedTuple):
    """A request as it goes over one association, and its answer as it will most likely come."""

    association: Association
    message_id: int
    request: list[Buffer]
    usual_answer: bytes


class _Prepared(NamedTuple):
    """An image ready to be sent; `framed` is None as long as there is no association that it fits."""

    instance: EncodedInstance
    attempt: Attempt
    framed: _Framed | None


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
        self._requests: dict[str, StoreRequest] = {}
        self._responses: dict[tuple[int, str], StoreResponse] = {}

    def store(self, instance: EncodedInstance, attempt: Attempt) -> Operation:
        """Send an image by C-STORE, on a new association when none is open; its fate is the operation.

        Warnings (B000, B006, B007) are acknowledged, with `warning` set; any other status but 0 is refused. An answer to
        another message, or for another instance, tells nothing about this one: indeterminate.
        """
        (operation,) = self.store_all([(instance, attempt)])
        return operation

    def store_all(self, jobs: Iterable[tuple[EncodedInstance, Attempt]]) -> Iterator[Operation]:
        """Store images one after the other, each as `store` does, and yield their operations in the same order.

        Nothing is sent ahead: an image leaves when its operation is asked for, after the answer to the one before it. But
        while the peer works on an image, the next one is taken from `jobs`, digested and framed; a generator that names
        copies does so at that moment, and costs little where there is more than one processor.

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
            prepared = None
            try:
                prepared = self._prepared(coming)
            finally:  # whatever the jobs do, what was sent has a fate
                yield sent if isinstance(sent, Operation) else self._answered(*sent)

    def _prepared(self, jobs: Iterator[tuple[EncodedInstance, Attempt]]) -> _Prepared | None:
        job = next(jobs, None)
        if job is None:
            return None
        instance, attempt = job
        return _Prepared(instance, attempt, self._framed(self._association, instance) if self._association else None)

    def _framed(self, association: Association, instance: EncodedInstance) -> _Framed | None:
        """Return what goes over the association for an image; None when its presentation context was not accepted."""
        sop_class = instance.sop_class
        context_id = association.context_for(sop_class, instance.transfer_syntax)
        if context_id is None or not association.is_established:
            return None
        request, response = self._requests.get(sop_class), self._responses.get((context_id, sop_class))
        if request is None:
            request = self._requests[sop_class] = StoreRequest(sop_class)
        if response is None:
            response = self._responses[context_id, sop_class] = StoreResponse(sop_class)
            response.stands_in(whole_command(context_id, response.encoded))
        message_id = self._next_message_id()
        command = bytes(request.patched(message_id, instance.sop_instance))
        usual = bytes(response.patched(message_id, instance.sop_instance))
        return _Framed(association, message_id, association.framed(context_id, command, instance.buffers), usual)

    def _sent(self, prepared: _Prepared) -> Operation | tuple[Begun, EncodedInstance, _Framed]:
        """Send an image; return its operation when that failed."""
        instance = prepared.instance
        begun = Begun(prepared.attempt, self.target, self.source)
        try:
            association = self._ready()
            framed = prepared.framed
            if framed is None or framed.association is not association:
                framed = self._framed(association, instance)
            if framed is None:
                reason = f"expected {instance.sop_class} in {instance.transfer_syntax} to be accepted, found it refused"
                raise Failed(Outcome.REFUSED, Phase.NEGOTIATE, reason)
            association.send_framed(framed.request)
        except Failed as failed:
            return self._failed(begun, failed, instance.size_bytes, instance.digest)
        _ = instance.digest  # computed, and remembered, while the peer reads
        return begun, instance, framed

    def _answered(self, begun: Begun, instance: EncodedInstance, framed: _Framed) -> Operation:
        try:
            response = framed.association.receive_answer(framed.usual_answer)
            if response is None:
                return begun.ended(
                    Outcome.ACKNOWLEDGED, Phase.DONE, self._connection, size_bytes=instance.size_bytes,
                    digest=instance.digest,
                )  # fmt: skip
            check_answer(response, CommandField.C_STORE_RSP, framed.message_id)
            _check_instance(response, instance)
        except Failed as failed:
            return self._failed(begun, failed, instance.size_bytes, instance.digest)
        return self._judged(begun, response, _ACKNOWLEDGING, instance.size_bytes, instance.digest)


def _check_instance(response: CommandSet, instance: EncodedInstance) -> None:
    """Raise Failed when a response is for another instance; it may leave it out (PS3.7 table 9.1-1)."""
    expected = instance.sop_instance.decode("ascii")
    if response.sop_instance not in ("", expected):
        raise Failed(
            Outcome.INDETERMINATE, Phase.RESPONSE, f"expected an answer for {expected}, found one for {response.sop_instance}"
        )
