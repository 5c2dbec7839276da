"""PAIR-1, PAIR-2 and PAIR-4: handwritten pairs, entries and holders."""

from __future__ import annotations

import msgspec
import pytest

from lbconfig.peers import PeerSeen
from scenarios.checkers.holders import judge_holders
from scenarios.checkers.replicated import judge_replicated
from scenarios.checkers.same_units import judge_same_units
from scenarios.findings import Finding
from scenarios.takeovers import CutEpisode, HolderSample, PairSeen, Replicated, ServerKey, UnitEpisode, UnitSeen, Way
from tests.scenarios.conftest import SECOND

NAMES = ("lb-1", "lb-2")
HAPROXY = """global
    localpeer {own}
peers replication
    peer lb-1 10.0.0.1:7778
    peer lb-2 10.0.0.2:7778
listen HL7
    bind 10.0.0.101:6667
    source {address}
    timeout server {timeout}
"""
KEEPALIVED = (
    "vrrp_instance preflight {{\n    priority {priority}\n    unicast_src_ip {address}\n    10.0.0.101/24 dev eth0\n}}\n"
)
FILTER = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s {other}/32 -p 112 -j ACCEPT\nCOMMIT\n"
SERVERS = (ServerKey("HL7", "HL71", 1, "10.0.0.150", 6667, 100), ServerKey("HL7", "HL72", 2, "10.0.0.151", 6667, 100))
ONE_HOLDER = tuple(HolderSample(at, ("lb-1",)) for at in range(10))


def unit(name: str, **changes: object) -> UnitSeen:
    other = {"lb-1": "lb-2", "lb-2": "lb-1"}[name]
    addresses = {"lb-1": "10.0.0.1", "lb-2": "10.0.0.2"}
    address = addresses[name]
    text = HAPROXY.format(own=name, address=address, timeout="43200s")
    priority = {"lb-1": 150, "lb-2": 100}[name]
    seen = UnitSeen(
        name=name, address=address, version="3.0.11",
        files={
            "haproxy.cfg": text,
            "keepalived.conf": KEEPALIVED.format(priority=priority, address=address),
            "filter.rules": FILTER.format(other=addresses[other]),
        },
        peers=(
            PeerSeen(name=name, is_local=True, address=f"{address}:7778", status="NONE"),
            PeerSeen(name=other, is_local=False, address="10.0.0.2:7778", status="ESTA"),
        ),
        servers=SERVERS,
    )  # fmt: skip
    return msgspec.structs.replace(seen, **changes)


def pair(second: UnitSeen | None = None, **changes: object) -> Finding:
    seen = PairSeen(units=(unit("lb-1"), second or unit("lb-2")), holders=ONE_HOLDER)
    return judge_same_units(NAMES, msgspec.structs.replace(seen, **changes), samples_at_least=5)


def edited(file: str, old: str, new: str) -> UnitSeen:
    second = unit("lb-2")
    assert old in second.files[file]
    return unit("lb-2", files={**second.files, file: second.files[file].replace(old, new)})


def test_units_that_see_each_other_and_are_alike_pass_and_what_differs_by_design_is_listed() -> None:
    finding = pair()
    assert finding.verdict == "pass"
    assert finding.measured["different_by_design"] == ["keepalived.conf: priority 150 on lb-1, priority 100 on lb-2"]


def test_what_one_unit_alone_has_by_design_is_listed_as_such() -> None:
    waits = edited("keepalived.conf", "    priority 100\n", "    priority 100\n    vrrp_startup_delay 4\n")
    assert pair(waits).measured["different_by_design"] == [
        "keepalived.conf: priority 150 on lb-1, priority 100 on lb-2",
        "keepalived.conf: no vrrp_startup_delay on lb-1, vrrp_startup_delay 4 on lb-2",
    ]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (unit("lb-2", peers=()), "lb-2 does not know lb-1 as a peer: it knows no other peer"),
        (unit("lb-2", peers=(PeerSeen(name="lb-1", is_local=False, address="x", status="RFSD"),)), "(RFSD)"),
        (unit("lb-2", version="2.6.12"), "versions differ: lb-1 3.0.11, lb-2 2.6.12"),
        (unit("lb-2", servers=(SERVERS[0], msgspec.structs.replace(SERVERS[1], id=3))),
         "HL7/HL72: id 2, 10.0.0.151:6667, weight 100 on lb-1, id 3, 10.0.0.151:6667, weight 100 on lb-2"),
        (unit("lb-2", servers=SERVERS[:1]), "HL7/HL72: id 2, 10.0.0.151:6667, weight 100 on lb-1, none on lb-2"),
        (edited("haproxy.cfg", "43200s", "43s"), "[listen HL7] timeout server 43s"),
        (edited("haproxy.cfg", "localpeer lb-2", "localpeer lb-1"), "calls itself by another unit's name"),
        (edited("haproxy.cfg", "listen HL7", "listen HL7-new"), "only lb-1 has listen HL7"),
        (edited("filter.rules", "COMMIT", "-A INPUT -s 198.18.0.0/15 -j DROP\nCOMMIT"),
         "filter.rules: only lb-2 has -A INPUT -s 198.18.0.0/15 -j DROP"),
        (edited("keepalived.conf", "    10.0.0.101/24 dev eth0\n", ""), "only lb-1 has [vrrp_instance preflight {] 10.0.0"),
    ],
)  # fmt: skip
def test_each_difference_fails_the_balancer(second: UnitSeen, words: str) -> None:
    finding = pair(second)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert words in finding.reason


