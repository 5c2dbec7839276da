"""pytest's hooks: a run of the catalogue from its options to its report."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from reports.errors import ReportError
from reports.terminal import VerdictBoard, print_verdict
from reports.writer import ClaimedFolder
from scenarios.catalogue import BY_ID, place
from scenarios.handover import EXIT_OF, hand_over
from scenarios.options import UsageError
from scenarios.preparation import prepare
from scenarios.suite import fault_fixtures, fixtures, load_fixtures, trial_fixtures
from scenarios.suite.command_line import add_options, options_of
from scenarios.suite.session import SESSION, Session
from scenarios.suite.settling import breakdown, check_id, settle, verdict_id

_JUDGED_LAST = ("LOSS-1", "ORDER-1")  # over everything that the others did
_BEGUN_S = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options of the report's contract."""
    add_options(parser)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the site and check the options before anything is started."""
    for module in (fixtures, fault_fixtures, load_fixtures, trial_fixtures):
        config.pluginmanager.register(module, module.__name__)
    config.addinivalue_line("markers", "check(id): the check of the catalogue that a test judges")
    try:
        config.stash[SESSION] = session = Session(prepare(options_of(config)))
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
        site = metafunc.config.stash[SESSION].site
        vips = [vip for vip in site.vip if vip.service in BY_ID[marker.args[0]].services]
        metafunc.parametrize("vip", vips, ids=[vip.name for vip in vips])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the checks that this run gives, in the catalogue's order; those over everything that was done come last."""
    wanted = {verdict.id for verdict in config.stash[SESSION].acceptance.selected}
    left = [item for item in items if verdict_id(item) not in wanted and check_id(item) is not None]
    if left:
        config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: ((check := check_id(item)) in _JUDGED_LAST, place(check) if check else -1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the report's folder ready once it is certain that checks will run."""
    state = session.config.stash[SESSION]
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
    board = item.config.stash[SESSION].board
    if board is not None and (check := check_id(item)) is not None:
        board.started(verdict_id(item), BY_ID[check].title)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Settle a check that broke down before it was judged: what it needed is missing (skipped), or it is unknown."""
    report = yield
    session = item.config.stash[SESSION]
    if check_id(item) is None or call.when == "teardown":
        return report
    acceptance = session.acceptance
    if call.excinfo is not None and acceptance.result(verdict_id(item)) is None:
        settle(item, breakdown(call.excinfo.value, session))
    result = acceptance.result(verdict_id(item))
    if session.board is not None and result is not None and (call.when == "call" or call.excinfo is not None):
        session.board.finished(result, time.monotonic() - item.stash[_BEGUN_S])
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, whatever happened."""
    state = session.config.stash.get(SESSION, None)
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
