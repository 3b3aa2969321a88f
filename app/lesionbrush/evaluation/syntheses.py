"""Syntheses for an evaluation, kept on disk: a second run with the same weights asks the model nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lesionbrush.core.model import Model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.engines.choice import choose_engine
from lesionbrush.evaluation.cases import Nodule
from lesionbrush.files.durable import whole_files
from lesionbrush.systems import DEFAULT_SYSTEM, find_system, system_folder
from lesionbrush.systems.lesion_inpainting.request import Attributes, SynthesisRequest


@dataclass(frozen=True, eq=False)
class MadeVariants:
    """What came of one request: HU on the grid of the CT per variant, and seconds per variant."""

    arrays: tuple[np.ndarray, ...]
    seconds: float


class Maker:
    """Asks the model, or its own folder if it has asked the same before."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, ct: Volume, mask: Volume, request: EditRequest) -> MadeVariants:
        """Every variant of a request; see `synthesize` for what it raises."""
        path = self.folder / f"{self._key(ct, mask, request)}.npz"
        if not path.exists():
            self._ask(ct, mask, request, path)
        with np.load(path) as file:
            boxes, offset, seconds = file["boxes"], file["offset"], float(file["seconds"])
        return MadeVariants(tuple(_put(ct.array, box, offset) for box in boxes), seconds)

    def one(
        self, nodule: Nodule, attributes: Attributes, seed: int = 0, *, draw_shape: bool = False
    ) -> np.ndarray:
        """HU of the crop with the nodule made anew; a real nodule's outline has its lobes already.

        What is under the mask is the real nodule, so that ground glass must not be given its vessels.

        A system that takes no attributes is asked for what it makes of the mask.
        """
        if (system := self.model.card.system) == DEFAULT_SYSTEM:
            request: EditRequest = SynthesisRequest(
                attributes=attributes, seed=seed, draw_shape=draw_shape, keep_vessels=False
            )
        else:
            other = find_system(system).request.model_validate({"seed": seed})
            assert isinstance(other, EditRequest)
            request = other
        return self.make(nodule.case.crop, nodule.case.mask, request).arrays[0]

    def all(
        self, nodules: Sequence[Nodule], attributes: Sequence[Attributes], title: str
    ) -> list[np.ndarray]:
        """One synthesis per nodule, with a progress bar."""
        pairs = tqdm(list(zip(nodules, attributes, strict=True)), desc=title, unit="lesion")
        return [self.one(nodule, asked) for nodule, asked in pairs]

    def _ask(self, ct: Volume, mask: Volume, request: EditRequest, path: Path) -> None:
        made = synthesize(ct, mask, request, self.model)
        seconds = sum(made[0].provenance.seconds.values()) / len(made)
        boxes, offset = np.stack([synthesis.box for synthesis in made]), np.array(made[0].offset)
        with whole_files(path) as (draft,):
            np.savez_compressed(draft, boxes=boxes, offset=offset, seconds=seconds)

    def _key(self, ct: Volume, mask: Volume, request: EditRequest) -> str:
        digest = hashlib.sha256()
        for part in (
            _code_of(self.model.card.system),
            str(choose_engine(_device_type(self.model))),
            ",".join(sorted(getattr(self.model, "laws", ()))),
            self.model.card.model_dump_json(exclude=SAID_ONLY),
            request.model_dump_json(),
            ct.voxel_sha256,
        ):
            digest.update(part.encode())
        digest.update(np.round(ct.affine, 4).tobytes())
        digest.update(np.packbits(np.ascontiguousarray(mask.array > 0)).tobytes())
        return digest.hexdigest()[:32]


def _device_type(model: Model) -> str:
    device = getattr(model, "device", None)
    return "cpu" if device is None else str(device.type)


SAID_ONLY = {
    *("title", "makes", "attribution", "trained", "training_data", "split", "figures", "limits"),
    "recommended",
}
"""What a card says without any voxel depending on it."""

PACKAGE = Path(__file__).resolve().parents[1]
MAKING = ("core", "diffusion", "engines", "anatomy", "systems/running.py", "systems/contract.py")
"""What turns weights into voxels beside a system's own folder, below the package."""


def code_digest(system: Path, package: Path = PACKAGE) -> str:
    """SHA-256 of all code in a system's folder and of `MAKING`: other code, other syntheses.

    FileNotFoundError when there is none: it would be the same whatever is changed.
    """
    digest = hashlib.sha256()
    for root in (system, *(package / part for part in MAKING)):
        files = [root] if root.is_file() else sorted(root.rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"{root} holds no Python files: syntheses depend on its code")
        for file in files:
            digest.update(f"{file.relative_to(root.parent).as_posix()} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _code_of(system: str) -> str:
    return code_digest(system_folder(system))


def _put(array: np.ndarray, box: np.ndarray, offset: np.ndarray) -> np.ndarray:
    out = array.copy(order="K")
    out[tuple(slice(o, o + n) for o, n in zip(offset, box.shape, strict=True))] = box
    return out