def test_inner_addresses_are_each_units_own_and_another_ones_is_a_difference() -> None:
    def with_arm(name: str, inner: str, source: str) -> UnitSeen:
        seen = unit(name)
        text = seen.files["haproxy.cfg"].replace(f"source {seen.address}", f"source {source}")
        return unit(name, inner_address=inner, files={**seen.files, "haproxy.cfg": text})

    first = with_arm("lb-1", "10.0.1.1", "10.0.1.1")
    alike = pair(units=(first, with_arm("lb-2", "10.0.1.2", "10.0.1.2")))
    assert alike.verdict == "pass"
    outer = pair(units=(first, with_arm("lb-2", "10.0.1.2", "10.0.0.2")))
    assert (outer.verdict, outer.subject) == ("fail", "balancer")
    assert "haproxy.cfg: only lb-1 has [listen HL7] source <own inner address>" in outer.reason


def test_another_certificate_on_one_unit_fails() -> None:
    first, second = unit("lb-1", certificates={"site.pem": "aa"}), unit("lb-2", certificates={"site.pem": "bb"})
    finding = pair(units=(first, second))
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert finding.reason == (
        "lb-1 and lb-2 differ: the certificate file site.pem is not the same on both (SHA-256 aa… on lb-1, bb… on lb-2)"
    )


def test_a_certificate_that_nobody_could_read_is_unknown() -> None:
    first, second = unit("lb-1", certificates={"site.pem": ""}), unit("lb-2", certificates={"site.pem": ""})
    finding = pair(units=(first, second))
    assert finding.verdict == "unknown"
    assert "could not be read: site.pem of lb-1; site.pem of lb-2" in finding.reason
    assert pair(units=(unit("lb-1", certificates={"site.pem": "aa"}), second)).verdict == "unknown"


def test_two_holders_at_rest_and_an_open_replication_port_fail() -> None:
    both = (*ONE_HOLDER[:5], HolderSample(9, NAMES))
    assert "lb-1 and lb-2 both answer for the VIPs (1 of 6 looks)" in pair(holders=both).reason
    assert "nobody answers" in pair(holders=(*ONE_HOLDER, HolderSample(9, ()))).reason
    assert "open to clients" in pair(replication_from_clients={"lb-1": "refused", "lb-2": "open"}).reason


def test_silence_of_udp_is_unknown_and_never_closed_or_open() -> None:
    silent = pair(heartbeat={"lb-1": "silent", "lb-2": "silent"})
    assert silent.verdict == "pass"
    assert silent.measured["heartbeat_port"]["lb-1"].startswith("unknown")
    assert pair(heartbeat={"lb-1": "answered", "lb-2": "refused"}).verdict == "fail"


def test_a_unit_that_did_not_answer_too_few_looks_and_nothing_are_unknown() -> None:
    assert pair(units=(unit("lb-1"),)).verdict == "unknown"
    assert pair(holders=ONE_HOLDER[:2]).verdict == "unknown"
    assert judge_same_units(NAMES, PairSeen(units=(), holders=()), samples_at_least=5).verdict == "unknown"
    assert judge_same_units((), PairSeen(units=(), holders=()), samples_at_least=0).verdict == "unknown"


def entries(count: int, **changes: object) -> list[Replicated]:
    one = Replicated("", "n1", 0, SECOND // 10, SECOND // 5, "n1", "n1")
    return [msgspec.structs.replace(one, source=f"10.1.0.{number}", **changes) for number in range(count)]


def replicated(found: list[Replicated]) -> Finding:
    return judge_replicated(found, active="lb-1", passive="lb-2", bound_s=2, at_least=20)


def test_entries_that_come_in_time_for_the_same_node_pass() -> None:
    finding = replicated(entries(20))
    assert (finding.verdict, finding.measured["latest_s"]) == ("pass", 0.2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passive_ns": None, "passive_node": ""}, "1 of 21 entries of lb-1 never came to lb-2: 10.1.0.0"),
        ({"passive_ns": 3 * SECOND}, "1 entries came late (limit 2 s): 3.00 s"),
        ({"passive_node": "n2"}, "n1 met, n1 on lb-1, n2 on lb-2"),
        ({"active_ns": None, "active_node": ""}, "1 of 21 sources have no entry on lb-1 itself"),
    ],
)
def test_an_entry_that_is_missing_late_or_wrong_fails(changes: dict[str, object], words: str) -> None:
    finding = replicated([*entries(20), *entries(1, **changes)])
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert words in finding.reason


