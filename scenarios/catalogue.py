"""The acceptance catalogue: every check that exists by id, and what it proves. Ids never change.

`built` says whether this version can run the check; the rest is listed in the report as not tested.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ServiceKind = Literal["dicom", "hl7", "dmwl", "https"]
ALL: tuple[ServiceKind, ...] = ("dicom", "hl7", "dmwl", "https")
SITE: tuple[ServiceKind, ...] = ()


class Check(msgspec.Struct, frozen=True):
    """One check. `services`: each VIP of these services gets a verdict of its own; none: the site gets one.

    `lacks` says what of the check's own criterion this version does not look at, `needs` which ability of a lab it needs that
    not every lab has.
    """

    id: str
    services: tuple[ServiceKind, ...]
    impact: Literal["read", "write", "disrupt"]
    requirement: str  # the section of the brief, or "practice"
    title: str
    built: bool = False
    lacks: str = ""
    needs: str = ""


D: tuple[ServiceKind, ...] = ("dicom",)
H: tuple[ServiceKind, ...] = ("hl7",)
M: tuple[ServiceKind, ...] = ("dmwl",)
W: tuple[ServiceKind, ...] = ("https",)
P = "practice"
VANISH = "nodes that can vanish from the network"
PAIR = "a pair of balancers, of which one can fail"
LAB_ABILITIES: dict[str, frozenset[str]] = {"native": frozenset(), "compose": frozenset({VANISH, PAIR})}

CATALOGUE: tuple[Check, ...] = (
    Check("CONFIG-1", ALL, "read", "brief 5.1, 6.1, 8.1-8.4", "The balancer has this virtual service and nothing else on its address"),
    Check("CONFIG-2", ALL, "read", "brief 8.1-8.4, 9.1", "Its real servers are the site's: addresses, ports, weights, labels"),
    Check("CONFIG-3", ALL, "read", "brief 5.1", "Persistence by source IP is configured with the site's expiry and size"),
    Check("CONFIG-4", ALL, "read", "brief 5.1", "The health check is of the site's kind and fast enough"),
    Check("CONFIG-5", ALL, "read", P, "Time-outs outlast the longest silence; keep-alive is shorter than any firewall's"),
    Check("CONFIG-6", ALL, "read", P, "Redispatch and session shutdown are on; no HTTP fallback where no HTTP is spoken"),
    Check("CONFIG-7", SITE, "read", "brief 8.5, 9.1", "The running state equals the saved configuration"),
    Check("REACH-1", ALL, "read", "brief 5, 9.1, 9.2", "The VIP and every real server answer at their own protocol", True),
    Check("DICOM-1", ("dicom", "dmwl"), "read", "brief 8.1", "C-ECHO succeeds; an unknown called AE title is treated as declared", True),
    Check("DICOM-2", D, "write", "brief 8.1", "Every kind and size of image is stored exactly as sent", True),
    Check("DICOM-3", D, "write", P, "Storage commitment lists every instance"),
    Check("DICOM-4", D, "write", P, "A study stored through one node is found and moved through the other"),
    Check("HL7-1", H, "write", "brief 8.2", "Every kind of message is accepted, and its acknowledgement names it", True),
    Check("HL7-2", H, "write", "brief 8.2", "Bad content is refused by name; fragments, batches and large messages arrive whole", True),
    Check("DMWL-1", M, "read", "brief 8.3", "Worklist queries return exactly the matching items, from every node alike", True),
    Check("WEB-1", W, "read", "brief 8.4", "TLS is new enough, and every node's certificate is valid and names the VIP", True),
    Check("WEB-2", W, "write", "brief 8.4, 9.2", "A person logs in, lists studies, opens one; the session survives reconnects", True, "visited by an HTTP client, not yet in a real browser"),
    Check("WEB-3", W, "read", P, "Nothing that the web page sends out names a node instead of the VIP"),
    Check("JOURNEY-1", SITE, "write", "brief 4", "A patient's journey: order, worklist on every node, images, result, web page", True, "the same with a node killed after each step"),
    Check("PERSIST-1", ALL, "write", "brief 5.1", "Each source meets one node only, however often it reconnects", True),
    Check("PERSIST-2", ALL, "write", "brief 5.1", "After its expiry the entry is gone, and a reconnect loses nothing"),
    Check("PERSIST-3", ALL, "disrupt", "brief 8.5", "Persistence entries survive a reload of the balancer", True),
    Check("SPREAD-1", ALL, "write", "brief 5.1", "New sources are spread over the nodes by their weights", True, "under a hash: the nodes as computed from the addresses"),
    Check("SOURCE-1", ALL, "read", "brief 6.1", "The node sees the address that the site says: the balancer's or the client's", True),
    Check("SOURCE-2", ("dicom", "dmwl"), "read", "brief 6.1", "Registered AE titles work and others are refused behind one address"),
    Check("OUTBOUND-1", ("dicom", "hl7"), "write", "brief 6.1", "What nodes send comes from node addresses, and receivers admit it", True),
    Check("HEALTH-1", ALL, "disrupt", "brief 5.1", "A stopped service is marked DOWN in time, and UP again when it is back", True),
    Check("HEALTH-2", ALL, "disrupt", "brief 5.1", "A process that accepts and never answers is taken out", True),
    Check("FAILOVER-1", ALL, "disrupt", "brief 5.1", "A node dies: new, sticky and established sessions recover in time", True),
    Check("FAILOVER-2", ALL, "disrupt", P, "A node vanishes without a word: the same holds", True, needs=VANISH),
    Check("FAILOVER-3", ALL, "disrupt", P, "One service of a node fails: only its VIP moves", True),
    Check("FAILOVER-4", ALL, "disrupt", P, "The node returns: nobody is forced back, and nothing flaps", True),
    Check("FAILOVER-5", ALL, "disrupt", P, "All nodes of a VIP down: a prompt close, never an answer in another protocol", True),
    Check("LOSS-1", ALL, "disrupt", P, "Through every fault nothing acknowledged is lost, added or changed", True),
    Check("LOSS-2", ("dicom", "hl7"), "disrupt", P, "Killed in each protocol phase: the sender knows, and its retry makes no duplicate"),
    Check("STUDY-1", D, "disrupt", P, "A study split by a fail-over is complete, once, through both nodes"),
    Check("ORDER-1", H, "disrupt", P, "No message of a patient is applied after a later one was acknowledged", True, "a balancer that hangs or pauses and wakes up: PAIR-3 counts what it delivers late"),
    Check("IDLE-1", ("hl7", "dicom"), "write", P, "A connection silent for the site's longest silence still delivers"),
    Check("IDLE-2", ALL, "write", P, "A client that vanishes frees its session and its slot"),
    Check("LONG-1", D, "write", P, "An association of twice the longest study is not cut"),
    Check("STORM-1", ALL, "disrupt", P, "Every client reconnects at once: all are served", True),
    Check("DRAIN-1", ALL, "disrupt", "brief 9.1", "Drained: existing work finishes, and sticky sources leave within the window", True),
    Check("HALT-1", ALL, "disrupt", "brief 9.1", "Halted: no session remains, the other node carries on, nothing is lost", True, "sessions of old workers after a reload"),
    Check("RELOAD-1", ALL, "disrupt", "brief 8.5", "A reload under traffic loses no connection and keeps drain and halt states", True),
    Check("ROLLING-1", ALL, "disrupt", P, "Both nodes upgraded one after the other under traffic"),
    Check("PAIR-1", SITE, "read", "brief 7.5, 12.1", "Both units see each other, with the same configuration", True, needs=PAIR),
    Check("PAIR-2", ALL, "write", "brief 7.5", "A persistence entry reaches the passive unit in time", True, needs=PAIR),
    Check("PAIR-3", ALL, "disrupt", "brief 12.1", "The active unit dies: the VIP answers again in time, on the same node", True, needs=PAIR),
    Check("PAIR-4", SITE, "disrupt", "brief 12.1", "The primary returns without an unplanned failback; two holders are detected", True, needs=PAIR),
    Check("LOAD-1", ALL, "disrupt", "brief 6.1", "The peak times 1.5: every operation within its limit", True),
    Check("LOAD-2", ALL, "write", "brief 6.1", "What the balancer adds, as a ratio with its interval", True),
    Check("LOAD-3", ALL, "disrupt", P, "One node carries the peak alone", True),
    Check("LOAD-4", ALL, "disrupt", P, "Stepped load finds the knee and names what saturated", True),
    Check("SOAK-1", ALL, "write", P, "Hours at the average rate: memory flat, nothing lost", True),
    Check("SECURE-1", SITE, "read", "brief 7.5", "Only the expected ports answer"),
    Check("SECURE-2", SITE, "read", "brief 7.3, 12.1", "Management refuses wrong and default credentials"),
    Check("SECURE-3", ALL, "disrupt", P, "Garbage ends its own session and nobody else's"),
    Check("OPS-1", SITE, "read", "brief 3.1, 7.1", "Clocks, versions, licence and certificates are recorded"),
    Check("OPS-2", SITE, "disrupt", P, "A node DOWN raises an alarm that a named person receives"),
)  # fmt: skip

BY_ID = {check.id: check for check in CATALOGUE}


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A set of checks by name, and what its LOSS-1 and ORDER-1 go through.

    `trials` names them: fixtures of scenarios/suite that each break or load something. `is_load`: nodes are played by
    the engine for crowds and keep receipts only.
    """

    what: str
    checks: frozenset[str]
    trials: tuple[str, ...]
    is_load: bool = False


