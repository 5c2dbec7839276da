from __future__ import annotations

import pytest

from .fitting import STANDING, FitError, Point, Tariff, calm, check, student, tariff_of


def _point(
    name: str, images: float, size_bytes: float, cores: float, *, strange_cores: float = 0.0, held_out: bool = False
) -> Point:  # fmt: skip
    return Point(
        name=name, over_s=5.0, happened={"image": images, "byte": size_bytes}, cores={"balancer": cores},
        strange_cores=strange_cores, held_out=held_out,
    )  # fmt: skip


# 0.1 cores to stand there, 1 ms an image, 2 ns a byte
EXACT = [
    _point("idle", 0, 0, 0.1),
    _point("small", 100, 1e6, 0.202),
    _point("many small", 400, 4e6, 0.508),
    _point("large", 10, 1e8, 0.31),
    _point("many large", 20, 2e8, 0.52),
]


def test_prices_are_found_again_where_the_points_follow_them_exactly() -> None:
    tariff = tariff_of("balancer", EXACT, (STANDING, "image", "byte"))
    assert tariff.prices[STANDING].cpu_s == pytest.approx(0.1)
    assert tariff.prices["image"].cpu_s == pytest.approx(1e-3)
    assert tariff.prices["byte"].cpu_s == pytest.approx(2e-9)
    assert tariff.points == 5
    assert tariff.relative_error == pytest.approx(0, abs=1e-9)


def test_the_interval_of_an_exact_price_has_no_width() -> None:
    image = tariff_of("balancer", EXACT, (STANDING, "image", "byte")).prices["image"]
    assert image.low_s == pytest.approx(image.high_s)


def test_the_interval_encloses_the_price_where_points_scatter() -> None:
    points = [_point("a", 100, 0, 0.11), _point("b", 100, 0, 0.09), _point("c", 200, 0, 0.21), _point("d", 200, 0, 0.19)]
    image = tariff_of("balancer", points, ("image",)).prices["image"]
    assert image.low_s < 1e-3 < image.high_s
    assert image.high_s - image.low_s < 1e-3


def test_a_small_point_counts_as_much_as_a_large_one() -> None:
    points = [_point("small", 10, 0, 0.1), _point("large", 1000, 0, 5.0)]
    image = tariff_of("balancer", points, ("image",)).prices["image"]
    assert image.cpu_s == pytest.approx(0.006)  # (100 p - 1)**2 + (200 p - 1)**2 is least there


def test_a_unit_whose_price_is_below_nothing_is_left_out_and_named() -> None:
    points = [_point("a", 100, 0, 0.2), _point("b", 100, 1e6, 0.19), _point("c", 200, 0, 0.4), _point("d", 200, 2e6, 0.38)]
    tariff = tariff_of("balancer", points, ("image", "byte"))
    assert tariff.untold == ("byte",)
    assert list(tariff.prices) == ["image"]


def test_held_out_points_make_no_prices() -> None:
    points = [*EXACT, _point("held out", 100, 1e6, 9.0, held_out=True)]
    assert tariff_of("balancer", points, (STANDING, "image", "byte")).prices["image"].cpu_s == pytest.approx(1e-3)


def test_held_out_points_are_predicted_and_compared() -> None:
    tariff = tariff_of("balancer", EXACT, (STANDING, "image", "byte"))
    (checked,) = check([tariff], [*EXACT, _point("mixed", 50, 1e7, 0.16, held_out=True)])
    assert (checked.point, checked.part) == ("mixed", "balancer")
    assert checked.predicted == pytest.approx(0.17)
    assert checked.error == pytest.approx(0.0625)


def test_a_part_that_was_not_seen_at_a_held_out_point_is_not_compared() -> None:
    tariff = Tariff(part="node/hl7", prices={}, points=0, relative_error=0.0)
    assert check([tariff], [_point("mixed", 1, 1, 0.1, held_out=True)]) == []


def test_too_few_points_are_refused() -> None:
    with pytest.raises(FitError, match="balancer: expected at least 4 points for 3 prices, found 3"):
        tariff_of("balancer", EXACT[:3], (STANDING, "image", "byte"))


def test_a_unit_that_never_happened_is_refused() -> None:
    with pytest.raises(FitError, match="expected a point at which message happens, found none"):
        tariff_of("balancer", EXACT, (STANDING, "message"))


def test_units_that_always_come_together_are_refused() -> None:
    points = [_point(str(number), number, 1000 * number, number) for number in range(1, 6)]
    with pytest.raises(FitError, match="expected points that tell image, byte apart"):
        tariff_of("balancer", points, ("image", "byte"))


def test_points_during_which_others_used_the_machine_are_dropped() -> None:
    quiet, loud = _point("quiet", 1, 1, 1.0, strange_cores=0.1), _point("loud", 1, 1, 1.0, strange_cores=0.9)
    assert calm([quiet, loud], 0.3) == [quiet]


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042)])
def test_students_t_is_as_the_tables_have_it(freedom: int, expected: float) -> None:
    assert student(freedom) == pytest.approx(expected, rel=0.01)
