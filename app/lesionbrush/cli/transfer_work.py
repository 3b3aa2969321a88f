"""The work of `transfer`: one case after another, each carried, painted by a model, drawn and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lesionbrush.cli.files import number_paths
from lesionbrush.cli.progress import StepBar
from lesionbrush.cli.transfer_sheet import picture
from lesionbrush.cli.transfer_table import RECORD, TransferRecord, TransferRow, summarise
from lesionbrush.cohorts.donors import SourceCase
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import InstalledModel, list_models
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.durable import new_folder
from lesionbrush.files.io import write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.systems import load_model
from lesionbrush.transfer.hosts import HostPatient
from lesionbrush.transfer.limits import CarryLimits
from lesionbrush.transfer.names import OrganName
from lesionbrush.transfer.patients import Attempt, carry_all
from lesionbrush.transfer.results import Carried

MODELS = {
    "lung": "lung_lesion",
    **dict.fromkeys(("liver", "spleen", "kidney", "muscle", "fat"), "soft_tissue_lesion"),
}
"""Which model makes lesions in an organ, by a word of the organ's name, unless one is asked for."""
MASK, CT, PICTURE = "mask.nii.gz", "ct.nii.gz", "montage.png"


def model_for(organ: str) -> str | None:
    """The installed model that makes lesions there, None where there is none."""
    installed, words = {model.card.name for model in list_models()}, OrganName.of(organ).organ
    return next((MODELS[word] for word in words if MODELS.get(word) in installed), None)


@dataclass
class Painter:
    """A model with what it is asked, made ready when it is first used."""

    installed: InstalledModel
    request: EditRequest
    inputs: Inputs
    device: str | None
    _model: Any = None

    @property
    def name(self) -> str:
        return self.installed.card.name

    def paint(self, ct: Volume, mask: Volume, made_from: Provenance | None) -> list[Synthesis]:
        if self._model is None:
            self._model = load_model(self.installed, self.device)
        with StepBar() as bar:
            return synthesize(
                ct, mask, self.request, self._model, self.inputs, made_from=made_from, on_step=bar
            )

    def says(self) -> list[object]:
        """What its results depend on."""
        weights = self.installed.card.weights_sha256
        return [self.name, weights, self.request.model_dump(mode="json"), self.inputs.voxel_sha256()]


@dataclass(frozen=True, kw_only=True)
class TransferWork:
    """What is the same for every case. painters: by the name of a model; named: the one that was asked for,
    None for that of the organ; paints: whether CTs are wanted.
    """

    out: Path
    ct: Volume
    made_from: Provenance | None
    host: HostPatient
    limits: CarryLimits
    seed: int
    painters: Mapping[str, Painter] = field(default_factory=dict)
    named: str | None = None
    paints: bool = True

    @property
    def asked(self) -> str:
        """A digest of all that the results depend on, but for the source."""
        host = self.host
        said = [
            *(self.ct.voxel_sha256, self.ct.affine.round(4).tolist(), host.organs.voxel_sha256),
            *(sha256(host.taken.tobytes()).hexdigest(), asdict(self.limits), self.seed, host.into),
            *(self.named, [painter.says() for _, painter in sorted(self.painters.items())]),
        ]
        return sha256(json.dumps(said).encode()).hexdigest()

    def find_pending(self, sources: Sequence[SourceCase]) -> list[SourceCase]:
        """Those without a folder in `out`. Raises InvalidRequest for a folder that is another's."""
        return [source for source in sources if not self._is_done(source)]

    def _is_done(self, source: SourceCase) -> bool:
        folder = self.out / source.name
        if not folder.exists():
            return False
        if not (folder / RECORD).is_file():
            raise InvalidRequest(
                f"{source.name} in {self.out.name} is no case of run.py transfer: choose another folder"
            )
        record = TransferRecord.read(folder / RECORD)
        if (record.asked, record.source) != (self.asked, _digest_of(source)):
            raise InvalidRequest(
                f"{source.name} in {self.out.name} was made from other files or with other options, and is "
                "not overwritten: choose another folder"
            )
        return True

    def carry_out(self, source: SourceCase) -> tuple[TransferRow, ...]:
        """Read, carry, paint, draw, keep. Raises LesionBrushError, OSError; then nothing of it is there."""
        patient, source_ct = source.read()
        draws = [
            self.seed,
            *(int(v.voxel_sha256[:8], 16) for v in (patient.lesions, self.host.organs.labels)),
        ]
        attempts = list(carry_all(patient, self.host, self.limits, np.random.default_rng(draws)))
        mask = self._join(attempts)
        painter = self._painter_of(source.name, attempts)
        made = [] if painter is None or mask is None else painter.paint(self.ct, mask, self.made_from)
        model = painter.name if made and painter else ""
        rows = tuple(TransferRow.of(source.name, attempt, model) for attempt in attempts)
        with new_folder(self.out / source.name) as draft:
            TransferRecord(self.asked, _digest_of(source), rows).write(draft / RECORD)
            if mask is not None:
                write_volume(mask, draft / MASK)
                _save(made, draft)
                title = f"{source.name}: {summarise(rows)}" + (f"; {model}" if model else "")
                drawn = made[0].volume() if made else None
                sheet = picture(title, (patient, source_ct), (self.ct, self.host.organs), attempts, drawn)
                sheet.save(draft / PICTURE, optimize=True)
        for remark in dict.fromkeys(remark for one in made for remark in one.provenance.remarks):
            print(f"{source.name}: {remark}", file=sys.stderr)
        return rows

    def _join(self, attempts: Sequence[Attempt]) -> Volume | None:
        """All carried lesions as one mask on the grid of the CT."""
        masks = [one.result.mask.array for one in attempts if isinstance(one.result, Carried)]
        if not masks:
            return None
        joined = np.zeros(self.ct.shape, np.uint8)
        for mask in masks:
            joined |= mask
        return self.ct.with_array(joined)

    def _painter_of(self, case: str, attempts: Sequence[Attempt]) -> Painter | None:
        if self.named is not None:
            return self.painters[self.named]
        organs = list(dict.fromkeys(_carried_into(attempts)))
        names = {model_for(organ) for organ in organs}
        if not self.paints or not organs:
            return None
        if None in names or len(names) > 1:
            print(
                f"{case}: no one model is known for lesions in {', '.join(organs)}, so the mask alone is "
                "written: name a model with --model",
                file=sys.stderr,
            )
            return None
        return self.painters[str(names.pop())]


def _carried_into(attempts: Sequence[Attempt]) -> Iterator[str]:
    for attempt in attempts:
        if isinstance(attempt.result, Carried) and attempt.into is not None:
            yield attempt.into


def _save(made: Sequence[Synthesis], folder: Path) -> None:
    for synthesis, path in zip(made, number_paths(folder / CT, len(made)), strict=True):
        write_volume(synthesis.volume(), path, synthesis.provenance.note)
        write_sidecar(synthesis.provenance, path)


def _digest_of(source: SourceCase) -> str:
    found = sha256(str(source.label).encode())
    for path in source.files:
        found.update(path.read_bytes() if path.is_file() else path.name.encode())
    return found.hexdigest()
