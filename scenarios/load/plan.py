"""What a load run is told, as one frozen value: written by whoever starts Locust, read by every one of its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .private_file import write_private

PLAN_VARIABLE = "PREFLIGHT_LOAD_PLAN"  # the environment variable that names the plan's file
UserKind = Literal["modality", "worklist", "engine", "viewer"]
SERVICE_OF_USER: dict[UserKind, Literal["dicom", "dmwl", "hl7", "https"]] = {
    "modality": "dicom", "worklist": "dmwl", "engine": "hl7", "viewer": "https",
}  # fmt: skip
Rate = Annotated[float, Meta(ge=0)]


class PlanError(Exception):
    """A load plan cannot be used; the message says which, what was expected and what was found."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a plan: frozen, and strict about unknown keys."""


class Shape(_Part, frozen=True, kw_only=True):
    """How arrivals are spread over the time of one user kind.

    `steady`: one rate. `steps`: `step_s` seconds at each rate, the next is `factor` times the last. `day`: a hospital's day
    (24 hourly factors of the model, 1.0 in the peak hour) squeezed into the duration. `storm`: every client connects at its
    leisure first; then all hang up and come back at once. `closed`: no arrivals; every client goes on as soon as it is
    answered (for benchmarks: it hides waiting, so no latency verdict rests on it).
    """

    kind: Literal["steady", "steps", "day", "storm", "closed"] = "steady"
    step_s: float = 3.0
    factor: float = 1.5
    hours: tuple[float, ...] = ()


class StudyMix(_Part, frozen=True, kw_only=True):
    """One kind of study: its share of all studies, its images and their size (dataset bytes as on the wire)."""

    modality: str
    share: Annotated[float, Meta(gt=0, le=1)]
    images: Annotated[int, Meta(ge=1)]
    image_bytes: Annotated[int, Meta(ge=1024)]


class UserPlan(_Part, frozen=True, kw_only=True):
    """What the users of one kind do.

    Parameters
    ----------
    kind : str
        modality, worklist, engine or viewer.
    clients : int
        How many there are, over all generators; each has a source address of its own.
    rate : float
        Arrivals a second over all generators at factor 1: studies, queries, messages, or sessions.
    starts_s, lasts_s : float
        When its arrivals begin, in seconds after the start of the run, and for how long they go on.
    shape : Shape
        How they are spread.
    studies : tuple of StudyMix
        Of modalities: what they send. Shares sum to 1.
    requests_a_session : int
        Of viewers: pages that a session asks for after its login.
    """

    kind: UserKind
    clients: Annotated[int, Meta(ge=1)]
    rate: Rate = 0.0
    starts_s: float = 0.0
    lasts_s: float
    shape: Shape = Shape()
    studies: tuple[StudyMix, ...] = ()
    requests_a_session: Annotated[int, Meta(ge=0)] = 8


class Web(_Part, frozen=True, kw_only=True):
    """What viewers need: the account, the CA to trust, the name to expect, the studies that are there to open."""

    user: str
    password: str
    ca_file: str
    server_name: str
    study_uids: tuple[str, ...]


class LoadPlan(_Part, frozen=True, kw_only=True):
    """One load run.

    Parameters
    ----------
    site : str
        The site file.
    run : int
        The run's number (32 bits), of all identities.
    seed : int
        Of every random choice: the same seed, the same arrivals, whatever the number of generators.
    workload : int
        The number of the workload that operations are recorded under.
    records : str
        The folder that every generator writes into: `generator-<n>.operations` (simulators.operations),
        `generator-<n>.arrivals` (scenarios.load.records), `pulses/generator-<n>-<pid>.pulse` (simulators.pulse).
    first_generator : int
        Generators are numbered from here; 0 is the harness itself, and several Locust runs of one run must not share any.
    generators_at_most : int
        How many generators may take part: each owns an equal slice of `sources`.
    sources : tuple of str
        First and last source address (IPv4) that this run may use: nobody else does.
    duration_s : float
        Of all users; what is under way then is ended, and counted.
    users : tuple of UserPlan
        Who takes part.
    web : Web or None
        What viewers need.
    worklist_stations : tuple of str
        Scheduled station AE titles whose worklists hold items, for worklist users to ask for in turn.
    """

    site: str
    run: int
    seed: int
    workload: int
    records: str
    first_generator: Annotated[int, Meta(ge=1)] = 1
    generators_at_most: Annotated[int, Meta(ge=1, le=1024)] = 8
    sources: tuple[str, str]
    duration_s: float
    users: tuple[UserPlan, ...]
    web: Web | None = None
    worklist_stations: tuple[str, ...] = ()

    def users_of(self, kind: UserKind) -> tuple[UserPlan, ...]:
        """Return the user plans of one kind; several follow each other in time."""
        return tuple(user for user in self.users if user.kind == kind)


def write_plan(plan: LoadPlan, path: Path) -> None:
    """Write a plan for Locust's processes to read; readable by its owner alone, since it holds a password."""
    write_private(plan, path)


def read_plan(path: Path) -> LoadPlan:
    """Read a plan.

    Raises
    ------
    PlanError
        When the file is missing or not a LoadPlan.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=LoadPlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise PlanError(f"{path}: expected a load plan, found {error}") from error
