"""The four kinds of simulated clients: what each does when something arrives. They know no Locust and no clock.

Each has a source address of its own and one of our own blocking clients, so that it runs in a thread and in a greenlet
alike. What arrives is carried out operation by operation: `arrive` is a generator, and whoever drives it writes each
operation down, and may stop between two of them. An operation's latency counts from its *intended* start: the first one's
is when the arrival was due, every further one's the end of the one before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lbconfig.site import Site
from scenarios.targets import through, timeouts_of
from simulators.client import Attempt, Target, Timeouts
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.modality import Modality
from simulators.dicom.worklist_client import WorklistClient, WorklistQuery
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import Template, sample_templates
from simulators.operations import IdentitySource, Kind, Operation, Outcome
from simulators.web.viewer import Viewer

from .payloads import Line, Studies
from .plan import SERVICE_OF_USER, LoadPlan, PlanError, UserKind, UserPlan, Web

_STUDY_LIST = "/studies"


class Client(Protocol):
    """One simulated client. `is_connected` says whether it holds a connection, as far as it knows."""

    source: str
    is_connected: bool

    def arrive(self, user: UserPlan, due_ns: int, choice: float) -> Generator[Operation, None, None]:
        """Carry out one arrival of a plan, as its kind does; it ends early when an operation is not acknowledged."""

    def touch(self, due_ns: int) -> Operation:
        """Connect, unless connected, do one small operation, and hold the connection."""

    def hang_up(self) -> None:
        """Drop the connection without a word: the network is gone."""


class Errand(NamedTuple):
    """What all clients of one generator share: where they go to, as whom, and how long they wait."""

    plan: LoadPlan
    site: Site
    identities: IdentitySource
    templates: dict[str, Template]

    def target(self, kind: UserKind) -> Target:
        """Return the VIP that a kind of client sends to."""
        return through(self.site.vip_of(SERVICE_OF_USER[kind]))

    @property
    def timeouts(self) -> Timeouts:
        """The site's time-outs for clients."""
        return timeouts_of(self.site)


class ModalityClient:
    """A modality: for each study a new association, its images back to back, then a release.

    Parameters
    ----------
    errand : Errand
        Of its generator.
    source : str
        Its address.
    studies : dict of UserPlan to Studies
        What it sends under each plan.
    """

    def __init__(self, errand: Errand, source: str, studies: dict[UserPlan, Studies]) -> None:
        self.source = source
        self.is_connected = False
        self._identities = errand.identities
        self._workload = errand.plan.workload
        self._studies = studies
        images = dict.fromkeys(image for study in studies.values() for image in study.images)
        self._small = next(iter(studies.values())).small
        dicom = errand.site.dicom
        self._modality = Modality(
            errand.target("modality"), source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title, images=images,
            timeouts=errand.timeouts,
        )  # fmt: skip

    def arrive(self, user: UserPlan, due_ns: int, choice: float) -> Generator[Operation, None, None]:
        """Store a study; after an image that is not acknowledged the rest of it stays unsent."""
        image, count = self._studies[user].chosen(choice)
        self.is_connected = True
        try:
            for operation in self._modality.store_all(self._named(image, count)):
                yield operation._replace(intended_ns=due_ns)
                if operation.outcome != Outcome.ACKNOWLEDGED:
                    break
                due_ns = operation.ended_ns
        finally:
            self._modality.release()
            self.is_connected = False

    def touch(self, due_ns: int) -> Operation:
        """Store one small image."""
        self.is_connected = True
        ((image, attempt),) = self._named(self._small, 1)
        return self._modality.store(image, attempt._replace(intended_ns=due_ns))

    def hang_up(self) -> None:
        """Abort the association."""
        self._modality.abort()
        self.is_connected = False

    def _named(self, image: EncodedInstance, count: int) -> Iterator[tuple[EncodedInstance, Attempt]]:
        identities, workload = self._identities, self._workload
        study, series, patient = (identities.next(kind) for kind in (Kind.STUDY, Kind.SERIES, Kind.PATIENT))
        for _ in range(count):
            identity = identities.next(Kind.INSTANCE)
            yield image.named(identity, study, series, patient, None), Attempt(identity, 1, patient.key, 0, workload)


class WorklistPoller:
    """A modality that asks for its worklist: for each query a new association; the stations take turns.

    Parameters
    ----------
    errand : Errand
        Of its generator.
    source : str
        Its address.
    """

    def __init__(self, errand: Errand, source: str) -> None:
        self.source = source
        self.is_connected = False
        self._identities = errand.identities
        self._workload = errand.plan.workload
        stations = errand.plan.worklist_stations or ("PREFLIGHT",)
        self._queries = [WorklistQuery(station_ae=station) for station in stations]
        dicom = errand.site.dicom
        self._client = WorklistClient(
            errand.target("worklist"), source, calling_ae=dicom.calling_ae_titles[0], called_ae=dicom.ae_title,
            timeouts=errand.timeouts,
        )  # fmt: skip

    def arrive(self, user: UserPlan, due_ns: int, choice: float) -> Generator[Operation, None, None]:
        """Ask once; without arrivals (`closed`) the association is held."""
        self.is_connected = True
        try:
            yield self._asked(self._queries[int(choice * len(self._queries))], due_ns)
        finally:
            if user.shape.kind != "closed":
                self._client.release()
                self.is_connected = False

    def touch(self, due_ns: int) -> Operation:
        """Ask for the worklist of the first station."""
        self.is_connected = True
        return self._asked(self._queries[0], due_ns)

    def hang_up(self) -> None:
        """Abort the association."""
        self._client.abort()
        self.is_connected = False

    def _asked(self, query: WorklistQuery, due_ns: int) -> Operation:
        attempt = Attempt(self._identities.next(Kind.QUERY), 1, 0, due_ns, self._workload)
        return self._client.find(query, attempt)[0]


