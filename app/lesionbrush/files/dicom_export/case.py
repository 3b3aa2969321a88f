"""One synthetic case as a folder of DICOM files: the series, a SEG of what is where, and its record.

Nothing is written that would be wrong: an edit has to be its reference but for the voxels its record counts,
a generation to be one by its record, and what was written has to read back the same before it gets its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.volume import Array, Volume, mask_on_grid, require_ct
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.dicom import read_dicom_series, read_slices
from lesionbrush.files.dicom_export.seg import Segments, make_seg, read_seg
from lesionbrush.files.dicom_export.series import (
    CtSeries,
    DicomOptions,
    SyntheticSeries,
    Uids,
    as_file,
    derive_series,
    make_right_handed,
)
from lesionbrush.files.durable import new_folder
from lesionbrush.files.io import read_volume

CT, SEG, RECORD = "ct", "seg", "provenance.json"
_GRID_VOXELS = 0.01
_WHOLE_TURN = 1e-3
_SAME_PLACE_MM = 1e-4


@dataclass(frozen=True, eq=False)
class Reference:
    """The CT a synthetic one is made from. slices: its DICOM headers, sorted; None: it was no DICOM."""

    volume: Volume
    slices: list[Dataset] | None = None

    @classmethod
    def read(cls, path: Path) -> Reference:
        """A folder with one series, or a file. Raises what `read_volume` and `require_ct` raise."""
        return cls(require_ct(read_volume(path)), read_slices(path) if path.is_dir() else None)

    @property
    def series_uid(self) -> str:
        return str(self.slices[0].get("SeriesInstanceUID", "")) if self.slices else ""


@dataclass(frozen=True, eq=False)
class DicomCase:
    """What is exported: checked, and ready to be written. segments: on the grid of the series."""

    series: SyntheticSeries
    segments: Segments | None
    uids: Uids

    @classmethod
    def prepare(
        cls,
        synthetic: Volume,
        mask: Volume | None,
        provenance: Provenance,
        reference: Reference,
        options: DicomOptions | None = None,
    ) -> DicomCase:
        """An edit, beside its reference. mask: the lesion alone, whatever its label.

        Raises InvalidRequest (not what the record says), GeometryMismatch, NotACT, and for the mask what
        `mask_on_grid` raises.
        """
        options = options or DicomOptions()
        synthetic = on_grid_of(reference.volume, require_ct(synthetic))
        require_promise(synthetic, provenance, reference.volume)
        segments = Segments.of_lesion(mask_on_grid(mask, reference.volume)) if mask else None
        uids = _of_this_case(options.uids, synthetic, reference.series_uid, options.deidentify)
        series = derive_series(synthetic, provenance, reference.slices, replace(options, uids=uids))
        return cls(series, segments, uids)

    @classmethod
    def prepare_generated(
        cls,
        ct: Volume,
        segments: Segments | None,
        provenance: Provenance,
        options: DicomOptions | None = None,
    ) -> DicomCase:
        """A generation, or an edit of one, as a new patient.

        Raises InvalidRequest (not what the record says, nobody to de-identify), GeometryMismatch, NotACT.
        """
        require_generated(ct, provenance)
        if options is not None and options.deidentify:
            raise InvalidRequest("this CT was generated and shows nobody: leave out what takes names away")
        return cls.prepare_alone(ct, segments, provenance, options)

    @classmethod
    def prepare_alone(
        cls,
        ct: Volume,
        segments: Segments | None,
        provenance: Provenance,
        options: DicomOptions | None = None,
    ) -> DicomCase:
        """A study of its own for what has no reference, or was checked when it was made.

        Raises GeometryMismatch, NotACT.
        """
        options, ct = options or DicomOptions(), require_ct(ct)
        if segments is not None:
            segments = replace(segments, labels=on_grid_of(ct, segments.labels, "label volume"))
        uids = _of_this_case(options.uids, ct, "", options.deidentify)
        return cls(derive_series(ct, provenance, None, replace(options, uids=uids)), segments, uids)

    def write(self, folder: Path) -> list[Path]:
        """Write `ct/*.dcm`, `seg/00001.dcm` and the record into a folder, and read them back.

        The paths of the DICOM files: the CT's slices, then the SEG. Raises DamagedFile, OSError.
        """
        paths = write_series(self.series, folder / CT)
        if self.segments is not None:
            paths.append(self._write_seg(self.segments, folder / SEG))
        record = self.series.provenance.model_dump_json(indent=2)
        (folder / RECORD).write_text(record + "\n", encoding="utf-8")
        return paths

    def _write_seg(self, segments: Segments, folder: Path) -> Path:
        folder.mkdir()
        path = folder / "00001.dcm"
        as_file(make_seg(self.series, segments, self.uids)).save_as(path, write_like_original=False)
        written = read_seg(path, self.series.volume, self.series.headers)
        _require_same(written, replace(make_right_handed(segments.labels), affine=written.affine))
        return path


def write_series(series: CtSeries, folder: Path) -> list[Path]:
    """Its files in a folder that is new, read back. Raises DamagedFile, OSError."""
    folder.mkdir(parents=True)
    paths = series.write(folder)
    _require_same(read_dicom_series(folder), series.volume)
    return paths


def export_case(case: DicomCase, out: Path) -> None:
    """Write a case to a new folder, all or nothing.

    Raises InvalidRequest (it exists), StorageFull, DamagedFile.
    """
    with new_folder(out) as draft:
        case.write(draft)


def on_grid_of(reference: Volume, volume: Volume, what: str = "synthetic CT") -> Volume:
    """The same voxels counted along the axes of the reference, where both stand on one grid.

    A CT that went through another program often comes back with an axis turned. Raises GeometryMismatch.
    """
    turn = np.linalg.inv(reference.affine[:3, :3]) @ volume.affine[:3, :3]
    whole = np.rint(turn).astype(int)
    if np.allclose(turn, whole, atol=_WHOLE_TURN) and np.array_equal(whole @ whole.T, np.eye(3)):
        volume = _turn(volume, whole)
    reference.require_same_grid(volume, what, _GRID_VOXELS)
    return reference.with_array(volume.array)


def _turn(volume: Volume, whole: Array) -> Volume:
    """whole: (3, 3) signed permutation, from this volume's axes to the wanted ones."""
    order = np.abs(whole).argmax(axis=1).tolist()
    back = [int(whole[axis, own]) < 0 for axis, own in enumerate(order)]
    affine = volume.affine[:, [*order, 3]].copy()
    for axis, own in enumerate(order):
        if back[axis]:
            affine[:3, 3] += affine[:3, axis] * (volume.shape[own] - 1)
            affine[:3, axis] *= -1
    array = np.flip(volume.array.transpose(order), [axis for axis in range(3) if back[axis]])
    return Volume(array, affine)


