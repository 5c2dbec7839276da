"""pytest's side of the catalogue: the options, the lab that all checks share, and the way from a test to its verdict."""

from __future__ import annotations

import functools
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, get_args

import pytest
from rich.console import Console

from compose.docker import ComposeLab
from compose.lab import CanKeepReceiptsOnly, Lab, LabError
from compose.layout import LAB, site_file
from compose.native import NativeLab
from lbconfig.site import Vip
from reports.errors import ReportError
from reports.terminal import VerdictBoard, print_verdict
from reports.writer import ClaimedFolder
from scenarios import maintenance, scripts
from scenarios.acceptance import Acceptance
from scenarios.catalogue import BY_ID, place, profile_of
from scenarios.checkers.coverage import Trial
from scenarios.episodes import Episode, Episodes
from scenarios.exchanges.places import Desk
from scenarios.faults import MissingAbilityError, NodeHalted
from scenarios.findings import Finding, skipped, unknown
from scenarios.handover import EXIT_OF, balancer_seen, hand_over, lab_directory
from scenarios.kit import Kit
from scenarios.load.plan import LoadPlan
from scenarios.load_runs.plans import Planner
from scenarios.load_runs.process import LoadError, LoadRun, play_load
from scenarios.load_runs.stories import LoadPlayed
from scenarios.options import DEFAULT_OUT, SITE_OF_LAB, LabKind, LoadOptions, Options, UsageError, fresh_seed
from scenarios.pair_play import PROBE_TIMEOUTS, Failing, UnitFailures, client_timeouts, follow_entries
from scenarios.play import Script, play, wait_until_up
from scenarios.preparation import Prepared, prepare
from scenarios.run import Run
from scenarios.stock import fill_worklists, stocked
from scenarios.takeovers import WAYS, Replicated, UnitEpisode
from scenarios.talkers import Talker, talker
from scenarios.traffic import TalkerFactory
from scenarios.workloads import StraightFactory, reconnect_at_random, stream_steadily
from simulators.client import Timeouts

Judge = Callable[[Finding], None]
_JUDGED_LAST = ("LOSS-1", "ORDER-1")  # over everything that the others did


class Session:
    """What the whole pytest session shares beside its fixtures."""

    def __init__(self, prepared: Prepared) -> None:
        self.options = options = prepared.options
        self.site = site = prepared.site
        self.defects = prepared.defects
        self.own = prepared.own
        self.folder: ClaimedFolder | None = None
        self.number = fresh_seed()
        self.acceptance = Acceptance(site, options, self.number)
        self.console = Console()
        self.board: VerdictBoard | None = None
        self.lab: Lab | None = None
        self.run: Run | None = None
        self.episodes: list[Episode] = []
        self.takeovers: list[UnitEpisode] = []
        self.load = LoadPlayed()
        self.is_active = False

    def say(self, text: str) -> None:
        """Show a line that is no verdict, where somebody looks on."""
        if self.board is not None:
            self.board.note(text)