def test_too_few_entries_are_unknown() -> None:
    assert replicated(entries(19)).verdict == "unknown"
    assert replicated([]).verdict == "unknown"


def failure(victim: str = "lb-1", how: Way = "killed", holder_after: str = "lb-2", **changes: object) -> UnitEpisode:
    survivor = "lb-2" if victim == "lb-1" else "lb-1"
    samples = [HolderSample(at * SECOND, (survivor,)) for at in range(1, 10)]
    samples += [HolderSample(at * SECOND, (holder_after,)) for at in range(10, 20)]
    episode = UnitEpisode(
        workload=1, how=how, victim=victim, survivor=survivor, called_ns=0, begun_ns=1, revisited_ns=2 * SECOND,
        ending_ns=9 * SECOND, ended_ns=10 * SECOND, observed_ns=19 * SECOND, visitors=(), holders=tuple(samples),
        entries_before={}, entries_after={}, generator_lag_s=0,
    )  # fmt: skip
    return msgspec.structs.replace(episode, **changes)


def cut(which: str, during: tuple[str, ...], healed_at_s: float = 10.5, **changes: object) -> CutEpisode:
    samples = [HolderSample(at * SECOND, during) for at in range(1, 10)]
    samples += [
        HolderSample(int(at * SECOND), ("lb-1",) if at >= healed_at_s else NAMES) for at in (10.1, 10.5, 11, 12, 13, 14)
    ]
    episode = CutEpisode(
        which=which,  # type: ignore[arg-type]
        begun_ns=0, ending_ns=10 * SECOND, ended_ns=10 * SECOND, observed_ns=14 * SECOND, holders=tuple(samples),
        peers_established_after=True,
    )  # fmt: skip
    return msgspec.structs.replace(episode, **changes)


CUTS = [cut("replication", ("lb-1",), 0), cut("all", NAMES)]


def holders(failures: list[UnitEpisode], cuts: list[CutEpisode]) -> Finding:
    return judge_holders("lb-1", failures, cuts, heals_within_s=1.5, watched_at_least_s=3)


def test_no_failback_one_holder_and_two_that_are_detected_and_heal_pass() -> None:
    finding = holders([failure(), failure("lb-2", "stopped", "lb-1")], CUTS)
    assert (finding.verdict, finding.measured["cuts"]["all"]["looks_at_two_holders"]) == ("pass", 9)
    assert "VRRP stands in" in finding.reason


def test_a_primary_that_takes_the_vips_back_fails() -> None:
    finding = holders([failure(holder_after="lb-1")], CUTS)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "lb-1 (killed) took the VIPs back 1.0 s after it was mended" in finding.reason


def test_a_primary_that_nobody_took_the_vips_from_did_not_come_back() -> None:
    kept = tuple(HolderSample(at * SECOND, ("lb-1",)) for at in range(1, 20))
    finding = holders([failure(how="haproxy-hung", holders=kept)], CUTS)
    assert finding.verdict == "unknown"
    assert "nobody took the VIPs from it while it failed (haproxy-hung)" in finding.reason


@pytest.mark.parametrize(
    "cuts",
    [
        [cut("replication", NAMES, 0), CUTS[1]],
        [CUTS[0], cut("all", NAMES, 13)],
        [CUTS[0], cut("all", NAMES, 99)],
        [CUTS[0], cut("all", NAMES, peers_established_after=False)],
    ],
)
def test_two_holders_that_should_be_one_or_stay_two_fail(cuts: list[CutEpisode]) -> None:
    assert holders([failure()], cuts).verdict == "fail"


def test_two_holders_that_nobody_saw_no_return_and_no_cut_are_unknown() -> None:
    assert holders([failure()], [CUTS[0], cut("all", ("lb-1",))]).verdict == "unknown"
    assert holders([failure("lb-2", "killed", "lb-1")], CUTS).verdict == "unknown"
    assert holders([failure(observed_ns=11 * SECOND)], CUTS).verdict == "unknown"
    assert holders([failure()], CUTS[:1]).verdict == "unknown"
    assert holders([], []).verdict == "unknown"
