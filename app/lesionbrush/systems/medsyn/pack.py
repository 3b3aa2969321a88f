"""The training pack of MedSyn: chests laid into one field, with their masks and what was measured in them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.anatomy.chest.lobes import find_carina_mm
from lesionbrush.anatomy.chest.masks import ChestMasks, find_chest_masks
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.boxes import Box, box_of
from lesionbrush.core.hu import round_hu
from lesionbrush.core.roi import Orientation, triangle
from lesionbrush.core.volume import Array, Volume, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume
from lesionbrush.reports.findings import ChestFindings
from lesionbrush.reports.measuring import measure_chest
from lesionbrush.reports.thorax import find_heart
from lesionbrush.systems.medsyn.channels import AIRWAY_BIT, HEART_BIT, VESSEL_BIT
from lesionbrush.systems.medsyn.field import ChestField
from lesionbrush.training.split import VALIDATION_PATIENTS

HIGH = 256
_CT = re.compile(r"(?P<name>(?P<patient>.+?-\d+)\w?)(?P<kind>_1mmxy)?\.nii\.gz")


@dataclass(frozen=True, eq=False)
class PackedChest:
    """hu: int16 and labels: uint8, (256, 256, 256) in the field; bits of a label as in `channels`.

    known: the box of the field that the volume covers; size_mm: of the field, z, y, x.
    """

    patient: str
    hu: Array
    labels: Array
    known: Box
    size_mm: tuple[float, float, float]
    findings: ChestFindings


def lay_out(patient: str, ct: Volume, masks: ChestMasks) -> PackedChest:
    """One chest in its field. Raises NoLungs."""
    turned = Orientation.of(ct.affine)
    spacing_mm = turned.spacing_mm(ct.spacing_mm)
    field = ChestField.around(turned.view(masks.lungs.array), spacing_mm)

    def share(array: Array) -> Array:
        return field.take(turned.view(array > 0), spacing_mm, HIGH, triangle) >= 0.5

    labels = field.take_nearest(turned.view(masks.lobes.labels.array), spacing_mm, HIGH).astype(np.uint8)
    bits = ((AIRWAY_BIT, masks.airways.labels.array), (VESSEL_BIT, masks.vessels.labels.array))
    for bit, mask in (*bits, (HEART_BIT, heart_of(ct, masks))):
        labels[share(mask)] |= np.uint8(bit)
    hu = round_hu(field.take(turned.view(ct.array), spacing_mm, HIGH))
    known = field.known(turned.view(ct.array).shape, spacing_mm, HIGH)
    inside = np.zeros_like(labels)
    inside[known] = labels[known]  # beyond the volume its edge goes on, which is no anatomy
    return PackedChest(patient, hu, inside, known, field.size_mm, measure_chest(ct, masks))


def heart_of(ct: Volume, masks: ChestMasks) -> Array:
    """bool (I, J, K): empty where none is found."""
    grid = CoarseGrid.of(ct)
    carina_mm = find_carina_mm(grid, grid.thin(masks.main_airways.array) > 0)
    found = None if carina_mm is None else find_heart(grid, grid.thin(masks.lungs.array), carina_mm)
    return np.zeros(ct.shape, bool) if found is None else grid.spread(found.mask, ct.shape)


def write_chests(data: Path, path: Path) -> None:
    """Build the pack from the data folder. InvalidRequest when no CT with a mask of its lungs is there."""
    arrays: dict[str, np.ndarray] = {}
    facts = []
    for k, (patient, ct, lungs) in enumerate(tqdm(list(_files(data)), desc="chests", unit="chest")):
        volume = require_ct(read_volume(ct))
        chest = lay_out(patient, volume, find_chest_masks(volume, read_volume(lungs)))
        arrays |= {f"hu_{k}": chest.hu, f"labels_{k}": chest.labels}
        known = [[part.start, part.stop] for part in chest.known]
        said = {"patient": patient, "known": known, "size_mm": chest.size_mm}
        facts.append({**said, "findings": chest.findings.model_dump(mode="json")})
    if not facts:
        raise InvalidRequest(
            f"{data} holds no chest_ct/NAME.nii.gz with NAME_lungs.nii.gz beside it: point --data at some"
        )
    np.savez(path, facts=np.array(json.dumps(facts)), **arrays)


def read_chests(path: Path, *, validation: bool, without: Collection[str] = ()) -> list[PackedChest]:
    """One side of the split. without: patients that are not wanted, such as those of another licence.

    InvalidRequest when no patient is on it, and for one in `without` that is not there.
    """
    with np.load(path) as file:
        facts = json.loads(str(file["facts"]))
        patients = [one["patient"] for one in facts]
        if strange := [name for name in without if name not in patients]:
            raise InvalidRequest(f"--without {strange[0]}: no such patient; there are {', '.join(patients)}")
        found = [
            PackedChest(
                one["patient"],
                file[f"hu_{k}"],
                file[f"labels_{k}"],
                _box(one["known"]),
                tuple(one["size_mm"]),
                ChestFindings.model_validate(one["findings"]),
            )
            for k, one in enumerate(facts)
            if (one["patient"] in VALIDATION_PATIENTS) == validation and one["patient"] not in without
        ]
    if not found:
        side = "held-out" if validation else "training"
        raise InvalidRequest(f"{path} has no {side} chest: delete it and add patients to the data")
    return found


def _box(bounds: list[list[int]]) -> Box:
    return box_of((low, high) for low, high in bounds)


def _files(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Patient, CT, lungs."""
    for path in sorted((data / "chest_ct").glob("*.nii.gz")):
        found = _CT.fullmatch(path.name)
        if found is None:
            continue
        lungs = path.with_name(f"{found['name']}_lungs{found['kind'] or ''}.nii.gz")
        if lungs.is_file():
            yield found["patient"], path, lungs
