from __future__ import annotations

import msgspec
import pytest

from lbconfig.site import ServiceKind
from scenarios.checkers.cut_lines import CutLine, cut_lines
from simulators.operations import Kind, Operation, Outcome
from tests.scenarios.conftest import SECOND, History, operation
from tests.scenarios.load_histories import VIP


def step(number: int, session: int, **fields: object) -> Operation:
    begun_ns = number * SECOND
    return operation(
        number, session=session, source_port=1000 + session, begun_ns=begun_ns, ended_ns=begun_ns + 10, **fields
    )  # fmt: skip


def found(history: History, service: ServiceKind, *operations: Operation) -> list[CutLine]:
    return cut_lines(msgspec.structs.replace(VIP, service=service), history(*operations), [])


def test_nothing_was_cut_where_nothing_was_done(history: History) -> None:
    assert found(history, "hl7") == []


def test_a_line_of_an_engine_is_kept_from_message_to_message(history: History) -> None:
    assert found(history, "hl7", step(1, 1), step(2, 1), step(3, 1)) == []
    assert found(history, "hl7", step(1, 1), step(2, 2)) == [CutLine("127.1.0.1", 1001, SECOND + 10, 2 * SECOND, "")]


def test_lines_of_several_sources_are_told_apart(history: History) -> None:
    lines = [step(n, 1 + n % 2, source=f"127.1.0.{1 + n % 2}") for n in range(1, 9)]
    assert found(history, "hl7", *lines) == []


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.INDETERMINATE])
def test_a_client_that_failed_hung_up_itself(history: History, outcome: Outcome) -> None:
    assert found(history, "hl7", step(1, 1, outcome=outcome), step(2, 2)) == []


def test_a_study_has_one_association_and_the_next_one_another(history: History) -> None:
    first = [step(n, 1, patient=7) for n in (1, 2)]
    assert found(history, "dicom", *first, step(3, 2, patient=8)) == []
    assert found(history, "dicom", *first, step(3, 2, patient=7)) == [
        CutLine("127.1.0.1", 1001, 2 * SECOND + 10, 3 * SECOND, "")
    ]


def test_a_web_session_has_one_connection_and_the_next_login_another(history: History) -> None:
    session = [step(1, 1, kind=Kind.ECHO), step(2, 1, kind=Kind.QUERY)]
    assert found(history, "https", *session, step(3, 2, kind=Kind.ECHO)) == []
    assert found(history, "https", *session, step(3, 2, kind=Kind.NOTE)) == [
        CutLine("127.1.0.1", 1001, 2 * SECOND + 10, 3 * SECOND, "")
    ]


def test_every_query_of_a_worklist_has_an_association_of_its_own(history: History) -> None:
    assert found(history, "dmwl", step(1, 1, kind=Kind.QUERY), step(2, 2, kind=Kind.QUERY)) == []
