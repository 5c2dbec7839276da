"""From findings to the report: which checks were wanted, what each came to, and what that amounts to."""

from __future__ import annotations

import datetime
import difflib
import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from lbconfig.site import Site, Waiver
from reports.verdict import (
    BalancerSeen,
    CheckResult,
    CheckVerdict,
    Report,
    Run,
    SiteFile,
    Untested,
    Waived,
    verdict_of,
)
from scenarios.catalogue import BY_ID, CATALOGUE, LAB_ABILITIES, Check, profile_of
from scenarios.findings import Finding
from scenarios.options import ROOT, Options, UsageError


class Wanted(msgspec.Struct, frozen=True):
    """One verdict that has to be given: a check, on one VIP or (None) on the site."""

    check: Check
    vip: str | None

    @property
    def id(self) -> str:
        """Its id in the report."""
        return self.check.id if self.vip is None else f"{self.check.id}/{self.vip}"


def all_verdicts(site: Site, checks: Iterable[Check] = CATALOGUE) -> list[Wanted]:
    """Return every verdict that checks give on a site, in the catalogue's order."""
    wanted: list[Wanted] = []
    for check in checks:
        vips = [vip.name for vip in site.vip if vip.service in check.services]
        wanted += [Wanted(check, vip) for vip in vips] if check.services else [Wanted(check, None)]
    return wanted


def required_verdicts(site: Site, profile: str, lab: str) -> list[Wanted]:
    """Return the verdicts that decide: the site's own list, by default all of the profile that version and lab can give."""
    if site.required:
        return [wanted for wanted in all_verdicts(site) if _names(site.required, wanted)]
    checks = profile_of(profile, lab).checks
    return all_verdicts(site, [check for check in CATALOGUE if check.id in checks])


def selected_verdicts(site: Site, options: Options) -> list[Wanted]:
    """Return the verdicts that this run gives: the required ones, of them those that `--only` names."""
    required = required_verdicts(site, options.profile, options.lab)
    if options.only:
        everything = required + [wanted for wanted in all_verdicts(site) if wanted not in required]
        return [wanted for wanted in everything if _names(options.only, wanted)]
    return required


