"""junit.xml: the verdicts for a CI server, as Jenkins and Surefire write them.

A suite is a family of checks on one VIP (`PERSIST/DICOM`), a test case is one check. What failed is a failure, what is
unknown is an error (a CI server must not take it for a pass), what was skipped is skipped; a waived check passes, and its
output says who waived it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from itertools import groupby

from .text import legible, one_line
from .verdict import CheckResult, Report


def junit_report(report: Report) -> bytes:
    """Return junit.xml as UTF-8 bytes; characters that XML forbids are left out."""
    root = ET.Element("testsuites", _counts(report.checks) | {"name": f"preflight {report.profile}"})
    ordered = sorted(report.checks, key=_suite_name)  # stable: within a suite the catalogue's order stays
    for name, checks in groupby(ordered, key=_suite_name):
        root.append(_suite(name, list(checks), report))
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, legible(value))
        element.text = legible(element.text) if element.text else element.text
    ET.indent(root)
    xml: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def family_of(check: str) -> str:
    """Return the family of a check: `PERSIST` of `PERSIST-1`."""
    return check.rsplit("-", 1)[0]


def _suite_name(check: CheckResult) -> str:
    return f"{family_of(check.check)}/{check.vip or 'site'}"


def _counts(checks: Iterable[CheckResult]) -> dict[str, str]:
    verdicts = [check.verdict for check in checks]
    return {"tests": str(len(verdicts)), "failures": str(verdicts.count("fail")), "errors": str(verdicts.count("unknown"))}


def _suite(name: str, checks: list[CheckResult], report: Report) -> ET.Element:
    skipped = sum(check.verdict == "skipped" for check in checks)
    counts = _counts(checks) | {"skipped": str(skipped)}
    suite = ET.Element("testsuite", {"name": name} | counts | {"timestamp": report.run.started})
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": key, "value": value})
    for check in checks:
        suite.append(_case(check))
    return suite


def _properties(report: Report) -> dict[str, str]:
    return {
        "run": report.run.id,
        "seed": str(report.run.seed),
        "site": report.site.name,
        "site_sha256": report.site.sha256,
        "kind": report.kind,
        "target": report.target,
        "nodes": report.nodes,
        "profile": report.profile,
        "plant": report.plant or "",
        "only": " ".join(report.only),
        "verdict": report.verdict,
        "version": report.run.version,
    }


def _case(check: CheckResult) -> ET.Element:
    case = ET.Element("testcase", {"name": check.id, "classname": f"preflight.{family_of(check.check)}"})
    message = one_line(check.reason)
    if check.verdict == "fail":
        ET.SubElement(case, "failure", {"message": message, "type": check.subject or "fail"}).text = check.reason
    elif check.verdict == "unknown":
        ET.SubElement(case, "error", {"message": message, "type": "unknown"}).text = check.reason
    elif check.verdict == "skipped":
        ET.SubElement(case, "skipped", {"message": message})
    ET.SubElement(case, "system-out").text = _output(check)
    return case


def _output(check: CheckResult) -> str:
    lines = [check.title, f"requirement: {check.requirement}", f"required: {'yes' if check.required else 'no'}"]
    if check.waiver is not None:
        lines.append(f"waived by {check.waiver.by} until {check.waiver.until}: {check.waiver.why}")
    if check.verdict in ("pass", "waived") and check.reason:
        lines.append(check.reason)
    lines += [f"evidence: {path}" for path in check.evidence]
    return "\n".join(lines)