_LOAD_CHECKS = frozenset({"STORM-1", "LOAD-1", "LOAD-2", "LOAD-3", "LOAD-4"})
_MAINTENANCE_CHECKS = frozenset({"PERSIST-3", "HEALTH-2", "FAILOVER-3", "FAILOVER-5", "DRAIN-1", "RELOAD-1"})
_PAIR_CHECKS = frozenset({"PAIR-1", "PAIR-2", "PAIR-3", "PAIR-4"})
_STANDARD_TRIALS = ("services_stopped", "node_died", "node_paused", "node_halted", "node_vanished")
_MAINTENANCE_TRIALS = ("service_failures", "blackout", "node_drained", "reloads", "node_hung")
_PAIR_TRIALS = ("unit_failures",)
_TRIAL_NEEDS = {"node_vanished": VANISH, "unit_failures": PAIR}
_BUILT = frozenset(check.id for check in CATALOGUE if check.built)
_OVER_ALL = frozenset({"LOSS-1", "ORDER-1"})

PROFILES: dict[str, Profile] = {
    "standard": Profile(
        what="every function, persistence and fail-over, under light traffic",
        checks=_BUILT - _LOAD_CHECKS - _MAINTENANCE_CHECKS - _PAIR_CHECKS - {"SOAK-1"},
        trials=_STANDARD_TRIALS,
    ),
    "maintenance": Profile(
        what="drain, reload, one service alone, no server at all, a process that hangs, under light traffic",
        checks=_MAINTENANCE_CHECKS | _OVER_ALL | {"REACH-1"},
        trials=_MAINTENANCE_TRIALS,
    ),
    "pair": Profile(
        what="a pair of balancers: both units alike, and each way in which one can fail, under light traffic",
        checks=_PAIR_CHECKS | {"LOSS-1", "REACH-1"},
        trials=_PAIR_TRIALS,
    ),
    "full": Profile(
        what="standard, maintenance and pair",
        checks=_BUILT - _LOAD_CHECKS - {"SOAK-1"},
        trials=_STANDARD_TRIALS + _MAINTENANCE_TRIALS + _PAIR_TRIALS,
    ),
    "load": Profile(
        what="the site's peak, one node alone, the knee, a storm of reconnects",
        checks=_LOAD_CHECKS | _OVER_ALL | {"REACH-1"},
        trials=("peak_load", "one_node_load", "steps", "storm"),
        is_load=True,
    ),
    "rate": Profile(
        what="one load run at the rate that is asked for",
        checks=frozenset({"LOAD-1"}) | _OVER_ALL,
        trials=("peak_load",),
        is_load=True,
    ),
    "soak": Profile(
        what="hours at the average rate", checks=frozenset({"SOAK-1"}) | _OVER_ALL, trials=("soak",), is_load=True
    ),
}


def profile_of(profile: str, lab: str) -> Profile:
    """Return what a profile holds in a lab: no more than the lab can do.

    In containers, where there is time for it, `standard` is all that `full` is.
    """
    chosen = PROFILES["full" if (profile, lab) == ("standard", "compose") else profile]
    able = LAB_ABILITIES[lab] | {""}
    return msgspec.structs.replace(
        chosen,
        checks=frozenset(check for check in chosen.checks if BY_ID[check].needs in able),
        trials=tuple(trial for trial in chosen.trials if _TRIAL_NEEDS.get(trial, "") in able),
    )


def place(check_id: str) -> int:
    """Return where a check stands in the catalogue."""
    return [check.id for check in CATALOGUE].index(check_id)