def check_ids(site: Site, options: Options) -> None:
    """Raise UsageError for the first check that the site requires or waives, or `--only` names, and that does not exist."""
    known = {wanted.id for wanted in all_verdicts(site)} | {check.id for check in CATALOGUE}
    named = [(f"{options.site.name}: required[{n}]", check) for n, check in enumerate(site.required)]
    named += [(f"{options.site.name}: waiver[{n}].check", waiver.check) for n, waiver in enumerate(site.waiver)]
    named += [("--only", check) for check in options.only]
    for place, check in named:
        if check not in known:
            close = difflib.get_close_matches(check, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(
                f'{place}: expected a check of the catalogue, such as PERSIST-1 or PERSIST-1/HL7, found "{check}"{hint}'
            )


class Acceptance:
    """Collects the findings of one run.

    Parameters
    ----------
    site : Site
        The site under test.
    options : Options
        Of the run.
    number : int
        The run's number.
    """

    def __init__(self, site: Site, options: Options, number: int) -> None:
        self.site = site
        self.options = options
        self.selected = selected_verdicts(site, options)
        self.reason_for_the_rest = "the run ended before this check was judged"
        self.balancer = BalancerSeen(product=site.balancer.product, version="not reached", configuration_sha256="")
        self._number = number
        self._profile = profile_of(options.profile, options.lab)
        self._required = required_verdicts(site, options.profile, options.lab)
        self._started = datetime.datetime.now(tz=datetime.UTC)
        self._results: dict[str, CheckResult] = {}

    def settle(self, check_id: str, vip: str | None, finding: Finding, evidence: Sequence[str] = ()) -> CheckResult:
        """Turn a finding into the result of a check; a failure that a named person accepted becomes *waived*."""
        wanted = Wanted(BY_ID[check_id], vip)
        waiver = self._waiver(wanted) if finding.verdict == "fail" else None
        verdict: CheckVerdict = "waived" if waiver else finding.verdict
        result = CheckResult(
            id=wanted.id,
            check=check_id,
            vip=vip,
            requirement=wanted.check.requirement,
            title=wanted.check.title,
            impact=wanted.check.impact,
            required=wanted in self._required or bool(self.options.only),
            verdict=verdict,
            subject=finding.subject,
            reason=finding.reason,
            waiver=waiver,
            measured=finding.measured,
            limit=finding.limit,
            predicted=finding.predicted,
            evidence=list(evidence),
        )
        self._results[result.id] = result
        return result

    def result(self, verdict_id: str) -> CheckResult | None:
        """Return what a check came to (`PERSIST-1/HL7`); None when it was not judged yet."""
        return self._results.get(verdict_id)

    @property
    def results(self) -> list[CheckResult]:
        """The results so far, in the order in which they are wanted."""
        return [self._results[wanted.id] for wanted in self.selected if wanted.id in self._results]

    def report(self) -> Report:
        """Return the report. A selected check without a result is unknown: nothing observed is never a pass."""
        for wanted in self.selected:
            if wanted.id not in self._results:
                why = self.reason_for_the_rest if wanted.check.built else "this version cannot run it yet"
                never = Finding(verdict="unknown", subject="harness", reason=why)
                self.settle(wanted.check.id, wanted.vip, never)
        options = self.options
        return Report(
            verdict=verdict_of(self.results, partial=bool(options.only)),
            kind="rehearsal",  # a lab's nodes are simulated, whatever the site file says
            target=options.lab,
            nodes="simulated",
            profile=options.profile,
            plant=options.plant,
            only=list(options.only),
            run=Run(
                id=f"{self._number:08x}",
                seed=options.seed,
                started=_iso(self._started),
                ended=_iso(datetime.datetime.now(tz=datetime.UTC)),
                version=version(),
            ),
            site=SiteFile(name=self.site.name, file=_shown(options.shown_site or options.site), sha256=sha256(options.site)),
            balancer=self.balancer,
            checks=self.results,
            untested=self._untested(),
        )

    def drop_missing_evidence(self, out: Path) -> None:
        """Name no file as evidence that is not in the report's folder."""
        for result in self.results:
            there = [path for path in result.evidence if (out / path).exists()]
            self._results[result.id] = msgspec.structs.replace(result, evidence=there)

    def doubt(self, reason: str) -> None:
        """Take every pass back: what it stands on was lost. A failure that was seen stays one."""
        for result in self.results:
            if result.verdict in ("pass", "waived"):
                self._results[result.id] = msgspec.structs.replace(
                    result, verdict="unknown", subject="harness", reason=reason
                )

    def _waiver(self, wanted: Wanted) -> Waived | None:
        waivers: list[Waiver] = [waiver for waiver in self.site.waiver if waiver.check in (wanted.id, wanted.check.id)]
        if not waivers:
            return None
        return Waived(by=waivers[0].by, why=waivers[0].why, until=waivers[0].until.isoformat())

    def _untested(self) -> list[Untested]:
        selected = {wanted.id for wanted in self.selected}
        missing: list[Untested] = []
        for check in CATALOGUE:
            left = [wanted for wanted in all_verdicts(self.site, [check]) if wanted.id not in selected]
            if not left:
                continue
            whole = len(left) == len(all_verdicts(self.site, [check]))
            names = check.id if whole else ", ".join(wanted.id for wanted in left)
            missing.append(Untested(requirement=f"{names} ({check.requirement}): {check.title}", reason=self._why_not(left)))
        tested = {wanted.check for wanted in self.selected if wanted.check.built}
        missing += [
            Untested(requirement=f"of {check.id} ({check.requirement}): {check.lacks}", reason="not built in this version")
            for check in CATALOGUE
            if check in tested and check.lacks
        ]
        return missing

    def _why_not(self, left: list[Wanted]) -> str:
        if not left[0].check.built:
            return "not built in this version"
        if left[0].check.needs and left[0].check.needs not in LAB_ABILITIES[self.options.lab]:
            return f"this lab has not: {left[0].check.needs}"
        if self.options.only and any(wanted in self._required for wanted in left):
            return f"partial run: only {', '.join(self.options.only)}"
        if not self.site.required and left[0].check.id not in self._profile.checks:
            return f"not in the profile {self.options.profile}"
        return "not among the checks that the site requires"


def version() -> str:
    """Return Preflight's version."""
    return importlib.metadata.version("preflight")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _names(ids: Sequence[str], wanted: Wanted) -> bool:
    return wanted.id in ids or wanted.check.id in ids


def _shown(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else str(resolved)


def _iso(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
