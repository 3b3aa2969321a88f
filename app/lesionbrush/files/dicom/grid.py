"""Where the slices of a series lie, from their tags, and whether they are one regular grid.

DICOM counts in LPS mm. The axes are (column, row, slice), slices ascending along the slice normal row x
column, as ITK and Slicer stack them; the affine leads to RAS mm (DICOM PS3.3 equation C.7.6.2.1-1).
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from lesionbrush.core.volume import Array
from lesionbrush.errors import UnsupportedSeries
from lesionbrush.files.dicom.headers import name_of, numbers_of
from lesionbrush.files.geometry import LPS_TO_RAS

_SHEAR_MM = 0.1
_SAME_PLACE_MM = 0.05
_SAME_PLACE_FRACTION = 0.25  # of the largest step: slices of a micro-CT lie nearer than that
_STEP_MM = 0.05
_STEP_FRACTION = 0.01
_DRIFT_MM = 0.1  # what positions rounded to 0.1 mm stray from their grid, at most
_DRIFT_FRACTION = 0.25  # of the spacing: less than a missing slice makes
_ROUNDING_MM = 1e-6
_ROUNDED_COSINES = 2e-3  # in three digits


def sort_slices(headers: list[Dataset]) -> list[Dataset]:
    """Ascending along the slice normal. Raises UnsupportedSeries unless all are slices of one kind."""
    for keyword, count, tolerance in (
        ("Rows", 1, 0), ("Columns", 1, 0), ("PixelSpacing", 2, 1e-4), ("ImageOrientationPatient", 6, 1e-4),
    ):  # fmt: skip
        _require_alike(headers, keyword, count, tolerance)
    normal = _slice_axes(headers[0])[2]
    return sorted(headers, key=lambda header: float(_position(header) @ normal))


def group_by_place(slices: list[Dataset]) -> list[list[Dataset]]:
    """Sorted slices, those at one place together. Raises UnsupportedSeries."""
    along_mm = np.array([_position(header) for header in slices]) @ _slice_axes(slices[0])[2]
    steps_mm = np.diff(along_mm)
    limit_mm = min(_SAME_PLACE_MM, _SAME_PLACE_FRACTION * steps_mm.max(initial=0.0))
    groups = [[slices[0]]]
    for header, step_mm in zip(slices[1:], steps_mm, strict=True):
        if step_mm <= limit_mm:
            groups[-1].append(header)
        else:
            groups.append([header])
    return groups


def step_remark(slices: list[Dataset]) -> str:
    """What there is to say of slices that lie farther apart than their tags let expect, or ""."""
    if len(slices) < 2:
        return ""
    first, second = (_position(header) for header in slices[:2])
    step_mm = float((second - first) @ _slice_axes(slices[0])[2])
    between_mm = _length_mm(slices[0], "SpacingBetweenSlices")
    keyword, most = ("SliceThickness", 1.5) if between_mm is None else ("SpacingBetweenSlices", 1.1)
    said = _length_mm(slices[0], keyword)
    if said is not None and step_mm > most * said:
        return f"slices lie {step_mm:.4g} mm apart, {keyword} is {said:g} mm: some may be missing"
    return ""


def refuse_doubles(doubles: list[list[Dataset]]) -> None:
    """Raise UnsupportedSeries if there are any: different images at one place."""
    if not doubles:
        return
    normal = _slice_axes(doubles[0][0])[2]
    listed = _list_positions(np.array([_position(group[1]) @ normal for group in doubles]))
    raise UnsupportedSeries(
        f"{len(doubles)} slice positions are taken twice (at {listed} mm along the slice normal) by "
        f"different images, as {name_of(doubles[0][0])} and {name_of(doubles[0][1])}: the folder holds "
        "several phases; keep one"
    )


def series_affine(slices: list[Dataset]) -> Array:
    """4x4, voxel index (column, row, slice) -> RAS mm, of sorted slices. Raises UnsupportedSeries."""
    return _affine(slices, _slice_axes(slices[0]))


def _require_alike(headers: list[Dataset], keyword: str, count: int, tolerance: float) -> None:
    values = np.array([numbers_of(header, keyword, count) for header in headers])
    off = np.abs(values - values[0]).max(axis=1)
    if off.max() > tolerance:
        other = int(off.argmax())
        raise UnsupportedSeries(
            f"{keyword} differs between slices: {_text(values[0])} in {name_of(headers[0])}, "
            f"{_text(values[other])} in {name_of(headers[other])}; put slices of one kind into a folder"
        )


def _slice_axes(header: Dataset) -> Array:
    """(3, 3) unit vectors in LPS, one per row: along a row, along a column, slice normal."""
    axes = numbers_of(header, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths, between = np.linalg.norm(axes, axis=1), float(axes[0] @ axes[1])
    if np.abs(lengths - 1).max() > _ROUNDED_COSINES or abs(between) > _ROUNDED_COSINES:
        found = np.round(axes, 4).tolist()
        raise UnsupportedSeries(
            f"{name_of(header)}: ImageOrientationPatient is no pair of perpendicular unit vectors: {found}; "
            "export the series again"
        )
    left, _, right = np.linalg.svd(axes, full_matrices=False)
    along_row, along_column = left @ right  # the nearest pair that is perpendicular to the last digit
    return np.array([along_row, along_column, np.cross(along_row, along_column)])


def _affine(headers: list[Dataset], axes: Array) -> Array:
    positions = np.array([_position(header) for header in headers])
    between_rows_mm, between_columns_mm = numbers_of(headers[0], "PixelSpacing", 2)
    spacing_mm = [between_columns_mm, between_rows_mm, _slice_spacing_mm(headers, positions, axes[2])]
    if min(spacing_mm) <= 0:
        raise UnsupportedSeries(
            f"the voxel spacing is {_text(np.array(spacing_mm))} mm: it must be positive "
            f"({name_of(headers[0])})"
        )
    affine = np.eye(4)
    affine[:3, :3] = axes.T * spacing_mm
    affine[:3, 3] = positions[0]
    return LPS_TO_RAS @ affine


def _slice_spacing_mm(headers: list[Dataset], positions: Array, normal: Array) -> float:
    if len(headers) == 1:
        return _thickness_mm(headers[0])
    along_mm = positions @ normal
    _require_upright(positions - positions[0], normal)
    _require_even(along_mm)
    return float((along_mm[-1] - along_mm[0]) / (len(along_mm) - 1))


def _thickness_mm(header: Dataset) -> float:
    """Of a single slice, which has no neighbour to be measured to. Raises UnsupportedSeries."""
    between_mm = _length_mm(header, "SpacingBetweenSlices")
    return float(numbers_of(header, "SliceThickness", 1)[0]) if between_mm is None else between_mm


def _length_mm(header: Dataset, keyword: str) -> float | None:
    """A length that is stated and positive."""
    try:
        length_mm = float(numbers_of(header, keyword, 1)[0])
    except UnsupportedSeries:
        return None
    return length_mm if length_mm > 0 else None


def _require_upright(offsets: Array, normal: Array) -> None:
    """No gantry tilt: slices are stacked along their own normal."""
    along_mm = offsets @ normal
    sideways_mm = np.linalg.norm(offsets - np.outer(along_mm, normal), axis=1)
    if sideways_mm.max() > _SHEAR_MM + _ROUNDING_MM:
        worst = int(sideways_mm.argmax())
        degrees = np.degrees(np.arctan2(sideways_mm[worst], along_mm[worst]))
        raise UnsupportedSeries(
            f"the slices are shifted sideways by up to {sideways_mm[worst]:.2f} mm, as with a gantry tilt of "
            f"{degrees:.1f} degrees: correct the tilt first (for example with dcm2niix)"
        )


def _require_even(along_mm: Array) -> None:
    """Judged by how far the slices stray from a regular grid: positions are often rounded in the header."""
    steps_mm = np.diff(along_mm)
    usual_mm = float(np.median(steps_mm))
    drift_mm = float(np.abs(along_mm - np.linspace(along_mm[0], along_mm[-1], len(along_mm))).max())
    if drift_mm <= min(_DRIFT_MM, _DRIFT_FRACTION * usual_mm) + _ROUNDING_MM:
        return
    odd = np.flatnonzero(np.abs(steps_mm - usual_mm) > max(_STEP_MM, _STEP_FRACTION * usual_mm))
    if odd.size:
        gaps = ", ".join(f"{along_mm[k]:.2f} to {along_mm[k + 1]:.2f}" for k in odd[:3])
        raise UnsupportedSeries(
            f"the slices are not evenly spaced: usually {usual_mm:.3g} mm apart, but not from {gaps} mm "
            f"along the slice normal ({odd.size} such steps); slices may be missing, copy the series again"
        )
    raise UnsupportedSeries(
        f"the slices are not evenly spaced: from {steps_mm.min():.3g} to {steps_mm.max():.3g} mm apart, "
        f"{drift_mm:.2f} mm off a regular grid"
    )


def _position(header: Dataset) -> Array:
    return numbers_of(header, "ImagePositionPatient", 3)


def _text(values: Array) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _list_positions(positions_mm: Array) -> str:
    shown = ", ".join(f"{position:.2f}" for position in positions_mm[:3])
    return shown + (", ..." if len(positions_mm) > 3 else "")
