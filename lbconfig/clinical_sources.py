"""Where each number of the clinical load model comes from: one row for each, with a source, or why it is assumed.

A row is about the *default*. A site that overrides a number answers for its own. Sources are national statistics, studies of
single hospitals, standards and vendors' guides; they are old where nothing newer was found that gives the figure itself.
"""

from __future__ import annotations

from typing import NamedTuple


class Basis(NamedTuple):
    """Where one number comes from.

    `key` is its place below `[load]`, with an entry of an array by its name: `modality.CT.images`. `source` is a key of
    `REFERENCES`, and `text` what that source says; where `source` is empty, the number is assumed, and `text` says why.
    """

    key: str
    unit: str
    source: str
    text: str

    @property
    def why(self) -> str:
        """The source and what it says, or why the number is assumed."""
        return f"{self.source}: {self.text}" if self.source else f"assumption: {self.text}"


REFERENCES = {
    "Angiography 2000": "The international angiographic compression study, 2000 (abstract)",
    "BSCI 2016": "British Society of Cardiovascular Imaging: NICE CG95 update 2016",
    "Clunie 2013": "D. Clunie: Breast tomosynthesis challenges digital imaging infrastructure, AuntMinnie, 15 March 2013",
    "DICOM": "DICOM Standard PS3, National Electrical Manufacturers Association",
    "Ferreira 2015": "R. Ferreira et al.: Visualization of passively extracted HL7 production metrics, SciTePress 2015",
    "HES 2013": (
        "Health and Social Care Information Centre: Hospital Episode Statistics, England 2012-13 (outpatients and "
        "admissions: March 2012 to February 2013), with NHS England: Annual imaging and radiodiagnostics statistics "
        "2012-13"
    ),
    "Horii 2006": "S. Horii et al.: Impact of volumetric ultrasound on PACS, Proc. SPIE 6145, 2006",
    "iNTERFACEWARE": "iNTERFACEWARE: Products manual, Using asynchronous communication",
    "Leuven 2004": "Diagnostic Imaging: Clinicians put easy image access to good use (University Hospitals Leuven, 2004)",
    "Mayo 2007": "HL7 UK: HL7v2 messages are shown to be scalable and robust, 2 July 2008 (Mayo Clinic Rochester, 2007)",
    "McDonald 2015": (
        "R. J. McDonald et al.: The effects of changes in utilization and technological advancements of "
        "cross-sectional imaging on radiologist workload, Academic Radiology, 2015"
    ),
    "McKesson": (
        "Medical Imaging Talk: The promises and implications of digital breast tomosynthesis (McKesson customer data)"
    ),
    "NHS 2014": (
        "NHS England: Annual imaging and radiodiagnostics statistics 2013-14 (42.9 million exams), and NHS Digital: "
        "Breast Screening Programme, England 2018-19 (2.23 million)"
    ),
    "OTech": "OTech: OTpedia, Modality worklist",
    "PACSnet": "PACSnet: Storage calculator",
    "V2 stream 2021": "HL7 V2 stream of the FHIR community chat: Implementation in high latency environments, March 2021",
    "Wilson 1994": (
        "D. L. Wilson, D. V. Smith: Distribution of workload over the working day in a PACS, Proc. SPIE 2165, 1994"
    ),
    "Wirth 2006": (
        "S. Wirth et al.: Hard disk online caches in picture archiving and communication systems archives: how big is"
        " beautiful?, 2006 (PMID 16528557), and the same group's congress abstract of 2005 (Thieme s-2005-867716)"
    ),
}

