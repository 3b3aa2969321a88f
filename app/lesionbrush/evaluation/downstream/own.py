"""A user's own lesions: a raw dataset of nnU-Net v2, split by patient."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from lesionbrush.anatomy.lungs import segment_lungs
from lesionbrush.core.boxes import Box, bounding_box, dilate
from lesionbrush.core.volume import Volume, require_ct
from lesionbrush.errors import InvalidRequest, LesionBrushError, NoLungs
from lesionbrush.evaluation.card_figures import Case
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.evaluation.downstream.clear import clear_boxes
from lesionbrush.evaluation.downstream.data import DownstreamData, Say
from lesionbrush.evaluation.downstream.samples import (
    LUNG_WINDOW_HU,
    SHAPE,
    SIDE,
    SOFT_WINDOW_HU,
    LesionBox,
)
from lesionbrush.evaluation.hosts import Host
from lesionbrush.files.io import read_volume
from lesionbrush.files.nnunet_raw import RawCase, RawDataset, find_raw_dataset
from lesionbrush.systems.lesion_inpainting.request import Attributes

HELD_OUT, LEAST_PATIENTS = 0.25, 4
CLEAR_PER_CT, MOST_HOSTS = 8, 8
"""Boxes without a lesion of each, and whole CTs in memory."""
LEAST_MM3, WIDEST_MM = 14.0, float(SHAPE[1])
"""A ball of 3 mm, and the side of what a network sees."""
AROUND_MM = SIDE / 2 + 4.0
OPEN = Attributes(texture=None)
"""What no reader has said is left to the model."""


@dataclass(frozen=True)
class OwnLabels:
    """lesion, organ: names of labels; patient: an expression whose first group in a case's name is its
    patient. None: the only label, the lungs as they are found, and each case a patient of its own."""

    lesion: str | None = None
    organ: str | None = None
    patient: str | None = None

    def __post_init__(self) -> None:
        if self.patient is None:
            return
        try:
            groups = re.compile(self.patient).groups
        except re.error as error:
            raise InvalidRequest(f"--patient {self.patient}: {error}") from error
        if not groups:
            raise InvalidRequest(
                f"--patient {self.patient}: write a group around the patient, such as (P[0-9]+)"
            )

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def lesion_of(self, dataset: RawDataset) -> str:
        if self.lesion is None and len(dataset.labels) != 1:
            names = ", ".join(dataset.labels) or "none"
            raise InvalidRequest(f"labels of {dataset.folder.name} are {names}: say which by --lesion NAME")
        return self.lesion or next(iter(dataset.labels))

    def patient_of(self, name: str) -> str:
        if self.patient is None:
            return name
        found = re.search(self.patient, name)
        if found is None or found.group(1) is None:
            raise InvalidRequest(f"--patient {self.patient} finds no patient in {name}")
        return found.group(1)


def read_own(folder: Path, labels: OwnLabels, count: int = 0, say: Say = lambda line: None) -> DownstreamData:
    """Every CT once. count: lesions of either side at most, 0 for all.

    InvalidRequest for a folder, a label or a split that will not do, before a CT is read; what the readers
    of files raise, with the case.
    """
    reader = OwnReader(find_raw_dataset(folder), labels)
    tested, rng = reader.choose_tested(), np.random.default_rng(0)
    found: dict[bool, list[Nodule]] = {False: [], True: []}
    clear: dict[bool, list[LesionBox]] = {False: [], True: []}
    hosts: list[Host] = []
    for case in tqdm(reader.cases, desc="CTs", unit="CT"):
        held_out = reader.patients[case.name] in tested
        ct, lesions = reader.read(case)
        found[held_out] += reader.split_up(case, ct, lesions)
        for host in reader.host(case, ct, lesions):
            clear[held_out] += clear_boxes(host, reader.patients[case.name], CLEAR_PER_CT, rng)
            hosts += [host] if not held_out and len(hosts) < MOST_HOSTS else []
    for remark in reader.remarks:
        say(remark)
    training, held = (_some(found[side], count) for side in (False, True))
    window = LUNG_WINDOW_HU if labels.organ is None else SOFT_WINDOW_HU
    return DownstreamData(training, held, hosts, clear[False], clear[True], window)


class OwnReader:
    """What is in the files. remarks: what was left out, and why."""

    def __init__(self, dataset: RawDataset, labels: OwnLabels) -> None:
        self.cases = dataset.cases
        self.patients = {case.name: labels.patient_of(case.name) for case in dataset.cases}
        self.lesion = np.array(sorted(dataset.values(labels.lesion_of(dataset), "--lesion")))
        organ = None if labels.organ is None else dataset.values(labels.organ, "--organ")
        self.organ = None if organ is None else np.array(sorted(organ))
        self.small = self.wide = 0
        self.without_lungs: list[str] = []

    @property
    def remarks(self) -> Iterator[str]:
        if self.small:
            yield f"lesions below {LEAST_MM3:g} mm3, left out: {self.small}"
        if self.wide:
            yield f"lesions wider than {WIDEST_MM:g} mm, which no box holds, left out: {self.wide}"
        if self.without_lungs:
            yield f"no lungs found in {', '.join(self.without_lungs)}: no place for made lesions there"

    def choose_tested(self) -> set[str]:
        """A quarter of the patients with lesions, and of those without. Reads labels alone."""
        having: dict[str, bool] = {}
        for case in tqdm(self.cases, desc="labels", unit="CT"):
            patient = self.patients[case.name]
            there = bool(np.isin(_read(case.labels, case).array, self.lesion).any())
            having[patient] = having.get(patient, False) or there
        if sum(having.values()) < LEAST_PATIENTS:
            raise InvalidRequest(
                f"{sum(having.values())} patients with lesions: a split by patient needs {LEAST_PATIENTS}"
            )
        return {name for with_lesion in (True, False) for name in _quarter(having, with_lesion)}

    def read(self, case: RawCase) -> tuple[Volume, Volume]:
        """The CT and its labels. GeometryMismatch and NotACT, with the case, where they are none."""
        labels = _read(case.labels, case)
        try:
            ct = require_ct(read_volume(case.ct))
            ct.require_same_grid(labels, "labels")
        except LesionBrushError as error:
            raise type(error)(f"{case.name}: {error}") from error
        return ct, ct.with_array(labels.array)

    def split_up(self, case: RawCase, ct: Volume, labels: Volume) -> Iterator[Nodule]:
        """Each lesion in a crop of its own, and what is beside it."""
        lesions = np.isin(labels.array, self.lesion)
        numbered, _ = ndimage.label(lesions, np.ones((3, 3, 3)))
        spacing_mm = np.array(ct.spacing_mm)
        for number, box in enumerate(ndimage.find_objects(numbered), start=1):
            volume_mm3 = np.count_nonzero(numbered[box] == number) * ct.voxel_volume_mm3
            extent_mm = [(part.stop - part.start) * mm for part, mm in zip(box, spacing_mm, strict=True)]
            if volume_mm3 < LEAST_MM3 or max(extent_mm) > WIDEST_MM:
                self.small += volume_mm3 < LEAST_MM3
                self.wide += volume_mm3 >= LEAST_MM3
                continue
            around = dilate(box, AROUND_MM, spacing_mm, ct.shape)
            crop = ct.crop(around)
            crop = crop.with_array(crop.array.copy(order="K"))
            mask = crop.with_array((numbered[around] == number).astype(np.uint8))
            one = Case(f"{case.name} {number}", crop, mask, OPEN)
            others = lesions[around] & (mask.array == 0)
            yield Nodule(one, self.patients[case.name], {}, others if others.any() else None)

    def host(self, case: RawCase, ct: Volume, labels: Volume) -> list[Host]:
        """The part of a CT around its organ; none where there is none."""
        try:
            organ = self._organ(ct, labels)
        except NoLungs:
            self.without_lungs.append(case.name)
            return []
        if not organ.any():
            return []
        box = dilate(bounding_box(organ), AROUND_MM, np.array(ct.spacing_mm), ct.shape)
        part = ct.crop(box)
        part = part.with_array(part.array.copy(order="K"))
        inside, lesions = (_mask(part, array, box) for array in (organ, np.isin(labels.array, self.lesion)))
        return [Host(case.name, part, inside, (lesions,) if lesions.array.any() else ())]

    def _organ(self, ct: Volume, labels: Volume) -> np.ndarray:
        if self.organ is None:
            lungs: np.ndarray = segment_lungs(ct).array > 0
            return lungs
        return np.isin(labels.array, self.organ)


def _mask(part: Volume, array: np.ndarray, box: Box) -> Volume:
    return part.with_array(array[box].astype(np.uint8))


def _read(path: Path, case: RawCase) -> Volume:
    try:
        return read_volume(path)
    except LesionBrushError as error:
        raise type(error)(f"{case.name}: {error}") from error


def _quarter(having: Mapping[str, bool], with_lesion: bool) -> list[str]:
    patients = sorted(name for name, there in having.items() if there == with_lesion)
    order = np.random.default_rng(0).permutation(len(patients))
    count = round(HELD_OUT * len(patients))
    return [patients[k] for k in order[:count]]


def _some(lesions: Sequence[Nodule], count: int) -> list[Nodule]:
    """From large to small, spread over the sizes."""
    ordered = sorted(lesions, key=lambda one: -np.count_nonzero(one.inside) * one.case.mask.voxel_volume_mm3)
    if not ordered:
        raise InvalidRequest("the lesions of one side of the split are all left out: too small or too wide")
    if not count or count >= len(ordered):
        return ordered
    return [ordered[k] for k in np.linspace(0, len(ordered) - 1, count).round().astype(int)]