class EngineLine:
    """One line of an interface engine: a connection that is kept, one message in flight.

    Parameters
    ----------
    errand : Errand
        Of its generator.
    source : str
        Its address.
    """

    def __init__(self, errand: Errand, source: str) -> None:
        self.source = source
        self.is_connected = False
        self._workload = errand.plan.workload
        self._line = Line(errand.identities, errand.templates)
        self._engine = InterfaceEngine(errand.target("engine"), source, timeouts=errand.timeouts)

    def arrive(self, user: UserPlan, due_ns: int, choice: float) -> Generator[Operation, None, None]:
        """Send one message."""
        yield self.touch(due_ns)

    def touch(self, due_ns: int) -> Operation:
        """Send one message."""
        self.is_connected = True
        identity, patient, content = self._line.next()
        return self._engine.send(content, Attempt(identity, 1, patient, due_ns, self._workload))

    def hang_up(self) -> None:
        """Close the connection."""
        self._engine.close()
        self.is_connected = False


class WebViewer:
    """A person at a web client: for each session a new connection and a login, then pages, and a note on a study.

    Parameters
    ----------
    errand : Errand
        Of its generator.
    source : str
        Its address.
    web : Web
        The account, the CA, the studies.
    """

    def __init__(self, errand: Errand, source: str, web: Web) -> None:
        self.source = source
        self.is_connected = False
        self._identities = errand.identities
        self._workload = errand.plan.workload
        self._web = web
        self._viewer = Viewer(
            errand.target("viewer"), source, server_name=web.server_name, ca_file=Path(web.ca_file), timeouts=errand.timeouts
        )

    def arrive(self, user: UserPlan, due_ns: int, choice: float) -> Generator[Operation, None, None]:
        """Play one session; without arrivals (`closed`) the session goes on: one page."""
        if user.shape.kind == "closed" and self._viewer.has_session:
            yield self._page(int(choice * 2), due_ns)
            return
        self._viewer.close()
        operation = self._login(due_ns)
        yield operation
        try:
            for number in range(user.requests_a_session):
                if operation.outcome != Outcome.ACKNOWLEDGED:
                    break
                is_last = number == user.requests_a_session - 1
                operation = self._page(number, operation.ended_ns) if not is_last else self._note(operation.ended_ns)
                yield operation
        finally:
            if user.shape.kind != "closed":
                self._viewer.close()
                self.is_connected = False

    def touch(self, due_ns: int) -> Operation:
        """Log in; where the browser still has the cookie of a session, write a note."""
        self.is_connected = True
        return self._note(due_ns) if self._viewer.has_session else self._login(due_ns)

    def hang_up(self) -> None:
        """Drop the connection; the browser keeps its cookie."""
        self._viewer.disconnect()
        self.is_connected = False

    def _login(self, due_ns: int) -> Operation:
        self.is_connected = True
        return self._viewer.login(self._web.user, self._web.password, self._attempt(Kind.ECHO, due_ns))

    def _page(self, number: int, due_ns: int) -> Operation:
        """Get the list of studies and a study in turn."""
        studies = self._web.study_uids
        path = f"{_STUDY_LIST}/{studies[number // 2 % len(studies)]}" if number % 2 and studies else _STUDY_LIST
        return self._viewer.get(path, self._attempt(Kind.QUERY, due_ns))[0]

    def _note(self, due_ns: int) -> Operation:
        """Write a note on the first study: what a node must not lose."""
        if not self._web.study_uids:
            return self._page(0, due_ns)
        attempt = self._attempt(Kind.NOTE, due_ns)
        return self._viewer.note(self._web.study_uids[0], f"seen {attempt.identity.code}", attempt)

    def _attempt(self, kind: Kind, due_ns: int) -> Attempt:
        return Attempt(self._identities.next(kind), 1, 0, due_ns, self._workload)


class ClientFactory:
    """Makes the clients of one generator; what they share is made once.

    Parameters
    ----------
    plan : LoadPlan
        What is played.
    site : Site
        Where to.
    identities : IdentitySource
        The generator's own.

    Raises
    ------
    PlanError
        When the plan has viewers, and no access to the web page.
    ImageError
        When a study's images cannot be generated.
    """

    def __init__(self, plan: LoadPlan, site: Site, identities: IdentitySource) -> None:
        templates = sample_templates(site.hl7.receiving_application, site.hl7.receiving_facility)
        self._errand = Errand(plan, site, identities, templates)
        mixes: dict[tuple[object, ...], Studies] = {}
        self._studies: dict[UserPlan, Studies] = {}
        for user in plan.users_of("modality"):
            if user.studies not in mixes:
                mixes[user.studies] = Studies(user.studies)
            self._studies[user] = mixes[user.studies]
        if plan.users_of("viewer") and plan.web is None:
            raise PlanError("web: expected the account, the CA and the server's name for viewers, found none")

    def client(self, kind: UserKind, source: str) -> Client:
        """Make a client at a source address."""
        if kind == "modality":
            return ModalityClient(self._errand, source, self._studies)
        if kind == "worklist":
            return WorklistPoller(self._errand, source)
        if kind == "engine":
            return EngineLine(self._errand, source)
        if self._errand.plan.web is None:
            raise PlanError("web: expected access to the web page, found none")
        return WebViewer(self._errand, source, self._errand.plan.web)