BASES = (
    Basis("exams_per_year", "exams/year", "", "a group of hospitals with one archive; a site has its own number"),
    Basis("working_days", "days/year", "McDonald 2015",
          "255 days. All exams fall on them, so that nights and weekends make no peak lower"),
    Basis("peak_hour_share", "share of a working day", "Wilson 1994",
          "10.1 % in the busiest hour on average, up to 15 % on single days; half a load more is asked for as a "
          "reserve, which is factor 1.5 of a load run"),
    Basis("hourly_factors", "share of the peak hour", "",
          "a morning and an afternoon peak and a little work at night, such that the busiest hour has the 10.1 % of "
          "Wilson 1994; only the shape `day` uses them"),

    Basis("modality.DX.share", "of exams", "NHS 2014", "23.1 of 45.1 million"),
    Basis("modality.CT.share", "of exams", "NHS 2014", "5.2 of 45.1 million"),
    Basis("modality.MR.share", "of exams", "NHS 2014", "2.7 of 45.1 million"),
    Basis("modality.US.share", "of exams", "", "four of five of the 10.0 million ultrasound exams of NHS 2014"),
    Basis("modality.US-LOOPS.share", "of exams", "", "one of five ultrasound exams is of the heart or vessels, in loops"),
    Basis("modality.MG.share", "of exams", "", "three of five of the 2.23 million breast screenings of NHS 2014"),
    Basis("modality.DBT.share", "of exams", "", "two of five breast exams: centres change over to tomosynthesis"),
    Basis("modality.RF.share", "of exams", "", "two of three of the 1.3 million fluoroscopies of NHS 2014"),
    Basis("modality.XA.share", "of exams", "", "one of three fluoroscopies is an angiography"),
    Basis("modality.NM.share", "of exams", "", "seven of ten of the 0.6 million radio-isotope exams of NHS 2014"),
    Basis("modality.PT.share", "of exams", "", "three of ten radio-isotope exams are PET; its CT is counted with CT"),
    Basis("modality.DBT-VIEWS.share", "of exams", "", "every tomosynthesis exam has its 2D views too"),
    Basis("modality.CT-DOSE-SR.share", "of exams", "",
          "every CT sends its dose report beside its images (DICOM PS3.17 AA.3.1)"),

    Basis("modality.DX.images", "objects/study", "", "two views of a chest or limb"),
    Basis("modality.CT.images", "objects/study", "McDonald 2015", "679 images an exam in 2010"),
    Basis("modality.MR.images", "objects/study", "McDonald 2015", "570 images an exam in 2010"),
    Basis("modality.US.images", "objects/study", "",
          "stills of an abdomen; their number grows from year to year (Horii 2006)"),
    Basis("modality.US-LOOPS.images", "objects/study", "", "a transthoracic echocardiography, stills not counted"),
    Basis("modality.MG.images", "objects/study", "Clunie 2013", "a conventional mammogram has four views"),
    Basis("modality.DBT.images", "objects/study", "Clunie 2013", "a volume for each of the four views"),
    Basis("modality.RF.images", "objects/study", "", "single frames of a swallow or a bowel"),
    Basis("modality.XA.images", "objects/study", "", "ten runs of 6 s make the 60 s of image_bytes' source"),
    Basis("modality.NM.images", "objects/study", "", "a bone scan's views and one tomography"),
    Basis("modality.PT.images", "objects/study", "", "slices from skull to thigh, 3 mm"),
    Basis("modality.DBT-VIEWS.images", "objects/study", "Clunie 2013", "as MG: four views"),
    Basis("modality.CT-DOSE-SR.images", "objects/study", "DICOM",
          "PS3.16 TID 10011: its values are accumulated over a whole study"),

    Basis("modality.DX.image_bytes", "bytes", "PACSnet", "1760 x 2140 x 16 bits; flat panels have up to twice that"),
    Basis("modality.CT.image_bytes", "bytes", "", "512 x 512 pixels of 2 bytes, and about 2 KB of header"),
    Basis("modality.MR.image_bytes", "bytes", "",
          "256 x 256 pixels of 2 bytes, and about 2 KB of header; newer sequences have 512 x 512"),
    Basis("modality.US.image_bytes", "bytes", "", "640 x 480 in colour, not compressed"),
    Basis("modality.US-LOOPS.image_bytes", "bytes", "", "30 frames of 640 x 480 in colour, not compressed"),
    Basis("modality.MG.image_bytes", "bytes", "McKesson", "16 MB a view"),
    Basis("modality.DBT.image_bytes", "bytes", "Clunie 2013",
          "450 MB a volume on average, so 1.8 GB a study; McKesson has 380 MB a volume"),
    Basis("modality.RF.image_bytes", "bytes", "", "1024 x 1024 pixels of 2 bytes, and about 2 KB of header"),
    Basis("modality.XA.image_bytes", "bytes", "Angiography 2000",
          "60 s of 512 x 512 x 8 bits and 30 frames/s: 450 MB a study"),
    Basis("modality.NM.image_bytes", "bytes", "", "two views of 256 x 1024 pixels of 2 bytes, and about 2 KB of header"),
    Basis("modality.PT.image_bytes", "bytes", "", "128 x 128 pixels of 2 bytes, and about 2 KB of header"),
    Basis("modality.DBT-VIEWS.image_bytes", "bytes", "McKesson", "as MG: 16 MB a view"),
    Basis("modality.CT-DOSE-SR.image_bytes", "bytes", "", "a content tree of some hundred items"),
    Basis("compression", "times smaller", "DICOM",
          "PS3.5 10.1: the default transfer syntax is not compressed, and many modalities send it"),
    Basis("largest_sent_image_bytes", "bytes", "",
          "all that one simulated modality can hold; larger is in the model, not in the traffic"),

    Basis("encounters_per_exam", "encounters/exam", "HES 2013",
          "15.0 million admissions, 93.5 million outpatient appointments and 18.3 million emergency attendances, "
          "beside 41.0 million imaging exams"),
    Basis("adt_per_encounter", "messages/encounter", "",
          "registration, admission or arrival, transfers, updates of insurance and address, discharge. An archive "
          "that is sent ADT gets that of the whole hospital: here 48,600 a working day, beside 44,000 HL7 messages a "
          "day in Ferreira 2015; Mayo 2007 counted 433 messages of all kinds an encounter"),
    Basis("orders_per_exam", "messages/exam", "", "a new order, and one change or status of it"),
    Basis("scheduling_per_exam", "messages/exam", "", "an appointment, and one of five moved"),
    Basis("results_per_exam", "messages/exam", "", "a final report, and a preliminary one before every second"),
    Basis("line.ADT", "kinds and connections", "", "the whole hospital's ADT on one connection, since its order must hold"),
    Basis("line.ORDERS", "kinds and connections", "", "orders and appointments come from one system, on one connection"),
    Basis("line.RESULTS", "kinds and connections", "", "reports come from another system, on a connection of their own"),
    Basis("ack_latency_s", "s", "",
          "40 ms there and back to an engine in another building (V2 stream 2021), and 10 ms to store. MLLP waits for"
          " each ACK, so that a line carries 1 / latency (iNTERFACEWARE)"),

    Basis("exams_per_device", "exams/year", "",
          "a CT makes about 10,700 (5.2 million exams, NHS 2014; 9 scanners a million people, BSCI 2016); rooms, "
          "portables and ultrasound far fewer"),
    Basis("worklist_interval_s", "s", "",
          "a device polls on its own clock, all day and night, whether there is work or not (OTech names the "
          "overhead); every minute is a usual setting"),

    Basis("views_per_exam", "studies/exam", "Leuven 2004",
          "opened 1.43 million times for 390,000 exams, 80 % of the times with images: 2.9, and once by the "
          "radiologist"),
    Basis("priors_per_exam", "studies/exam", "Wirth 2006",
          "59.7 % of exams have priors, then 7.6 of them, of which 61 % are relevant"),
    Basis("exams_per_web_user", "exams/user/year", "Leuven 2004", "390,000 exams, 1,880 clinicians"),
    Basis("sessions_per_web_user_day", "sessions/user/working day", "",
          "one in the morning, one in the afternoon; in Leuven 2004 a clinician opened three exams a working day"),
    Basis("pages_per_session", "pages/session", "",
          "list, search, and for one or two exams the page, its reports and images"),

    Basis("outage_min", "min", "", "a restart of both nodes or of a switch, in the peak hour"),
    Basis("flush_min", "min", "", "modalities try again every few minutes, and then all of them send what they kept"),

    Basis("image_s", "s", "",
          "what a modality needs between two images of a study besides sending them; only the number of clients rests"
          " on it"),
    Basis("link_bytes_per_s", "bytes/s", "", "a gigabit to each modality, 80 % used; only the number of clients rests on it"),
    Basis("query_s", "s", "", "a worklist query with its association; only the number of clients rests on it"),
    Basis("page_s", "s", "", "one page; only the number of clients rests on it"),
)  # fmt: skip
