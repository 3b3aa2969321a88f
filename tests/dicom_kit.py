"""A CT series with everything a hospital writes into it, a synthetic CT made from it, and dciodvfy."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_fixtures import Series, write_series
from lesionbrush.core.provenance import MaskStatistics, Provenance, now
from lesionbrush.core.volume import Volume
from lesionbrush.files.dicom_export.case import DicomCase, Reference, export_case
from lesionbrush.files.dicom_export.series import DicomOptions
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

BOX = (slice(2, 6), slice(1, 4), slice(1, 4))
SHAPE = (9, 8, 6)


def record(reference: Volume, synthetic: Volume, **changes: object) -> Provenance:
    """The provenance of a synthetic CT that differs inside BOX."""
    facts = {
        "model": "tiny",
        "weights_sha256": "ab" * 32,
        "weights_license": "Apache-2.0",
        "attribution": "none",
        "request": SynthesisRequest().model_dump(mode="json"),
        "variant": 0,
        "seed": 4,
        "reference_sha256": reference.voxel_sha256,
        "box_offset": tuple(part.start for part in BOX),
        "box_shape": tuple(part.stop - part.start for part in BOX),
        "voxels_changed": int((reference.array != synthetic.array).sum()),
        "in_mask": MaskStatistics.of(np.array([1.0, 2.0])),
        "device": "cpu",
        "seconds": {},
        "created": now(),
        "versions": {},
    }
    return Provenance.model_validate({**facts, **changes})


@dataclass
class Hospital:
    """Tags as a PACS has them: of the patient, and of what must not be carried over."""

    study: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    charset: str = "ISO_IR 100"
    name: str = "Müller^Jörg"

    def edit(self, k: int, header: Dataset) -> None:
        header.SpecificCharacterSet = self.charset
        header.PatientName, header.PatientID, header.PatientSex = self.name, "4711", "M"
        header.PatientBirthDate, header.StudyDate, header.StudyTime = "19500102", "20240506", "101112"
        header.StudyInstanceUID, header.FrameOfReferenceUID, header.StudyID = self.study, self.frame, "S1"
        header.AccessionNumber, header.ReferringPhysicianName = "A99", "Doe^Jane"
        header.PositionReferenceIndicator, header.PatientPosition = "", "HFS"
        header.BodyPartExamined, header.SeriesDescription = "CHEST", "Thorax 2.0 Br59"
        header.Manufacturer, header.ManufacturerModelName = "Scanners Inc", "CT 3000"
        header.InstitutionName, header.StationName, header.SoftwareVersions = "Hospital", "CT7", "VB1"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.AcquisitionNumber, header.AcquisitionTime, header.KVP = 2, f"1011{12 + k}", "120"
        header.WindowCenter, header.WindowWidth = "-600", "1500"
        header.ConvolutionKernel, header.ExposureTime, header.XRayTubeCurrent = "Br59", "500", str(100 + k)
        self._add_what_must_go(header)

    @staticmethod
    def _add_what_must_go(header: Dataset) -> None:
        vr = "SS" if header.PixelRepresentation else "US"
        header.add_new("PixelPaddingValue", vr, 0)
        header.add_new("SmallestImagePixelValue", vr, 0)
        header.add_new("LargestImagePixelValue", vr, 4000)
        header.add_new((0x0009, 0x0010), "LO", "SECRET VENDOR")
        header.add_new((0x0009, 0x1001), "LO", "private: Müller")
        header.add_new((0x6000, 0x3000), "OW", b"\0\0")
        icon = Dataset()
        icon.Rows = icon.Columns = 1
        header.IconImageSequence = [icon]
        header.RequestAttributesSequence = [Dataset()]
        header.BurnedInAnnotation = "NO"


@dataclass(frozen=True)
class Case:
    """Files of one case, and what they hold. folder: the DICOM series of the reference."""

    folder: Path
    reference: Reference
    synthetic: Volume
    mask: Volume
    provenance: Provenance


def make_case(folder: Path, hospital: Hospital | None = None, **changes: object) -> Case:
    """A series in `folder`, and a synthetic CT with other voxels in a box. changes: of `Series`."""
    hospital = hospital or Hospital()
    rng = np.random.default_rng(1)
    hu = rng.integers(-1024, 2000, SHAPE)
    write_series(folder, Series(**{"hu": hu, "edit": hospital.edit, **changes}))
    reference = Reference.read(folder)
    array = reference.volume.array.copy()
    array[BOX] = rng.integers(-1024, 3071, array[BOX].shape)
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:5, 2, 2:4] = 1
    synthetic = reference.volume.with_array(array)
    made = record(reference.volume, synthetic)
    return Case(folder, reference, synthetic, reference.volume.with_array(mask), made)


def exported(case: Case, out: Path, **options: object) -> list[Dataset]:
    """The slices of the exported series, as they are on the disk."""
    prepared = DicomCase.prepare(
        case.synthetic, case.mask, case.provenance, case.reference, DicomOptions(**options)
    )
    export_case(prepared, out)
    return [pydicom.dcmread(path) for path in sorted((out / "ct").iterdir())]


def raw(group: int, element: int, vr: str, value: bytes) -> bytes:
    """An element as explicit VR, little endian has it."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value


def put(header: Dataset, keyword: str, value: bytes, vr: str = "") -> None:
    """Write a value as it is, valid or not. vr: where it is not the dictionary's."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    header[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(value), value, 0, False, True)
    header.set_original_encoding(False, True, header._character_set)  # else it is parsed before it is written
    if "PixelData" in header:
        header["PixelData"].VR = "OW"


def raw_hu(path: Path) -> np.ndarray:
    """(columns, rows) HU of an uncompressed slice, from the tags alone: no reader's code has a part in it."""
    header = pydicom.dcmread(path)
    kind = np.dtype("<i2" if header.PixelRepresentation else "<u2")
    stored = np.frombuffer(header.PixelData, kind, header.Rows * header.Columns)
    hu = stored.reshape(header.Rows, header.Columns).T * float(header.RescaleSlope)
    return hu + float(header.RescaleIntercept)


def dciodvfy_errors(path: Path) -> list[str]:
    """What David Clunie's validator (Debian's dicom3tools) calls an error in a DICOM file.

    But for one: its dictionary is of 2022, and Synthetic Data (0008,001C) is newer.
    """
    program = shutil.which("dciodvfy")
    if program is None:
        missing("dciodvfy (dicom3tools)")
    run = subprocess.run([str(program), str(path)], check=False, capture_output=True)
    said = run.stderr.decode("ascii", "replace")  # it quotes values as they are
    lines = [line for line in said.splitlines() if line.startswith("Error")]
    return [line for line in lines if "(0x0008,0x001c)" not in line]


def missing(program: str) -> None:
    """.ci/run installs it: a fault there, an excuse elsewhere."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{program} is not installed, and CI installs it")
    pytest.skip(f"no data: {program} is not installed")
