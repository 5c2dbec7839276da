"""A-ASSOCIATE PDUs (PS3.8, 9.3.2 to 9.3.4) in our own frozen types, encoded and decoded by pynetdicom's PDU classes."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from .errors import ProtocolError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = "2.25.106700000000000000000000000000000000001"
IMPLEMENTATION_VERSION = "PREFLIGHT_1"
MAXIMUM_CONTEXTS = 128  # odd numbers of one byte
MAXIMUM_LENGTH = 131072  # bytes of a P-DATA-TF that we are ready to receive

_ACCEPTANCE = 0
_ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
_FIXED_BYTES = 74  # header and fixed fields of A-ASSOCIATE-RQ and -AC
_ITEM = struct.Struct(">BxH")
_WITH_ITEMS = {0x20: 4, 0x21: 4, 0x50: 0}  # presentation contexts have 4 bytes before their sub-items
# what pynetdicom's decoders let through on bytes that are not DICOM: they check little themselves
_UNDECODABLE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError, struct.error,
)  # fmt: skip
_REJECT_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}
_REJECT_REASONS = {
    (1, 1): "no reason given", (1, 2): "application context name not supported", (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized", (2, 1): "no reason given", (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion", (3, 2): "local limit exceeded",
}  # fmt: skip


class ProposedContext(NamedTuple):
    """A presentation context to propose: one abstract syntax and the transfer syntaxes the acceptor may choose from.

    `as_scp`: the requestor is the SCP of this service, and no SCU (PS3.7, D.3.3.4); the acceptor has to agree.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False


class AcceptedContext(NamedTuple):
    """A presentation context that both sides agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


class Proposal(NamedTuple):
    """What a requestor asks for. `maximum_length` is the largest P-DATA-TF (in bytes) that it is ready to receive."""

    calling_ae: str
    called_ae: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int = MAXIMUM_LENGTH


class _Answered(NamedTuple):
    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int


class AssociateRequested(NamedTuple):
    """A peer asks for an association; `contexts` maps each context id to what it proposes."""

    calling_ae: str
    called_ae: str
    contexts: Mapping[int, ProposedContext]
    maximum_length: int
    implementation_version: str


class AssociateAccepted(NamedTuple):
    """The peer accepted. `maximum_length` is its bound for a P-DATA-TF, 0 for none; `refused` are the other context ids."""

    contexts: Mapping[int, AcceptedContext]
    refused: tuple[int, ...]
    maximum_length: int
    implementation_version: str


class AssociateRejected(NamedTuple):
    """The peer rejected the association (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int

    @property
    def status(self) -> int:
        """Result, source and reason as one number for an operation's record: 0xRSRR."""
        return (self.result & 0xF) << 12 | (self.source & 0xF) << 8 | self.reason

    def __str__(self) -> str:
        how = {1: "permanently", 2: "for now"}.get(self.result, f"with result {self.result}")
        who = _REJECT_SOURCES.get(self.source, f"source {self.source}")
        return f"rejected {how} by the {who}: {_REJECT_REASONS.get((self.source, self.reason), f'reason {self.reason}')}"


def context_id_of(index: int) -> int:
    """Return the context id of the n-th proposed context, counted from 0: the odd numbers."""
    return 2 * index + 1


@functools.lru_cache(maxsize=256)
def encode_request(proposal: Proposal) -> bytes:
    """Encode an A-ASSOCIATE-RQ; equal proposals are encoded once.

    Raises
    ------
    ProtocolError
        When there is no context or more than 128, or an AE title or UID is not one.
    """
    if not 1 <= len(proposal.contexts) <= MAXIMUM_CONTEXTS:
        raise ProtocolError(
            f"presentation contexts: expected 1 to {MAXIMUM_CONTEXTS}, found {len(proposal.contexts)}; "
            "propose only what this association will send"
        )
    contexts = [
        _context(context_id_of(index), context.abstract_syntax, context.transfer_syntaxes)
        for index, context in enumerate(proposal.contexts)
    ]
    primitive = _primitive(proposal.maximum_length, IMPLEMENTATION_VERSION)
    try:
        primitive.user_information += [_scp_of(context.abstract_syntax) for context in proposal.contexts if context.as_scp]
        primitive.calling_ae_title = proposal.calling_ae
        primitive.called_ae_title = proposal.called_ae
        primitive.presentation_context_definition_list = contexts
        return bytes(A_ASSOCIATE_RQ(primitive).encode())
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"A-ASSOCIATE-RQ of {proposal.calling_ae!r} to {proposal.called_ae!r}: {error}") from error


@functools.lru_cache(maxsize=128)
def decode_request(pdu: bytes) -> AssociateRequested:
    """Decode an A-ASSOCIATE-RQ, header included; a modality asks the same each time, so equal requests are decoded once.

    Raises
    ------
    ProtocolError
        When it is malformed.
    """
    request = _decoded(A_ASSOCIATE_RQ(), pdu, "A-ASSOCIATE-RQ")
    contexts = {
        context.context_id: ProposedContext(str(context.abstract_syntax), tuple(map(str, context.transfer_syntax)))
        for context in request.presentation_context_definition_list
    }
    return AssociateRequested(
        request.calling_ae_title.strip(), request.called_ae_title.strip(), contexts, *_user_information(request)
    )


