from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from simulators.dicom.errors import ImageError
from simulators.dicom.instances import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EncodedInstance, patient_name
from simulators.dicom.samples import SampleImage, generated_image, load_images, sample_images
from simulators.operations import UID_LENGTH, Identity, Kind

IMAGE = Identity(9, Kind.INSTANCE, 1, 1)
STUDY = Identity(9, Kind.STUDY, 1, 2)
SERIES = Identity(9, Kind.SERIES, 1, 3)
PATIENT = Identity(9, Kind.PATIENT, 1, 4)


def named(image: SampleImage, accession: str | None = "PF00000000000001") -> EncodedInstance:
    return image.instance.named(IMAGE, STUDY, SERIES, PATIENT, accession)


def read(instance: EncodedInstance) -> Dataset:
    content = b"".join(instance.buffers)
    return read_dataset(BytesIO(content), instance.transfer_syntax == IMPLICIT_LITTLE_ENDIAN, True)


def shipped(file: str) -> Path:
    path = get_testdata_file(file, download=False)
    assert path is not None
    return Path(str(path))


def every_text(dataset: Dataset) -> str:
    return "\n".join(str(element.value) for element in dataset.iterall() if element.VR not in ("OB", "OW", "SQ", "UN"))


def test_the_samples_cover_what_the_catalogue_asks_for() -> None:
    kinds = {(image.modality, UID(image.transfer_syntax).name) for image in sample_images()}
    assert kinds >= {
        ("CT", "Explicit VR Little Endian"), ("CT", "Implicit VR Little Endian"), ("MR", "Explicit VR Little Endian"),
        ("CR", "Explicit VR Little Endian"), ("US", "Explicit VR Little Endian"), ("SR", "Explicit VR Little Endian"),
        ("MR", "JPEG 2000 Image Compression (Lossless Only)"), ("CT", "JPEG 2000 Image Compression"),
        ("OT", "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])"),
    }  # fmt: skip


@pytest.mark.parametrize("image", sample_images(), ids=lambda image: image.name)
def test_a_copy_carries_the_identities_it_was_given(image: SampleImage) -> None:
    dataset = read(named(image))
    assert dataset.SOPInstanceUID == IMAGE.uid
    assert dataset.StudyInstanceUID == STUDY.uid
    assert dataset.SeriesInstanceUID == SERIES.uid
    assert dataset.PatientID == PATIENT.code
    assert str(dataset.PatientName) == patient_name(PATIENT)
    assert dataset.AccessionNumber == "PF00000000000001"
    assert dataset.PatientBirthDate == ""


@pytest.mark.parametrize("image", sample_images(), ids=lambda image: image.name)
def test_no_place_holder_is_left_in_a_copy(image: SampleImage) -> None:
    content = b"".join(named(image).buffers)
    assert b"PF_" not in content
    assert b"2.25.9111111" not in content


def test_a_shipped_image_keeps_its_pixels_and_its_geometry() -> None:
    original = pydicom.dcmread(shipped("CT_small.dcm"))
    image = next(image for image in sample_images() if image.name == "ct-implicit")
    dataset = read(named(image))
    assert dataset.PixelData == original.PixelData
    assert dataset.ImagePositionPatient == original.ImagePositionPatient
    assert dataset.Manufacturer == "GE MEDICAL SYSTEMS"


def test_compressed_pixels_stay_as_the_scanner_encoded_them() -> None:
    original = pydicom.dcmread(shipped("SC_rgb_jpeg_gdcm.dcm"))
    image = next(image for image in sample_images() if image.name == "sc-jpeg-lossless")
    assert read(named(image)).PixelData == original.PixelData


def test_nested_references_to_the_same_study_follow_it() -> None:
    image = next(image for image in sample_images() if image.name == "sr-comprehensive")
    original = pydicom.dcmread(shipped("test-SR.dcm"))
    references = [element for element in original.iterall() if element.value == original.StudyInstanceUID]
    followed = [element for element in read(named(image)).iterall() if element.value == STUDY.uid]
    assert len(references) > 1
    assert len(followed) == len(references)


def test_copies_share_their_pixels() -> None:
    image = generated_image("CR", 1 << 20, seed=1)
    first, second = named(image), named(image)
    assert first.buffers[1].obj is second.buffers[1].obj


