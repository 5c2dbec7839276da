"""What the simulated people and machines carry: images, message templates, an account at the web page."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from compose.lab import CanGiveWebAccount, Lab
from lbconfig.site import Site
from scenarios.options import Options, UsageError
from simulators.client import Target, Timeouts
from simulators.dicom.errors import ImageError
from simulators.dicom.instances import EncodedInstance
from simulators.dicom.samples import SampleImage, generated_image, load_images, sample_images
from simulators.hl7.own_messages import OwnMessage, load_messages
from simulators.hl7.samples import SampleError, Template, sample_templates
from simulators.web.viewer import Viewer

SMALL_BYTES = 8 * 1024
LARGE_BYTES = (64 * 1024, 512 * 1024, 8 << 20)
LARGEST_BYTES = 200 * 10**6


class WebAccess(msgspec.Struct, frozen=True):
    """What a person needs at the web page: an account, the CA to trust, the name to expect, a study to write notes on."""

    user: str
    password: str
    ca_file: Path
    server_name: str
    study_uid: str

    def viewer(self, target: Target, source: str, timeouts: Timeouts) -> Viewer:
        """Make a viewer at a source address."""
        return Viewer(target, source, server_name=self.server_name, ca_file=self.ca_file, timeouts=timeouts)


class Kit(msgspec.Struct, frozen=True):
    """The samples of one run, and its access to the web page.

    `images` are one of each kind, the user's own among them; `small_image` is what traffic consists of; `templates` are by
    message type (`ADT^A08`); `own_messages` are the user's.
    """

    images: tuple[SampleImage, ...]
    small_image: EncodedInstance
    templates: dict[str, Template]
    own_messages: tuple[OwnMessage, ...]
    web: WebAccess


class OwnSamples(msgspec.Struct, frozen=True):
    """The user's own images and messages, freed of their patients."""

    images: tuple[SampleImage, ...] = ()
    messages: tuple[OwnMessage, ...] = ()


def own_samples(options: Options) -> OwnSamples:
    """Read the folders that `--images` and `--messages` name. Raises UsageError, which names the file that cannot be used."""
    try:
        return OwnSamples(
            images=load_images(options.images) if options.images else (),
            messages=tuple(load_messages(options.messages)) if options.messages else (),
        )
    except (ImageError, SampleError) as error:
        raise UsageError(str(error)) from error


def pack(site: Site, web: WebAccess, own: OwnSamples) -> Kit:
    """Gather the samples for a site, the user's own among them."""
    small = generated_image("CT", SMALL_BYTES, 1)
    sized = tuple(generated_image("CT", size_bytes, size_bytes) for size_bytes in LARGE_BYTES)
    return Kit(
        images=(*sample_images(), small, *sized, *own.images),
        small_image=small.instance,
        templates=sample_templates(site.hl7.receiving_application, site.hl7.receiving_facility),
        own_messages=own.messages,
        web=web,
    )


def web_access(lab: Lab, study_uid: str) -> WebAccess:
    """Return the access to the web page: the lab's own account where it made one, else the one that the site names.

    Raises
    ------
    UsageError
        When the site's account has no password in the environment, or no CA file is named.
    """
    site = lab.site
    vip = site.vip_of("https")
    name = vip.hostname or vip.address
    if isinstance(lab, CanGiveWebAccount):
        return WebAccess(lab.web_user, lab.web_password, lab.ca_file, name, study_uid)
    password = os.environ.get(site.web.password_variable)
    if password is None:
        raise UsageError(
            f"{site.web.password_variable}: expected the password of {site.web.user} in this variable, found none"
        )
    if site.web.ca_file is None:
        raise UsageError(
            f"{site.name}: web.ca_file: expected the CA that the web page's certificate is to be checked with, found none"
        )
    return WebAccess(site.web.user, password, Path(site.web.ca_file), name, study_uid)
