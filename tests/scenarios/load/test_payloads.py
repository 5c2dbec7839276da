from __future__ import annotations

from collections import Counter

from scenarios.load.payloads import ORDER_STATION, Line, Studies, ordered_by
from scenarios.load.plan import StudyMix
from simulators.hl7.message import Message
from simulators.hl7.samples import sample_templates
from simulators.operations import IdentitySource, Kind, identity_of_code


def test_the_choices_of_a_mix_follow_its_shares() -> None:
    studies = Studies((
        StudyMix(modality="CT", share=0.25, images=3, image_bytes=4096),
        StudyMix(modality="DX", share=0.75, images=2, image_bytes=8192),
    ))  # fmt: skip
    chosen = Counter(studies.chosen(number / 100).images for number in range(100))
    assert chosen == {3: 25, 2: 75}


def test_images_have_the_size_asked_for_and_odd_ones_a_byte_less() -> None:
    studies = Studies((StudyMix(modality="MG", share=1.0, images=1, image_bytes=10001),))
    assert studies.chosen(0.0).image.size_bytes == 10000


def test_shares_that_do_not_quite_sum_to_one_leave_no_choice_open() -> None:
    studies = Studies((StudyMix(modality="CT", share=0.3, images=1, image_bytes=4096),) * 3)
    assert studies.chosen(0.999999).images == 1


def test_without_a_mix_a_study_is_one_small_image() -> None:
    series = Studies(()).chosen(0.5)
    assert (series.images, series.image.size_bytes) == (1, 8192)


def test_a_message_is_an_order_when_its_number_says_so_and_else_an_update() -> None:
    line = Line(IdentitySource(1, 2), sample_templates())
    messages = [line.next() for _ in range(40)]
    orders = {message.identity.sequence for message in messages if Message(message.content).kind == ("ORM", "O01")}
    assert orders == {20, 30, 40, 50, 60}
    assert {Message(message.content).kind for message in messages} == {("ORM", "O01"), ("ADT", "A08")}


def test_what_was_ordered_can_be_told_from_the_identity_of_its_message() -> None:
    line = Line(IdentitySource(1, 2), sample_templates())
    for identity, _, content in (line.next() for _ in range(20)):
        order = Message(content).segment(b"OBR")
        assert ordered_by(identity) == (order.text(18) if order else None)


def test_every_message_names_itself_and_its_patient() -> None:
    line = Line(IdentitySource(1, 2), sample_templates())
    for _ in range(40):
        identity, patient, content = line.next()
        message = Message(content)
        assert message.control_id == identity.code
        named = identity_of_code(message.required(b"PID").text(3), Kind.PATIENT)
        assert named is not None
        assert named.key == patient


def test_orders_are_for_a_station_that_no_worklist_client_asks_for() -> None:
    line = Line(IdentitySource(1, 2), sample_templates())
    found = {order.text(21) for _ in range(20) if (order := Message(line.next().content).segment(b"OBR"))}
    assert found == {ORDER_STATION}
