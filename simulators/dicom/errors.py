"""What can go wrong in the DICOM room.

::

    DicomError
    ├── ProtocolError   the peer's bytes are not DICOM (PS3.7, PS3.8); the association must be aborted
    └── ImageError      a file cannot be made into an image to send

A network that fails is neither: clients turn it into `simulators.client.Failed` and then into an operation's fate.
"""


class DicomError(Exception):
    """The root of this room's errors."""


class ProtocolError(DicomError):
    """The peer broke the protocol, or the caller would; the message says what was expected and what was found."""


class ImageError(DicomError):
    """A file cannot be made into an image to send; the message names it."""