def require_promise(synthetic: Volume, provenance: Provenance, reference: Volume) -> None:
    """InvalidRequest unless the synthetic CT is this reference but for the voxels its record says.

    The record's hash is of the stored order; a reference in another order is known by its voxels.
    """
    if not provenance.is_edit:
        raise InvalidRequest("this CT was generated from none by its record: export it without a reference")
    changed = int(np.count_nonzero(synthetic.array != reference.array))
    if changed != provenance.voxels_changed:
        raise InvalidRequest(
            f"the synthetic CT differs from this reference in {changed} voxels, its record says "
            f"{provenance.voxels_changed}: give the CT it was made from, and its own provenance"
        )
    if provenance.reference_sha256 == reference.voxel_sha256:
        box = tuple(slice(o, o + n) for o, n in zip(provenance.box_offset, provenance.box_shape, strict=True))
        inside = int(np.count_nonzero(synthetic.array[box] != reference.array[box]))
        if inside != changed:
            raise InvalidRequest(f"{changed - inside} voxels differ outside the box its record names")


def require_generated(ct: Volume, provenance: Provenance) -> None:
    """InvalidRequest unless the record says that no voxel is of a patient, and is of such a CT."""
    if not provenance.generated:
        raise InvalidRequest("this CT is an edit by its record: name the CT it was made from as reference")
    if not provenance.is_edit and sorted(ct.shape) != sorted(provenance.box_shape):
        own, recorded = (" x ".join(map(str, shape)) for shape in (ct.shape, provenance.box_shape))
        raise InvalidRequest(
            f"this CT is {own} voxels, its record is of one of {recorded}: give its own provenance"
        )


def _of_this_case(uids: Uids, synthetic: Volume, original: str, deidentify: bool) -> Uids:
    """A key is a namespace: under it, other voxels or another original still get other UIDs."""
    if uids.key is None:
        return uids
    parts = (uids.key, synthetic.voxel_sha256, original, deidentify)
    return Uids("|".join(map(str, parts)))


def _require_same(found: Volume, meant: Volume) -> None:
    same_voxels = np.array_equal(found.array, meant.array)
    if not same_voxels or not np.allclose(found.affine, meant.affine, rtol=0, atol=_SAME_PLACE_MM):
        what = "place" if same_voxels else "voxels"
        raise DamagedFile(f"the written DICOM files read back with other {what}; nothing was kept")
