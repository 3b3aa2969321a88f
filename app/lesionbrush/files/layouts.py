"""Layouts: a label volume, and what its labels are called.

The names stand in the file itself (a segmentation that 3D Slicer saved as NRRD), or in a JSON table beside
it: `body.json` or `body_labels.json` for `body.nii.gz`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.labels import is_label_map
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, InvalidRequest
from lesionbrush.files.durable import whole_files
from lesionbrush.files.io import read_volume, require_writable, write_stored
from lesionbrush.files.itk import segment_names, write_itk
from lesionbrush.files.records import stem_of
from lesionbrush.files.terminology import name_without_code

Names = dict[int, str]
_MOST_LABEL = np.iinfo(np.uint16).max
_SURELY_FEW = 256  # different numbers: a CT that counts from 0 has more
_MOST_TEXT_BYTES = 1 << 20
_GOLDEN_RATIO = 0.618034  # hues that far apart stay different however many there are
_REPRESENTATION = "Binary labelmap"


def read_layout(path: Path, names: Path | str | None = None, names_as: str = "with it") -> Layout:
    """names: a JSON table, or a file with one, that counts whatever else there is; names_as: how to send it.

    Raises as `read_volume` does, and InvalidRequest (no names, two that differ, no labels).
    """
    labels = _labels_of(read_volume(path), path.name)
    if names is not None:
        return Layout(labels, _table(read_text(names) if isinstance(names, Path) else names))
    known = _names_with(path)
    if not known:
        raise InvalidRequest(
            f"{path.name} does not say what its labels mean: send a table of names {names_as}, such as "
            '{"1": "liver"}'
        )
    return Layout(labels, known)


def _labels_of(volume: Volume, name: str) -> Volume:
    """The volume in whole numbers, which some programs store as float. InvalidRequest for a CT."""
    labels = volume
    if volume.array.dtype.kind not in "iu":
        with np.errstate(invalid="ignore"):
            labels = volume.with_array(volume.array.astype(np.int32))
        if not np.array_equal(labels.array, volume.array):
            raise InvalidRequest(f"{name} holds {volume.array.dtype} values; labels are whole numbers")
    lowest, highest = (int(value) for value in labels.value_range)
    few = lowest >= 0 and (highest < _SURELY_FEW or np.unique(labels.array).size <= _SURELY_FEW)
    if not few and not is_label_map(labels):
        raise InvalidRequest(
            f"{name} looks like a CT: it holds values from {lowest} to {highest}, and neighbours differ; a "
            "layout is a label volume of organs, the same whole number all over each"
        )
    if lowest < 0:
        raise InvalidRequest(f"{name} holds the label {lowest}; labels are 1 and above, and 0 is nothing")
    return labels


def write_layout(layout: Layout, path: Path, note: str = "") -> Path:
    """Write the labels (uint8 or uint16), and their names into a JSON table beside them, both or neither.

    A .nrrd also says the names as 3D Slicer reads them; it opens .seg.nrrd as a segmentation at once. Returns
    the path of the table. Raises as `write_volume` does, and InvalidRequest (labels without a name, or none
    of 0 to 65535).
    """
    require_writable(path)
    layout.require_named()
    labels, table = layout.labels, tables_beside(path)[0]
    lowest, highest = (int(value) for value in labels.value_range)
    if lowest < 0 or highest > _MOST_LABEL:
        raise InvalidRequest(
            f"labels from {lowest} to {highest}: those of 0 to {_MOST_LABEL} are written; number them anew"
        )
    stored = labels.with_array(labels.array.astype(np.uint8 if highest < 256 else np.uint16))
    text = json.dumps({str(number): name for number, name in sorted(layout.names.items())}, indent=2)
    with whole_files(table, path, needs=f"{stored.array.nbytes / 1e6:.1f} MB") as (names, draft):
        names.write_text(text + "\n", encoding="utf-8")
        if draft.suffix == ".nrrd":
            write_itk(stored, draft, note, _segment_fields(layout))
        else:
            write_stored(stored, draft, note)
    return table


def read_text(path: Path) -> str:
    """In UTF-8. Raises InvalidRequest (too long), DamagedFile."""
    if not path.is_file():
        raise DamagedFile(f"{path.name[:80]}: there is no such file")
    try:
        if path.stat().st_size > _MOST_TEXT_BYTES:
            raise InvalidRequest(f"{path.name} has more than {_MOST_TEXT_BYTES} bytes, too many for a text")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path.name} cannot be read as a text in UTF-8") from error


def _names_with(path: Path) -> Names:
    """In the file, and beside it. InvalidRequest where they differ: nobody knows which are older."""
    known, source = segment_names(path), path
    for beside in filter(Path.is_file, tables_beside(path)):
        try:
            table = _table(read_text(beside))
        except InvalidRequest as error:
            raise InvalidRequest(f"{beside.name}, beside {path.name}: {error}") from error
        for number in sorted(set(known) & set(table)):
            if known[number] != table[number]:
                raise InvalidRequest(
                    f"label {number} is {known[number]!r} in {source.name}, and {table[number]!r} in "
                    f"{beside.name}: remove the table that is wrong, or send the right one"
                )
        known, source = {**table, **known}, source if known else beside
    return known


def tables_beside(path: Path) -> list[Path]:
    """Where the names of a label volume may be; the first is where they are written."""
    stem = stem_of(path)
    stem = stem[: -len(".seg")] if stem.lower().endswith(".seg") else stem
    return [path.with_name(f"{stem}{ending}") for ending in (".json", "_labels.json")]


def _table(text: str) -> Names:
    """{"1": "liver"} or {"liver": 1}. InvalidRequest for anything else."""
    try:
        pairs = [_read_label(key, value) for key, value in json.loads(text).items()]
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f'the names of labels {text[:40]!r} are no JSON table such as {{"1": "liver"}}'
        ) from error
    table = dict(pairs)
    if len(table) < len(pairs):
        raise InvalidRequest(f"the names of labels {text[:40]!r} call one label by two names")
    return {number: name_without_code(name) for number, name in table.items()}


def _read_label(key: str, value: object) -> tuple[int, str]:
    """A label and its name, whichever comes first. ValueError for what is neither."""
    number, name = (key, value) if isinstance(value, str) else (value, key)
    if isinstance(number, (bool, float)) or not str(name).strip():
        raise ValueError(f"{key!r}: {value!r}")
    return int(str(number)), str(name).strip()


def _segment_fields(layout: Layout) -> dict[str, str]:
    """What 3D Slicer writes into the header of a segmentation."""
    fields = {
        "Segmentation_MasterRepresentation": _REPRESENTATION,
        "Segmentation_ContainedRepresentationNames": f"{_REPRESENTATION}|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    labels = sorted((label, name) for label, name in layout.names.items() if label > 0)
    for number, (label, name) in enumerate(labels):
        fields |= {f"Segment{number}_{key}": value for key, value in _segment(layout, label, name)}
    return fields


def _segment(layout: Layout, label: int, name: str) -> Iterator[tuple[str, str]]:
    colour = hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.6, 0.9)
    yield "ID", f"Segment_{label}"
    yield "Name", " ".join(name.split())
    yield "NameAutoGenerated", "0"
    yield "LabelValue", str(label)
    yield "Layer", "0"
    yield "Color", " ".join(f"{part:.4f}" for part in colour)
    yield "ColorAutoGenerated", "1"
    yield "Extent", " ".join(f"0 {length - 1}" for length in layout.labels.shape)
    yield "Tags", ""
