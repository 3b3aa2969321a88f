"""What the module refuses, in words for the user. No MRML, no Qt."""

from __future__ import annotations


class Problem(Exception):
    """A refusal. code: a stable name; message (and str): what was wrong and what to do, shown as it is."""

    code = "problem"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotReady(Problem):
    """Something has to be chosen or painted first."""

    code = "not_ready"


class NotACT(Problem):
    """The chosen volume holds no HU."""

    code = "not_a_ct"


class EmptyMask(Problem):
    """No voxel of the CT is painted."""

    code = "empty_mask"


class OutsideLung(Problem):
    """The crosshair is not in lung."""

    code = "outside_lung"


class OutsideOrgan(Problem):
    """The crosshair is not in the chosen segment, or too near its border."""

    code = "outside_organ"


class OtherReference(Problem):
    """The result belongs to other voxels than those of the chosen CT."""

    code = "other_reference"


class BrokenBox(Problem):
    """The part that came back does not fit the CT."""

    code = "broken_box"


class NoSuchVariant(Problem):
    """There is no such variant, or it was discarded."""

    code = "no_such_variant"


class NoLayout(Problem):
    """The comparison has no views to be shown in."""

    code = "no_layout"


class CannotSave(Problem):
    """A file could not be written; nothing half-written is left."""

    code = "cannot_save"
