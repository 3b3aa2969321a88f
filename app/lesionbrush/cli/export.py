"""Write a synthetic CT and its mask as DICOM: a series and a SEG that say they are synthetic."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pydantic import ValidationError

from lesionbrush.cli.outputs import check_folder, require_room
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import mask_on_grid
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom_export.case import CT, SEG, DicomCase, Reference, export_case
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.files.io import read_volume
from lesionbrush.files.records import sidecar_path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("format", choices=["dicom"])
    parser.add_argument("--ct", type=Path, required=True, metavar="FILE", help="the synthetic CT")
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="PATH",
        help="the CT it was made from: the folder of a DICOM series, or a file",
    )  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="FILE", help="the painted lesion, for a SEG")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder that is new")
    parser.add_argument("--provenance", type=Path, metavar="JSON", help="default: the one beside the CT")
    parser.add_argument(
        "--deidentify", action="store_true", help="a study of its own without patient, place and dates"
    )
    parser.add_argument(
        "--uid-key", metavar="TEXT", help="the same CT and TEXT give the same UIDs (default: random UIDs)"
    )


def run(options: Namespace) -> int:
    check_folder(options.out, new=True)
    provenance = record_of(options.ct, options.provenance)
    wanted = DicomOptions(options.deidentify, Uids(options.uid_key))
    reference = Reference.read(options.reference)
    require_room([options.out], reference.volume.array.nbytes)
    mask = None
    if options.mask:
        mask = mask_on_grid(read_volume(options.mask), reference.volume, provenance.request.get("label"))
    case = DicomCase.prepare(read_volume(options.ct), mask, provenance, reference, wanted)
    export_case(case, options.out)
    series = case.series
    print(f"{options.out / CT}  ({len(series.headers)} slices, series {series.series_uid})")
    if mask:
        print(options.out / SEG)
    return 0


def record_of(ct: Path, given: Path | None) -> Provenance:
    """How the CT was made. InvalidRequest where nobody knows: such a CT must not get into an archive."""
    path = given or sidecar_path(ct)
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidRequest(
            f"{path.name} is missing: a synthetic CT goes with the record of how it was made; "
            "name it with --provenance"
        ) from error
    except ValidationError as error:
        raise InvalidRequest(f"{path.name} is no provenance record of LesionBrush") from error