def test_a_copy_without_an_order_has_an_empty_accession_number() -> None:
    assert read(named(generated_image("CT", 8192, seed=1), None)).AccessionNumber == ""


def test_an_accession_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match="expected at most 16 characters, found '12345678901234567'"):
        named(generated_image("CT", 8192, seed=1), "12345678901234567")


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US"])
@pytest.mark.parametrize("size_bytes", [4096, 8192, 524288, 5_000_002])
@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN])
def test_a_generated_image_has_exactly_the_size_asked_for(modality: str, size_bytes: int, syntax: str) -> None:
    image = generated_image(modality, size_bytes, 7, syntax)
    dataset = read(named(image))
    frames = int(dataset.get("NumberOfFrames", 1))
    assert image.size_bytes == size_bytes == len(b"".join(named(image).buffers))
    assert len(dataset.PixelData) == dataset.Rows * dataset.Columns * frames * dataset.BitsAllocated // 8
    assert len(dataset.ImageComments) <= 10240


def test_equal_seeds_generate_equal_images_and_others_do_not() -> None:
    digests = [generated_image("CT", 8192, seed).instance.digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ImageError, match="size_bytes: expected an even number, 4096 to 1073741824, found 10"):
        generated_image("CT", 10, 1)


def test_the_users_images_lose_every_name_they_came_with(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(shipped("CT_small.dcm"))
    dataset.PatientName = "Doe^Jane"
    dataset.OtherPatientIDs = "4711"
    dataset.ReferringPhysicianName = "Quack^Donald"
    dataset.PatientBirthDate = "19700102"
    (tmp_path / "disc").mkdir()
    dataset.save_as(tmp_path / "disc" / "one.dcm")
    old_uids = {dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID}
    (image,) = load_images(tmp_path)
    text = every_text(read(named(image)))
    assert image.name == "disc/one.dcm"
    for identifying in ("Doe", "4711", "Quack", "19700102", *old_uids):
        assert identifying not in text


def test_private_elements_of_the_users_images_are_left_out(tmp_path: Path) -> None:
    shutil.copy(shipped("CT_small.dcm"), tmp_path / "ct.dcm")
    (image,) = load_images(tmp_path)
    assert not any(element.tag.is_private for element in read(named(image)).iterall())


def test_equal_foreign_uids_stay_equal_across_the_users_images(tmp_path: Path) -> None:
    for file in ("CT_small.dcm", "MR_small.dcm"):
        dataset = pydicom.dcmread(shipped(file))
        dataset.FrameOfReferenceUID = "1.2.3.4"
        dataset.save_as(tmp_path / file)
    frames = {read(named(image)).FrameOfReferenceUID for image in load_images(tmp_path)}
    assert len(frames) == 1
    assert frames.pop().startswith("2.25.")


def test_a_deflated_image_is_sent_inflated(tmp_path: Path) -> None:
    shutil.copy(shipped("image_dfl.dcm"), tmp_path / "deflated.dcm")
    (image,) = load_images(tmp_path)
    assert image.transfer_syntax == EXPLICIT_LITTLE_ENDIAN
    assert read(named(image)).PixelData == pydicom.dcmread(shipped("image_dfl.dcm")).PixelData


@pytest.mark.parametrize(
    ("file", "message"),
    [("MR_small_bigendian.dcm", "transfer syntax: expected a little endian one, found 1.2.840.10008.1.2.2"),
     ("README.txt", "expected a DICOM file"), ("MR_truncated.dcm", "pixel data: expected 8192 bytes, found")],
)  # fmt: skip
def test_a_file_that_cannot_be_sent_is_named(file: str, message: str, tmp_path: Path) -> None:
    if file == "README.txt":
        (tmp_path / file).write_text("not an image")
    else:
        shutil.copy(shipped(file), tmp_path / file)
    with pytest.raises(ImageError, match=message) as raised:
        load_images(tmp_path)
    assert file in str(raised.value)


def test_a_directory_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected at least one DICOM file, found 0 files"):
        load_images(tmp_path)


def test_every_uid_of_ours_has_the_length_that_is_patched() -> None:
    assert {len(identity.uid) for identity in (IMAGE, STUDY, SERIES)} == {UID_LENGTH}