def encode_accept(
    request: AssociateRequested, chosen: Mapping[int, str | None], version: str, maximum_length: int = MAXIMUM_LENGTH
) -> bytes:
    """Encode an A-ASSOCIATE-AC.

    Parameters
    ----------
    request : AssociateRequested
        What is answered.
    chosen : mapping of int to str or None
        The transfer syntax for each context id; None where no proposed transfer syntax is supported, absent where the
        abstract syntax is not.
    version : str
        Implementation Version Name, 1 to 16 characters: here a node tells its name.
    maximum_length : int
        The largest P-DATA-TF, in bytes, that we are ready to receive.

    Raises
    ------
    ProtocolError
        When the request has an AE title or a UID that cannot be told back.
    """
    answers = []
    for context_id, proposed in request.contexts.items():
        syntax = chosen.get(context_id)
        refused = _TRANSFER_SYNTAXES_NOT_SUPPORTED if context_id in chosen else _ABSTRACT_SYNTAX_NOT_SUPPORTED
        told = syntax or next(iter(proposed.transfer_syntaxes), "")
        answers.append(_Answered(context_id, proposed.abstract_syntax, told, _ACCEPTANCE if syntax else refused))
    return _encoded_accept(request.calling_ae, request.called_ae, tuple(answers), version, maximum_length)


@functools.lru_cache(maxsize=256)
def _encoded_accept(
    calling_ae: str, called_ae: str, answers: tuple[_Answered, ...], version: str, maximum_length: int
) -> bytes:
    contexts = []
    primitive = _primitive(maximum_length, version)
    try:
        for answer in answers:
            context = _context(answer.context_id, answer.abstract_syntax, (answer.transfer_syntax,))
            context.result = answer.result
            contexts.append(context)
        primitive.calling_ae_title = calling_ae
        primitive.called_ae_title = called_ae
        primitive.presentation_context_definition_results_list = contexts
        primitive.result, primitive.result_source = 0x00, 0x01
        return bytes(A_ASSOCIATE_AC(primitive).encode())
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"A-ASSOCIATE-AC to {calling_ae!r}: {error}") from error


def decode_accept(pdu: bytes, proposal: Proposal) -> AssociateAccepted:
    """Decode an A-ASSOCIATE-AC, header included, that answers a proposal.

    Raises
    ------
    ProtocolError
        When it is malformed, or accepts what was not proposed.
    """
    answer = _decoded(A_ASSOCIATE_AC(), pdu, "A-ASSOCIATE-AC")
    proposed = {context_id_of(index): context for index, context in enumerate(proposal.contexts)}
    accepted: dict[int, AcceptedContext] = {}
    scp_of = {str(item.sop_class_uid) for item in answer.user_information if _lets_us_be_scp(item)}
    for context in answer.presentation_context_definition_results_list:
        if context.result != _ACCEPTANCE:
            continue
        asked = proposed.get(context.context_id)
        syntax = str(context.transfer_syntax[0]) if context.transfer_syntax else ""
        if asked is None or syntax not in asked.transfer_syntaxes:
            raise ProtocolError(
                f"A-ASSOCIATE-AC: expected a proposed transfer syntax for context {context.context_id}, found {syntax!r}"
            )
        if not asked.as_scp or asked.abstract_syntax in scp_of:
            accepted[context.context_id] = AcceptedContext(context.context_id, asked.abstract_syntax, syntax)
    refused = tuple(context_id for context_id in proposed if context_id not in accepted)
    return AssociateAccepted(accepted, refused, *_user_information(answer))


def encode_reject(rejected: AssociateRejected) -> bytes:
    """Encode an A-ASSOCIATE-RJ."""
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = rejected
    return bytes(pdu.encode())


def _primitive(maximum_length: int, version: str) -> A_ASSOCIATE:
    longest, implementation, name = (
        MaximumLengthNotification(), ImplementationClassUIDNotification(), ImplementationVersionNameNotification(),
    )  # fmt: skip
    longest.maximum_length_received = maximum_length
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS
    name.implementation_version_name = version
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.user_information = [longest, implementation, name]
    return primitive


def _scp_of(sop_class: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = sop_class, False, True
    return role


def _lets_us_be_scp(item: object) -> bool:
    return isinstance(item, SCP_SCU_RoleSelectionNegotiation) and bool(item.scp_role)


def _context(context_id: int, abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    context = PresentationContext()
    context.context_id = context_id
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(transfer_syntaxes)
    return context


def _decoded(pdu, content: bytes, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Decode with one of pynetdicom's classes, after our own look at the lengths: it trusts them."""
    if len(content) < _FIXED_BYTES:
        raise ProtocolError(f"{name}: expected at least {_FIXED_BYTES} bytes, found {len(content)}")
    _check_items(content, _FIXED_BYTES, len(content), name)
    try:
        pdu.decode(content)
        return pdu.to_primitive()
    except _UNDECODABLE as error:
        raise ProtocolError(f"{name}: expected well-formed items, found {type(error).__name__}: {error}") from error


def _check_items(content: bytes, at: int, end: int, name: str) -> None:
    while at < end:
        if end - at < _ITEM.size:
            raise ProtocolError(f"{name}: expected an item header of 4 bytes at {at}, found {end - at} bytes")
        kind, length = _ITEM.unpack_from(content, at)
        at += _ITEM.size
        if length > end - at:
            raise ProtocolError(f"{name}: item {kind:02X}H: expected at most {end - at} bytes, found a length of {length}")
        if kind in _WITH_ITEMS:
            _check_items(content, at + _WITH_ITEMS[kind], at + length, name)
        at += length


def _user_information(primitive: A_ASSOCIATE) -> tuple[int, str]:
    version = ""
    for item in primitive.user_information:
        if isinstance(item, ImplementationVersionNameNotification):
            version = str(item.implementation_version_name or "").strip()
    return int(primitive.maximum_length_received or 0), version
