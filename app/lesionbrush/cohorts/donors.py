"""Where lesions come from that are carried into other patients: a mask, or a folder of cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.files.records import stem_of
from lesionbrush.transfer.hosts import HostPatient
from lesionbrush.transfer.patients import SourcePatient

MASK, ORGANS, CT = "mask", "organs", "ct"


@dataclass(frozen=True)
class SourceCase:
    """One patient with lesions. names: a JSON table of what the organs' labels mean, None for the file's own;
    ct: for the picture alone. label: which one of the mask is the lesion.
    """

    name: str
    mask: Path
    organs: Path | None = None
    names: Path | str | None = None
    ct: Path | None = None
    label: int | None = None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.mask, self.organs, self.names, self.ct) if isinstance(path, Path)]

    def read(self) -> tuple[SourcePatient, Volume | None]:
        """Its lesions and organs, and its CT where there is one. Raises as reading and `mask_on_grid` do."""
        organs = None if self.organs is None else read_layout(self.organs, self.names)
        mask = read_volume(self.mask)
        lesions = mask_on_grid(mask, mask if organs is None else organs.labels, self.label)
        ct = None if self.ct is None else read_volume(self.ct)
        if ct is not None:
            lesions.require_same_grid(ct, "CT of the source")
        return SourcePatient(lesions, organs), ct


def find_sources(
    source: Path, organs: Path | None, names: Path | str | None, ct: Path | None, label: int | None
) -> list[SourceCase]:
    """Of a mask, or of a folder: itself or each folder in it has a mask.*, and perhaps organs.* and ct.*.

    organs, names, ct: of a mask; of a folder of cases only `names`, which then counts for all of them.
    Raises InvalidRequest.
    """
    if not source.is_dir():
        if not source.is_file():
            raise InvalidRequest(f"{source.name}: there is no such mask, and no such folder of cases")
        return [SourceCase(stem_of(source), source, organs, names, ct, label)]
    if organs or ct:
        raise InvalidRequest(
            "--source-organs and --source-ct belong to a single mask; in a folder of cases each has its own, "
            f"called {ORGANS}.nii.gz and {CT}.nii.gz"
        )
    folders = [source] if _find_volume(source, MASK) else sorted(filter(_is_case, source.iterdir()))
    cases = [_case_in(folder, names, label) for folder in folders]
    if not cases:
        raise InvalidRequest(f"{source.name} has no folder in it: a case is a folder with {MASK}.nii.gz")
    return cases


def _is_case(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _case_in(folder: Path, names: Path | str | None, label: int | None) -> SourceCase:
    mask, organs, ct = (_find_volume(folder, name) for name in (MASK, ORGANS, CT))
    if mask is None:
        raise InvalidRequest(f"{folder.name} has no {MASK}.nii.gz: a case is a folder with one; move it away")
    return SourceCase(folder.name, mask, organs, names if organs else None, ct, label)


def _find_volume(folder: Path, name: str) -> Path | None:
    """InvalidRequest where there are two, of which nobody knows which one counts."""
    found = list(_volumes(folder, name))
    if len(found) > 1:
        raise InvalidRequest(
            f"{folder.name} has {found[0].name} and {found[1].name}: keep the one that counts"
        )
    return found[0] if found else None


def _volumes(folder: Path, name: str) -> Iterator[Path]:
    for path in sorted(folder.glob(f"{name}.*")):
        if path.is_file() and path.name != stem_of(path) in (name, f"{name}.seg"):
            yield path


def read_host(ct: Volume, organs: Layout, lesions: Path | None, into: str | None) -> HostPatient:
    """The patient that lesions go into. Raises GeometryMismatch unless all lie on the grid of the CT."""
    ct.require_same_grid(organs.labels, "layout of the organs")
    there = None if lesions is None else mask_of_any(read_volume(lesions), ct)
    return HostPatient.of(organs, there, into)


def mask_of_any(mask: Volume, ct: Volume) -> Volume | None:
    """All labels of a mask as one on the grid of a CT; None where it is empty."""
    inside = mask.with_array(mask.array > 0)
    return mask_on_grid(inside, ct) if inside.array.any() else None
