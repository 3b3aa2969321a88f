"""Write a synthetic CT as DICOM: a series, and a SEG of what is where, that say they are synthetic. Or write
generated CTs and the labels beside them as a dataset for nnU-Net."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lesionbrush.cli.files import volume_suffix
from lesionbrush.cli.generate import labels_path
from lesionbrush.cli.options import json_table
from lesionbrush.cli.outputs import check_folder, require_room
from lesionbrush.cohorts.export.layouts import check_name
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom_export.case import CT, SEG, DicomCase, Reference, export_case
from lesionbrush.files.dicom_export.seg import Segments
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.files.nnunet import DatasetCase, write_nnunet
from lesionbrush.files.records import read_record, sidecar_path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("format", choices=["dicom", "nnunet"])
    parser.add_argument(
        "--ct", type=Path, nargs="+", required=True, metavar="FILE",
        help="the synthetic CT; for nnunet as many as there are, each with its labels beside it",
    )  # fmt: skip
    parser.add_argument(
        "--reference", type=Path, metavar="PATH",
        help="the CT it was made from, unless it was generated: the folder of a DICOM series, or a file",
    )  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="FILE", help="the painted lesion, for a SEG")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="what is where in a generated CT, for a SEG"
    )
    parser.add_argument(
        "--label-names", type=json_table, metavar="JSON",
        help='what they mean, {"1": "liver"} or a file; default: what the file says, or the JSON beside it',
    )  # fmt: skip
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
    return (run_nnunet if options.format == "nnunet" else run_dicom)(options)


def run_nnunet(options: Namespace) -> int:
    check_name("nnunet", options.out.name)
    given = (options.reference, options.mask, options.labels, options.label_names, options.provenance)
    if any(given) or options.deidentify or options.uid_key:
        raise InvalidRequest("nnunet: --ct and -o are all that is needed; labels are those beside each CT")
    cases = [DatasetCase(_stem(path), path, labels_path(path)) for path in options.ct]
    for case in cases:
        if not case.labels.is_file():
            raise InvalidRequest(f"{case.labels.name} is missing beside {case.ct.name}: generate writes both")
    numbers = write_nnunet(cases, options.out)
    print(f"{options.out}  ({len(cases)} CTs; {', '.join(f'{n} {name}' for name, n in numbers.items())})")
    return 0


def _stem(path: Path) -> str:
    return path.name[: -len(volume_suffix(path))]


def run_dicom(options: Namespace) -> int:
    if len(options.ct) > 1:
        raise InvalidRequest(f"dicom: {len(options.ct)} CTs were given; a series is made of one")
    (options.ct,) = options.ct
    provenance = record_of(options.ct, options.provenance)
    prepare = _edit if _has_reference(options, provenance) else _generation
    case = prepare(options, provenance, DicomOptions(options.deidentify, Uids(options.uid_key)))
    require_room([options.out], case.series.volume.array.nbytes)
    export_case(case, options.out)
    series = case.series
    print(f"{options.out / CT}  ({len(series.headers)} slices, series {series.series_uid})")
    if case.segments:
        print(options.out / SEG)
    return 0


def record_of(ct: Path, given: Path | None) -> Provenance:
    """How the CT was made. InvalidRequest where nobody knows: such a CT must not get into an archive."""
    path = given or sidecar_path(ct)
    record = read_record(path, ct)
    if record is None:
        raise InvalidRequest(
            f"{path.name} is missing: a synthetic CT goes with the record of how it was made; "
            "name it with --provenance"
        )
    return record


def _has_reference(options: Namespace, provenance: Provenance) -> bool:
    """InvalidRequest for one that is missing or too many, and for voxels of two SEGs."""
    given = options.reference is not None
    if given and not provenance.is_edit:
        raise InvalidRequest("--reference: this CT was generated from none by its record; leave it out")
    if not given and not provenance.generated:
        raise InvalidRequest("--reference is missing: this CT is an edit; name the CT it was made from")
    if options.mask and not provenance.is_edit:
        raise InvalidRequest("--mask: no lesion was painted into this CT; what is where in it are --labels")
    if options.labels and (given or options.mask):
        raise InvalidRequest("--labels: of an edit the SEG holds the painted lesion; give --mask alone")
    if options.label_names and not options.labels:
        raise InvalidRequest("--label-names: these are names of --labels, which are missing")
    return given


def _edit(options: Namespace, provenance: Provenance, wanted: DicomOptions) -> DicomCase:
    reference = Reference.read(options.reference)
    mask = _lesion(options.mask, reference.volume, provenance) if options.mask else None
    return DicomCase.prepare(read_volume(options.ct), mask, provenance, reference, wanted)


def _generation(options: Namespace, provenance: Provenance, wanted: DicomOptions) -> DicomCase:
    ct, segments = read_volume(options.ct), None
    if options.mask:
        segments = Segments.of_lesion(_lesion(options.mask, ct, provenance))
    elif options.labels:
        segments = Segments.of_layout(read_layout(options.labels, options.label_names, "as --label-names"))
    return DicomCase.prepare_generated(ct, segments, provenance, wanted)


def _lesion(mask: Path, ct: Volume, provenance: Provenance) -> Volume:
    return mask_on_grid(read_volume(mask), ct, provenance.request.get("label"))
