"""The words and marks of the verdicts: the same on paper, in JUnit and on the terminal."""

from __future__ import annotations

from collections import Counter

from .verdict import CheckResult, CheckVerdict, Report, ReportVerdict

# The order is that of concern: what a reader must see first.
WORDS: dict[CheckVerdict, str] = {
    "fail": "fail",
    "unknown": "unknown",
    "waived": "waived",
    "skipped": "skipped",
    "pass": "pass",
}
MARKS: dict[CheckVerdict, str] = {"fail": "✗", "unknown": "?", "waived": "≈", "skipped": "\u2013", "pass": "✓"}
MEANINGS: dict[CheckVerdict, str] = {
    "fail": "The criterion was measured and not met. The subject says what the failure points at.",
    "unknown": "Too little was observed, the check itself broke, or the generator of the traffic fell behind. "
    "It is not a pass: repeat the run.",
    "waived": "The criterion was not met, and a named person accepted that in the site file, with a reason and a last day.",
    "skipped": "This target lacks what the check needs. Nothing was tried.",
    "pass": "The criterion was met, on what was measured here. Nothing observed is never a pass.",
}
REPORT_WORDS: dict[ReportVerdict, str] = {
    "pass": "Pass",
    "pass_with_waivers": "Pass with waivers",
    "fail": "Fail",
    "incomplete": "Incomplete",
}
REPORT_MARKS: dict[ReportVerdict, str] = {"pass": "✓", "pass_with_waivers": "≈", "fail": "✗", "incomplete": "?"}


def kind_sentence(report: Report) -> str:
    """Return, in one sentence, what kind of run this was."""
    nodes = "simulated imaging nodes" if report.nodes == "simulated" else "the real imaging nodes"
    place = {
        "native": "in a lab of processes on one machine",
        "compose": "in a lab of containers",
        "real": "at the site itself",
    }[report.target]
    what = "An acceptance" if report.kind == "acceptance" else "A rehearsal"
    return f"{what} {place}, with {nodes}."


def stand_in_sentence(report: Report) -> str:
    """Return what stood in for the appliance, and that its times are not the appliance's; empty where nothing did."""
    if report.target != "compose":
        return ""
    return (
        "Two HAProxy units with VRRP (keepalived) stood in for the appliance's pair and its heartbeat: how long a take-over "
        "lasts is said of this lab, and not of the appliance."
    )


def verdict_sentence(report: Report) -> str:
    """Return, in plain words, why the verdict of the run is what it is, and what else failed without deciding it."""
    required = [check for check in report.checks if check.required]
    count = Counter(check.verdict for check in required)
    if report.verdict == "fail":
        sentence = f"{count['fail']} of {_checks(len(required), 'required check')} failed."
    elif report.verdict == "incomplete":
        sentence = f"This run proves too little to pass: {_gaps(report, required, count)}."
    elif report.verdict == "pass_with_waivers":
        held, waived = count["pass"], count["waived"]
        sentence = (
            f"{held} of {_checks(len(required), 'required check')} held; a named person accepted the failure of {waived}."
        )
    else:
        sentence = f"All {_checks(len(required), 'required check')} held."
    others = sum(check.verdict == "fail" for check in report.checks if not check.required)
    return f"{sentence} {_checks(others, 'other check')} failed, which the site does not require." if others else sentence


def _gaps(report: Report, required: list[CheckResult], count: Counter[CheckVerdict]) -> str:
    gaps = []
    if report.only:
        gaps.append("it was partial (--only)")
    if not required:
        gaps.append("no required check was run")
    gaps += [
        f"{_checks(count[verdict], 'required check')} {WORDS[verdict]}"
        for verdict in ("unknown", "skipped")
        if count[verdict]
    ]
    return ", ".join(gaps) or "a required check is missing"


def _checks(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
