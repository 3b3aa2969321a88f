"""Errors the caller can do something about.

`str(error)` is shown to the user as it is: it says what was wrong, with the value, and what to do.
`code` is the stable name a program can act on; the server chooses the HTTP status at its edge.
"""

from __future__ import annotations

from typing import ClassVar


class LesionBrushError(Exception):
    """Base of every error this package raises on purpose."""

    code: ClassVar[str] = "error"


class InvalidRequest(LesionBrushError):
    """An unknown parameter, or a value outside its range."""

    code = "invalid_request"


class GeometryMismatch(LesionBrushError):
    """Two volumes that should share a grid do not."""

    code = "geometry_mismatch"


class EmptyMask(LesionBrushError):
    """The lesion mask has no voxel."""

    code = "empty_mask"


class NoLungs(LesionBrushError):
    """Nothing in the CT looks like lung."""

    code = "no_lungs"


class AmbiguousMask(LesionBrushError):
    """The lesion mask holds several labels and none was chosen, or values that are no labels."""

    code = "ambiguous_mask"


class NotACT(LesionBrushError):
    """The reference is not a CT volume in Hounsfield units."""

    code = "not_a_ct"


class DamagedFile(LesionBrushError):
    """A file that is truncated, unreadable, or holds NaN."""

    code = "damaged_file"


class UnsupportedSeries(LesionBrushError):
    """A DICOM series whose slices are no regular grid (gantry tilt, gaps, several series in one folder)."""

    code = "unsupported_series"


class UnknownModel(LesionBrushError):
    """No installed model has this name."""

    code = "unknown_model"


class WeightsError(LesionBrushError):
    """The weights are missing, or are not the ones the card names."""

    code = "weights_error"


class StorageFull(LesionBrushError):
    """The disk is full; nothing was written."""

    code = "storage_full"


class Cancelled(LesionBrushError):
    """The caller asked to stop."""

    code = "cancelled"