_SESSION = pytest.StashKey[Session]()
_BEGUN_S = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options of the report's contract."""
    group = parser.getgroup("preflight")
    group.addoption("--site", type=Path, default=None, help="the site file (default: the lab's own)")
    group.addoption("--lab", choices=get_args(LabKind), default="native", help="where it runs (compose: in its tester)")
    group.addoption("--profile", default="standard", help="a set of checks by name")
    group.addoption("--seed", type=int, default=None, help="the seed of every random choice (default: a new one)")
    group.addoption(
        "--only", action="append", default=[], help="a check id, such as PERSIST-1 or PERSIST-1/HL7; may be repeated"
    )
    group.addoption("--out", type=Path, default=DEFAULT_OUT, help="the report's folder")
    group.addoption("--plant", default=None, help="a defect that is put there on purpose (see `preflight plants`)")
    group.addoption("--images", type=Path, default=None, help="a folder of DICOM files to store as well")
    group.addoption("--messages", type=Path, default=None, help="a folder of HL7 files to send as well")
    group.addoption("--exams-per-year", type=float, default=None, help="of load runs, in place of the site's own")
    group.addoption("--duration", type=float, default=None, help="of the profile's main load run, in seconds")
    group.addoption("--factor", type=float, default=None, help="of the main load run: times the peak hour's rate")
    group.addoption("--shape", choices=("steady", "steps", "day"), default="steady", help="of the main load run")
    group.addoption("--processes", type=int, default=1, help="load generators (from two on under Locust's master)")
    group.addoption("--workers", type=int, default=0, help="of a compose lab: containers that are load generators")
    group.addoption("--page", type=int, default=None, help="the port of Locust's own page during the main load run")
    group.addoption("--shown-site", type=Path, default=None, help="what the report calls the site file")
    group.addoption("--shown-out", type=Path, default=None, help="what the report's folder is called outside")
    group.addoption("--board", action="store_true", help="show the verdicts as they come, instead of pytest's own lines")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the site and check the options before anything is started."""
    config.addinivalue_line("markers", "check(id): the check of the catalogue that a test judges")
    seed = config.getoption("--seed")
    options = Options(
        site=config.getoption("--site") or _site_of(config.getoption("--lab")),
        lab=config.getoption("--lab"),
        profile=config.getoption("--profile"),
        seed=fresh_seed() if seed is None else seed,
        only=tuple(config.getoption("--only")),
        out=config.getoption("--out"),
        plant=config.getoption("--plant"),
        images=config.getoption("--images"),
        messages=config.getoption("--messages"),
        load=LoadOptions(
            exams_per_year=config.getoption("--exams-per-year"),
            duration_s=config.getoption("--duration"),
            factor=config.getoption("--factor"),
            shape=config.getoption("--shape"),
            processes=config.getoption("--processes"),
            page=config.getoption("--page"),
            workers=config.getoption("--workers"),
        ),
        shown_site=config.getoption("--shown-site"),
        shown_out=config.getoption("--shown-out"),
    )
    try:
        config.stash[_SESSION] = session = Session(prepare(options))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    if config.getoption("--board"):
        session.board = VerdictBoard(session.console, time.monotonic, [vip.name for vip in session.site.vip])
        reporter = config.pluginmanager.getplugin("terminalreporter")
        config.pluginmanager.unregister(reporter)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: take the lab down, report what there is


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test one case for each VIP that its check is judged on."""
    marker = metafunc.definition.get_closest_marker("check")
    if marker is not None and "vip" in metafunc.fixturenames:
        site = metafunc.config.stash[_SESSION].site
        vips = [vip for vip in site.vip if vip.service in BY_ID[marker.args[0]].services]
        metafunc.parametrize("vip", vips, ids=[vip.name for vip in vips])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the checks that this run gives, in the catalogue's order; those over everything that was done come last."""
    wanted = {verdict.id for verdict in config.stash[_SESSION].acceptance.selected}
    left = [item for item in items if _verdict_id(item) not in wanted and _check_id(item) is not None]
    if left:
        config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: ((check := _check_id(item)) in _JUDGED_LAST, place(check) if check else -1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the report's folder ready once it is certain that checks will run."""
    state = session.config.stash[_SESSION]
    if session.config.option.collectonly or not state.acceptance.selected:
        return
    try:
        state.folder = ClaimedFolder(state.options.out)
    except ReportError as error:
        raise pytest.UsageError(str(error)) from error
    state.is_active = True
    if state.board is not None:
        state.board.__enter__()
        state.board.note(f"{state.site.name}: {len(session.items)} checks, seed {state.options.seed}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Show that a check begins."""
    item.stash[_BEGUN_S] = time.monotonic()
    board = item.config.stash[_SESSION].board
    if board is not None and (check_id := _check_id(item)) is not None:
        board.started(_verdict_id(item), BY_ID[check_id].title)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Settle a check that broke down before it was judged: what it needed is missing (skipped), or it is unknown."""
    report = yield
    session = item.config.stash[_SESSION]
    check_id = _check_id(item)
    if check_id is None or call.when == "teardown":
        return report
    acceptance = session.acceptance
    if call.excinfo is not None and acceptance.result(_verdict_id(item)) is None:
        _settle(item, _breakdown(call.excinfo.value, session))
    result = acceptance.result(_verdict_id(item))
    if session.board is not None and result is not None and (call.when == "call" or call.excinfo is not None):
        session.board.finished(result, time.monotonic() - item.stash[_BEGUN_S])
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, whatever happened."""
    state = session.config.stash.get(_SESSION, None)
    if state is None or not state.is_active:
        return
    if state.board is not None:
        state.board.__exit__(None, None, None)
    try:
        report = hand_over(
            state.acceptance, state.lab, state.run, state.episodes, state.takeovers, state.load, state.options.out
        )
    except ReportError as error:
        state.console.print(f"the report cannot be written: {error}", highlight=False, markup=False)
        session.exitstatus = EXIT_OF["incomplete"]
        return
    finally:
        if state.folder is not None:
            state.folder.release()
    if state.board is not None:
        session.exitstatus = EXIT_OF[report.verdict]
    print_verdict(report, (state.options.shown_out or state.options.out) / "index.html", state.console)


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """Return what the session shares."""
    return request.config.stash[_SESSION]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, session: Session) -> Iterator[Lab]:
    """Bring the site up, once for all checks, and take it down at the end."""
    try:
        in_containers = session.options.lab == "compose"
        make: type[NativeLab] | type[ComposeLab] = ComposeLab if in_containers else NativeLab
        lab = make(session.site, lab_directory(session.options.out), defects=session.defects)
        session.lab = lab
        lab.start()
    except LabError as error:
        session.acceptance.reason_for_the_rest = f"the lab did not come up: {error}"
        request.session.shouldstop = "the lab did not come up"
        raise
    try:
        session.acceptance.balancer = balancer_seen(lab, session.site.balancer.product)
        session.say("the lab is up")
        yield lab
    finally:
        for gone in lab.unexpected_exits():
            session.say(f"{gone.name} ended by itself: {gone}")
        lab.stop()


@pytest.fixture(scope="session")
def run(session: Session, lab: Lab) -> Run:
    """Begin the run's history."""
    session.run = Run(lab, lab.directory, session.options.seed, session.number)
    return session.run


@pytest.fixture(scope="session")
def kit(session: Session, run: Run) -> Kit:
    """Gather the samples, and store one study straight on a node for the web page to have something to show."""
    return stocked(run, session.own)


@pytest.fixture
def desk(request: pytest.FixtureRequest, run: Run, kit: Kit) -> Desk:
    """Make what an exchange needs, with a workload of its own."""
    return Desk(run, kit, run.timeouts(), run.workload(_verdict_id(request.node)))


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Settle the check of the test that asks; end the test as its verdict says."""
    return lambda finding: _settle_and_end(request.node, finding)


@pytest.fixture(scope="session")
def talkers(run: Run, kit: Kit) -> TalkerFactory:
    """Make talkers through a VIP, with the site's time-outs."""
    return _talkers(run, kit, run.timeouts())


@pytest.fixture(scope="session")
def straight_talkers(run: Run, kit: Kit) -> StraightFactory:
    """Make talkers straight to a real server: the baseline."""
    return lambda vip, server, source: talker(run, kit, run.straight(vip, server), source, run.timeouts())


@pytest.fixture(scope="session")
def reconnects(run: Run, talkers: TalkerFactory) -> int:
    """Let many sources reconnect in random order on every VIP; return the workload's number."""
    workload = run.workload("reconnects in random order")
    reconnect_at_random(run, talkers, workload)
    return workload


@pytest.fixture(scope="session")
def steady_stream(run: Run, talkers: TalkerFactory) -> int:
    """Let a few sources say a lot on every VIP; return the workload's number."""
    workload = run.workload("steady stream")
    stream_steadily(run, talkers, workload)
    return workload


@pytest.fixture(scope="session")
def services_stopped(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Stop all services of a node under traffic; then start them again."""
    return _played(session, run, scripts.stop_services(run.site), talkers)


@pytest.fixture(scope="session")
def node_died(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node die under traffic; then revive it and watch who goes back."""
    talkers = _talkers(run, kit, scripts.patient(run.site, run.timeouts()))
    return _played(session, run, scripts.crash_node(run.site), talkers)


@pytest.fixture(scope="session")
def node_paused(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node hang for some seconds under traffic of clients that wait less long and try again."""
    return _played(session, run, scripts.pause_node(run.site), _talkers(run, kit, scripts.impatient(run.timeouts())))


@pytest.fixture(scope="session")
def node_halted(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Halt all real servers of a node under traffic; then put them online."""
    return _played(session, run, scripts.halt_node(run.site), talkers)


@pytest.fixture(scope="session")
def node_drained(session: Session, run: Run, talkers: TalkerFactory) -> Episode:
    """Drain all real servers of a node under traffic; then put them online."""
    return _played(session, run, scripts.drain_node(run.site), talkers)


@pytest.fixture(scope="session")
def service_failures(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.ServiceFailures:
    """Let one service after the other fail on one node."""
    return maintenance.fail_services(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def blackout(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.Blackout:
    """Stop every real server of every VIP; then start them again."""
    return maintenance.black_out(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def reloads(session: Session, run: Run, talkers: TalkerFactory) -> maintenance.Reloads:
    """Reload the balancer under traffic: in plain service, with a node drained, with a node halted."""
    return maintenance.reload(run, _player(session, run), talkers)


@pytest.fixture(scope="session")
def around_reload(run: Run, talkers: TalkerFactory) -> tuple[int, dict[str, maintenance.Remembered]]:
    """Let many sources connect before a reload and again after it; return the workload's number and the tables."""
    workload = run.workload("around a reload")
    return workload, maintenance.reconnect_around_a_reload(run, talkers, workload)


@pytest.fixture(scope="session")
def node_hung(session: Session, run: Run, kit: Kit) -> maintenance.Hang:
    """Let a node accept and never answer, idle and under traffic of clients that wait less long and try again."""
    return maintenance.hang(run, _player(session, run), _talkers(run, kit, scripts.impatient(run.timeouts())))


@pytest.fixture(scope="session")
def node_vanished(session: Session, run: Run, kit: Kit) -> Episode:
    """Let a node vanish from the network under traffic, without FIN or RST; then let it come back."""
    talkers = _talkers(run, kit, scripts.patient(run.site, run.timeouts()))
    return _played(session, run, scripts.isolate_node(run.site), talkers)


@pytest.fixture(scope="session")
def followed_entries(session: Session, run: Run, talkers: TalkerFactory) -> dict[str, list[Replicated]]:
    """Let new sources come to every VIP, and follow their entries from one unit of the pair to the other."""
    session.say("new sources on every VIP, and both units' tables")
    return follow_entries(run, talkers, run.workload("entries that travel"))


@pytest.fixture(scope="session")
def unit_failures(session: Session, run: Run, kit: Kit) -> UnitFailures:
    """Let the active unit of the pair fail in one way after the other under traffic."""
    make_talker = _talkers(run, kit, client_timeouts(run.timeouts()))
    failing = Failing(run, make_talker, _talkers(run, kit, PROBE_TIMEOUTS))
    played = []
    for how in WAYS:
        session.say(f"the active unit {how}, under traffic on every VIP")
        played.append(failing.fail(how))
    session.takeovers += played
    return UnitFailures(tuple(played))


@pytest.fixture(scope="session")
def planner(session: Session, run: Run, kit: Kit, talkers: TalkerFactory) -> Planner:
    """Make load plans; let the worklists have something to show first, and the nodes keep receipts only from now on."""
    fill_worklists(run, kit)
    if isinstance(run.lab, CanKeepReceiptsOnly):
        run.lab.keep_receipts_only()
        wait_until_up(run)
    return Planner(run, kit, session.options.site, session.options.load)


@pytest.fixture(scope="session")
def peak_load(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Put the site's peak times 1.5 on all VIPs, or what the options ask for."""
    return _loaded(session, run, "LOAD-1", planner.peak(), "the peak", page=session.options.load.page)


@pytest.fixture(scope="session")
def one_node_load(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Halt the real servers of the first node, and put the site's peak on what is left."""
    halted = NodeHalted(run.site.node[0].name)
    try:
        halted.begin(run.lab)
        return _loaded(session, run, "LOAD-3", planner.one_node(), f"the peak, {halted.node} halted")
    finally:
        halted.end(run.lab)


@pytest.fixture(scope="session")
def steps(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Step the load of one VIP after the other up, until something is at its limit."""
    session.load.required = {vip.service: planner.required_rate(vip.service) for vip in run.site.vip}
    return _loaded(session, run, "LOAD-4", planner.steps(), "steps")


@pytest.fixture(scope="session")
def storm(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Let every client come back at once."""
    return _loaded(session, run, "STORM-1", planner.storm(), "a storm")


@pytest.fixture(scope="session")
def soak(session: Session, run: Run, planner: Planner) -> LoadRun:
    """Put the average rate on all VIPs, for long, or what the options ask for."""
    factor = session.options.load.factor
    rate = f"{factor:.3g} times the peak hour's rate" if factor else "the average rate"
    return _loaded(session, run, "SOAK-1", planner.soak(), f"{rate}, for long", page=session.options.load.page)


@pytest.fixture(scope="session")
def trials(request: pytest.FixtureRequest, session: Session) -> tuple[Trial, ...]:
    """Go through everything that this profile breaks or loads; LOSS-1 and ORDER-1 judge over all of it."""
    played = [request.getfixturevalue(name) for name in profile_of(session.options.profile, session.options.lab).trials]
    return tuple(itertools.chain.from_iterable(map(_trials_of, played)))


def _trials_of(played: Episode | LoadRun | Episodes | UnitFailures) -> list[Trial]:
    if isinstance(played, UnitFailures):
        return [Trial(episode.name, episode.workload) for episode in played.failures]
    if isinstance(played, LoadRun):
        return [Trial(played.name, played.workload)]
    episodes = (played,) if isinstance(played, Episode) else played.episodes
    return [Trial(episode.fault, episode.workload) for episode in episodes]


def _loaded(
    session: Session, run: Run, check: str, plan: LoadPlan, name: str, *, page: int | None = None
) -> LoadRun:  # fmt: skip
    offered = ", ".join(f"{user.rate:.3g} {user.kind}/s" for user in plan.users if user.rate)
    session.say(f"load: {name}, {plan.duration_s:.0f} s{': ' + offered if offered else ''}")
    played = play_load(
        run.lab, plan, name, processes=session.options.load.processes, page=page, workers=session.options.load.workers
    )
    session.load.runs[check] = played
    return played


def _played(session: Session, run: Run, script: Script, talkers: TalkerFactory) -> Episode:
    where = f": {script.fault.node}" if script.fault.node else ""
    session.say(f"{script.fault.name}{where}, {'nobody under way' if script.quiet else 'under traffic on every VIP'}")
    episode = play(run, script, talkers)
    session.episodes.append(episode)
    return episode


def _player(session: Session, run: Run) -> maintenance.Player:
    return functools.partial(_played, session, run)


def _talkers(run: Run, kit: Kit, timeouts: Timeouts) -> TalkerFactory:
    def make(vip: Vip, source: str) -> Talker:
        return talker(run, kit, run.through(vip), source, timeouts)

    return make


def _site_of(lab: LabKind) -> Path:
    """Return the site that runs where none is named: in a lab's tester, that of the lab."""
    own = site_file(Path(LAB))
    return own if lab == "compose" and own.is_file() else SITE_OF_LAB[lab]


def _check_id(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("check")
    return str(marker.args[0]) if marker else None


def _vip(item: pytest.Item) -> str | None:
    vip = item.callspec.params.get("vip") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return vip.name if isinstance(vip, Vip) else None


def _verdict_id(item: pytest.Item) -> str:
    vip = _vip(item)
    return f"{_check_id(item)}/{vip}" if vip else str(_check_id(item))


def _settle(item: pytest.Item, finding: Finding) -> str:
    evidence = ["operations.parquet", "receipts.parquet", "logs/haproxy.log", "logs/haproxy.cfg"]
    result = item.config.stash[_SESSION].acceptance.settle(str(_check_id(item)), _vip(item), finding, evidence)
    return result.verdict


def _settle_and_end(item: pytest.Item, finding: Finding) -> None:
    verdict = _settle(item, finding)
    if verdict == "skipped":
        pytest.skip(finding.reason)
    if verdict in ("fail", "unknown"):
        _end(f"{verdict}: {finding.reason}")


def _end(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)


def _breakdown(error: BaseException, session: Session) -> Finding:
    if isinstance(error, LabError) and session.run is None:
        return unknown(session.acceptance.reason_for_the_rest)
    if isinstance(error, MissingAbilityError):
        return skipped(f"this target cannot {error}")
    if isinstance(error, (LabError, LoadError)):
        return unknown(str(error))
    return unknown(f"the check itself broke down: {type(error).__name__}: {error}")
