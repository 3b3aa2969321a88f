"""What the tests of storage share."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path
from zlib import crc32

import numpy as np
from lesionbrush.core.provenance import MaskStatistics, Provenance
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.storage.accept import AcceptedCase, AcceptedRecord
from lesionbrush.server.storage.cases import Cases
from lesionbrush.server.storage.private import PrivateRoot, close_private_root, private_root
from lesionbrush.server.storage.retention import Bounds
from lesionbrush.server.storage.vault import References
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

REPOSITORY = Path(__file__).resolve().parents[1]
KEPT = Bounds(limit_bytes=10**6, max_age_s=100.0)
APP = REPOSITORY / "app"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ticking() -> Callable[[], float]:
    """A clock that moves by a second whenever it is read."""
    seconds = count(1_000_000_000)
    return lambda: float(next(seconds))


def made_provenance(seed: int = 1) -> Provenance:
    return Provenance(
        model="tiny",
        weights_sha256="1" * 64,
        weights_license="Apache-2.0",
        attribution="none",
        request=SynthesisRequest(seed=seed).model_dump(mode="json"),
        variant=0,
        seed=seed,
        reference_sha256="2" * 64,
        box_offset=(1, 2, 3),
        box_shape=(4, 4, 4),
        voxels_changed=64,
        in_mask=MaskStatistics(voxels=64, mean_hu=0, std_hu=1, p10_hu=-1, p90_hu=1),
        device="cpu",
        seconds={"sample": 1.0},
        created="2026-01-01T00:00:00+00:00",
        versions={"lesionbrush": "0.1.0"},
    )


def made_case(key: str, image: str | None = None, shape: tuple[int, int, int] = (24, 20, 16)) -> AcceptedCase:
    """A CT of noise that depends on the key alone, with a mask of 64 voxels."""
    seed = crc32(key.encode())
    array = np.random.default_rng(seed).integers(-1000, 400, shape, dtype=np.int16)
    mask = np.zeros(shape, np.uint8)
    mask[1:5, 2:6, 3:7] = 1
    affine = np.diag([0.7, 0.7, 1.5, 1.0])
    return AcceptedCase(
        synthetic=Volume(array, affine),
        mask=Volume(mask, affine),
        provenance=made_provenance(seed % 2**31),
        reference_id=f"made from {key}",
        user="reader",
        key=key,
        image=image,
    )


class Folder:
    """Studies without MONAI Label. noticed: the ids that its index was told."""

    def __init__(self, folder: Path) -> None:
        self.private = private_root(folder)
        self.cases = Cases(folder, self.private)
        self.noticed: list[str] = []

    def notice(self, image: str) -> None:
        self.noticed.append(image)


def contents(folder: Path) -> set[str]:
    """What others see in a studies folder: all files but those in the private one and MONAI Label's own."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    hidden = (".lesionbrush", ".lock", "datastore_v2.json")
    return {path.as_posix() for path in files if path.parts[0] not in hidden}


def assert_whole(folder: Path, image: str, case: AcceptedCase) -> None:
    """All three files of a case are there, and are the case's."""
    path, label = folder / f"{image}.nii.gz", folder / "labels" / "final" / f"{image}.nii.gz"
    record = AcceptedRecord.model_validate_json((folder / f"{image}.provenance.json").read_text())
    digests = {
        "image": sha256(path.read_bytes()).hexdigest(),
        "label": sha256(label.read_bytes()).hexdigest(),
    }
    assert record.files_sha256 == digests
    assert record.key_sha256 == sha256(case.key.encode()).hexdigest()
    assert (record.image, record.seed) == (image, case.provenance.seed)
    assert np.array_equal(read_volume(path).array, case.synthetic.array)
    assert np.array_equal(read_volume(label).array, case.mask.array)


def ct_bytes(folder: Path, value: int = -800, suffix: str = ".nii") -> bytes:
    """A small CT as a file; suffix ".nii": 1024 voxels make about 2400 bytes."""
    path = folder / f"made{suffix}"
    array = np.full((16, 8, 8), value, np.int16)
    array[0, 0, 0] = 40
    write_volume(Volume(array, np.eye(4)), path)
    content = path.read_bytes()
    path.unlink()
    return content


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(references: References, content: bytes, format: str = "nii", name: str = "") -> str:
    return references.receive_file(name or sha(content), format, io.BytesIO(content), len(content)).reference


def file_list(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def reopened(root: PrivateRoot) -> PrivateRoot:
    """As after a crash: the lock went with the process."""
    root.close()
    return PrivateRoot(root.path.parent)


def where(studies: Folder) -> Path:
    return studies.cases.folder


def restarted(studies: Folder) -> Folder:
    close_private_root(where(studies))
    return Folder(where(studies))


def assert_nothing_new(studies: Folder, before: set[str]) -> None:
    assert contents(where(studies)) == before
    assert list(studies.private.tmp.iterdir()) == list(studies.private.accepts.iterdir()) == []


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.zeros((2, 2, 2), np.int16), np.eye(4)), path)
