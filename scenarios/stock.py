"""What a site is given before anybody asks for it: a study for the web page, orders for the worklists."""

from __future__ import annotations

from pathlib import Path

from compose.lab import Lab
from scenarios.kit import Kit, OwnSamples, pack, web_access
from scenarios.load.card import CARD_NAME, LabCard, write_card
from scenarios.options import fresh_seed
from scenarios.run import PlacedOrder, Run
from scenarios.talkers import order_details
from simulators.client import Attempt
from simulators.dicom.modality import Modality
from simulators.hl7.engine import InterfaceEngine
from simulators.hl7.samples import SamplePatient
from simulators.operations import Kind

LOAD_STATIONS = tuple(f"PFLOAD{number}" for number in range(1, 9))
ITEMS_A_STATION = 20
_SOURCES_OF_OTHERS = 32_000  # of a lab's addresses: what `locust` may use while the lab is up


def stocked(run: Run, own: OwnSamples) -> Kit:
    """Store one study straight on a node, and return the samples of the run with the access to its page."""
    study = run.identities.next(Kind.STUDY)
    kit = pack(run.site, web_access(run.lab, study.uid), own)
    vip = run.site.vip_of("dicom")
    modality = Modality(
        run.straight(vip, vip.real_server[0]),
        run.straight_sources(1)[0],
        images=[kit.small_image],
        calling_ae=run.site.dicom.calling_ae_titles[0],
        called_ae=run.site.dicom.ae_title,
        timeouts=run.timeouts(),
    )
    identity = run.identities.next(Kind.INSTANCE)
    series, patient = run.identities.next(Kind.SERIES), run.identities.next(Kind.PATIENT)
    instance = kit.small_image.named(identity, study, series, patient, None)
    run.record(modality.store(instance, Attempt(identity, workload=run.workload("first study"))))
    modality.release()
    return kit


def fill_worklists(run: Run, kit: Kit) -> None:
    """Order twenty procedures for each of the stations that load runs ask for, through the HL7 VIP."""
    workload = run.workload("orders for the worklists")
    engine = InterfaceEngine(run.through(run.site.vip_of("hl7")), run.lab.source_addresses(1)[0], timeouts=run.timeouts())
    for station in LOAD_STATIONS:
        for _ in range(ITEMS_A_STATION):
            identity, patient = run.identities.next(Kind.MESSAGE), SamplePatient(run.identities.next(Kind.PATIENT))
            order = order_details(run, station_ae=station)
            attempt = Attempt(identity, patient=patient.identity.key, workload=workload)
            run.record(engine.send(kit.templates["ORM^O01"].message(identity, patient, order), attempt))
            run.orders[identity.key] = PlacedOrder(order.accession, station)
    engine.close()


def furnish(lab: Lab, site_file: Path) -> Path:
    """Stock a lab that nobody judges, and write its card, from which other clients know it; return the card's path."""
    run = Run(lab, lab.directory, seed=fresh_seed(), number=fresh_seed())
    try:
        kit = stocked(run, OwnSamples())
        fill_worklists(run, kit)
    finally:
        run.close()
    addresses = lab.source_addresses(_SOURCES_OF_OTHERS)
    card = LabCard(
        site=str(site_file.resolve()), ca_file=str(kit.web.ca_file), web_user=kit.web.user, web_password=kit.web.password,
        server_name=kit.web.server_name, study_uids=(kit.web.study_uid,), worklist_stations=LOAD_STATIONS,
        sources=(addresses[0], addresses[-1]),
    )  # fmt: skip
    path = lab.directory / CARD_NAME
    write_card(card, path)
    return path
