"""The user's own messages (`--messages DIR`): read from files, freed of their patients, given identities of ours."""

from __future__ import annotations

from pathlib import Path

from simulators.operations import Identity

from .message import Message, MessageError, escape
from .mllp import Decoder, Frame, FrameTooLarge
from .samples import SampleError, SamplePatient

_BLANK = {
    b"PID": (2, 4, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 26, 28, 29),
    b"PD1": tuple(range(3, 23)),
    b"NK1": tuple(range(2, 40)),
    b"GT1": tuple(range(2, 60)),
    b"IN1": tuple(range(2, 60)),
    b"IN2": tuple(range(1, 80)),
    b"MRG": (2, 3, 4, 5, 6, 7),
    b"PV1": (19, 50),
    b"NTE": (3,),
}  # what says who somebody is, or may: numbers, dates, addresses, kin, insurers, free notes (HL7 v2.5.1, chapters 3 and 6)


class OwnMessage:
    """One message of the user's, without its patient.

    Parameters
    ----------
    file : Path
        Where it came from, for messages to people.
    message : Message
        As it was read; its patient does not get past this.
    """

    def __init__(self, file: Path, message: Message) -> None:
        self.file = file
        self.message_type = "^".join(message.kind)
        self._separators = message.separators
        self._codec = message.codec
        self._header = list(message.header.fields)
        self._segments = [_freed(segment.fields) for segment in message.segments()]

    def message(self, identity: Identity, patient: SamplePatient) -> bytes:
        """Return the message with MSH-10, PID-3, PID-5 and MRG-1 of ours; everything else that names a person is blank."""
        name = "^".join(escape(part) for part in patient.name.split("^")).encode("ascii", "replace")
        separators = self._separators
        name = name.translate(bytes.maketrans(b"|^~\\&", b"".join(separators)))
        header = [*self._header[:1], *self._header[2:]]  # MSH-1 is the separator that the join puts there
        header[9] = identity.code.encode()
        lines = [separators.field.join(header)]
        for fields in self._segments:
            if fields[0] == b"PID":
                fields = [*fields, *[b""] * (9 - len(fields))]
                fields[3], fields[5], fields[8] = patient.identity.code.encode(), name, patient.sex.encode()
            elif fields[0] == b"MRG" and len(fields) > 1:
                fields = [*fields]
                fields[1] = f"{patient.identity.code}-PRIOR".encode()
            lines.append(separators.field.join(fields))
        return b"\r".join(lines) + b"\r"


def load_messages(directory: Path) -> list[OwnMessage]:
    """Read the `*.hl7` files below a folder, one message each, with or without an MLLP frame.

    Parameters
    ----------
    directory : Path
        Searched with its subfolders, in the order of the paths.

    Raises
    ------
    SampleError
        When there is no such folder or file, or a file is not an HL7 v2 message; it names the file.
    """
    if not directory.is_dir():
        raise SampleError(f"{directory}: expected a folder with *.hl7 files, found none; check --messages")
    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() == ".hl7" and path.is_file())
    if not files:
        raise SampleError(f"{directory}: expected *.hl7 files, found none; check --messages")
    return [_read(path) for path in files]


def _read(path: Path) -> OwnMessage:
    try:
        content = path.read_bytes()
        message = Message(_segments_ended_by_cr(content))
        if not message.header.raw(9) or not message.header.raw(10):
            raise SampleError(f"{path}: expected an HL7 v2 message with MSH-9 and MSH-10, found neither; mend it")
        message.check_text()
    except (OSError, FrameTooLarge, MessageError) as error:
        raise SampleError(f"{path}: expected one HL7 v2 message: {error}; mend or remove it") from error
    if len([line for line in message.segments() if line.name == "MSH"]):
        raise SampleError(f"{path}: expected one HL7 v2 message, found several; give each a file of its own")
    return OwnMessage(path, message)


def _segments_ended_by_cr(content: bytes) -> bytes:
    """Return the message of a file: unframed, without a byte order mark, whatever an editor made of its line ends."""
    if content.startswith(b"\x0b"):
        events = Decoder().feed(content)
        content = next((event.payload for event in events if isinstance(event, Frame)), content)
    content = content.removeprefix(b"\xef\xbb\xbf")
    return content.replace(b"\r\n", b"\r").replace(b"\n", b"\r").strip(b"\r") + b"\r"


def _freed(fields: list[bytes]) -> list[bytes]:
    blank = _BLANK.get(fields[0], ())
    return [b"" if place in blank else value for place, value in enumerate(fields)]
