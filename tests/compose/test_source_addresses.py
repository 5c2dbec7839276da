from __future__ import annotations

import pytest

from compose.lab import LabError
from compose.source_addresses import SourceAddresses


def test_addresses_come_in_order_and_never_twice() -> None:
    sources = SourceAddresses("127.1.0.0/16")
    assert sources.take(2) + sources.take(1) == ["127.1.0.1", "127.1.0.2", "127.1.0.3"]


def test_addresses_that_end_in_0_or_255_are_left_out() -> None:
    taken = SourceAddresses("127.1.0.0/16").take(255)
    assert taken[253:] == ["127.1.0.254", "127.1.1.1"]


def test_a_network_that_runs_out_is_an_error_that_says_how_many_there_were() -> None:
    sources = SourceAddresses("127.1.0.0/30")
    sources.take(2)
    with pytest.raises(LabError, match=r"127.1.0.0/30: expected 5 more source addresses, found 1 left of 3"):
        sources.take(5)
