"""A job whose result stays on disk until it is fetched, accepted, discarded, or has had its time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.request import BaseRequest, EditRequest
from lesionbrush.core.synthesize import Synthesis
from lesionbrush.core.volume import Volume, mask_on_grid
from lesionbrush.files.io import read_volume
from lesionbrush.server.errors import UnknownReference, naming_full_disk
from lesionbrush.server.jobs.errors import Discarded, Gone
from lesionbrush.server.jobs.job import Outcome, Watch
from lesionbrush.server.synthesis.inference import Job, Service, Vault, stored_ct, synthesized

BOX_TYPE = np.dtype("<i2")


@dataclass(frozen=True)
class Asked:
    """What a client asks for, checked. reference: hash of an uploaded CT; image: a stored CT, id and file.

    One of the two is None. mask, inputs: files that the job may take away.
    """

    model: str
    request: BaseRequest
    mask: Path
    reference: str | None
    image: tuple[str, Path] | None
    inputs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def reference_id(self) -> str:
        return self.image[0] if self.image else str(self.reference)

    def digest(self) -> str:
        """Of all that was asked for, the bytes of the mask and of the inputs included."""
        parts = (
            self.model,
            self.request.model_dump_json(),
            self.reference or "",
            self.image and self.image[0],
        )
        files = [("mask", self.mask), *sorted(self.inputs.items())]
        contents = [(name, sha256(path.read_bytes()).hexdigest()) for name, path in files]
        return sha256(f"{parts} {contents}".encode()).hexdigest()


class Kept:
    """See `jobs.job.Work`. Results: `<n>.box`, raw int16 with i fastest, and `<n>.json`, the provenance."""

    def __init__(self, service: Service, vault: Vault, asked: Asked, ident: str) -> None:
        """Holds the uploaded CT until the job is over. Raises UnknownReference, StorageFull."""
        self.service, self.vault, self.asked, self.ident = service, vault, asked, ident
        self._lock = Lock()
        path = vault.references.hold(asked.reference) if asked.reference else None
        self._held = True
        try:
            with naming_full_disk():
                folder = vault.results.hold(ident)
                self.mask = Path(shutil.move(asked.mask, folder / asked.mask.name))
                self.inputs: dict[str, Path] = {
                    name: Path(shutil.move(path, folder / path.name)) for name, path in asked.inputs.items()
                }
        except BaseException:
            self.forget()
            raise
        self.path = path or (asked.image[1] if asked.image else Path())

    def run(self, device: str, watch: Watch) -> Outcome:
        folder = self.vault.results.folder(self.ident)
        job = Job(self.asked.model, self.path, True, self.mask, self.asked.request, folder, None, self.inputs)
        syntheses, _ = synthesized(self.service, job, device, watch)
        for path in self.inputs.values():  # nobody asks for them again; their hashes are in the record
            path.unlink(missing_ok=True)
        with naming_full_disk():
            self._store(folder, syntheses)
        self._let_go()
        return Outcome(len(syntheses), syntheses[0].provenance.remarks)

    def forget(self) -> None:
        self._let_go()
        self.vault.results.drop(self.ident)

    def provenance(self, variant: int) -> Provenance:
        """Raises Gone, Discarded."""
        with self._folder() as folder:
            return Provenance.model_validate_json(_bytes(folder / f"{variant}.json"))

    def box(self, variant: int) -> tuple[Provenance, bytes]:
        """The changed voxels as they are sent. Raises Gone, Discarded."""
        with self._folder() as folder:
            record = Provenance.model_validate_json(_bytes(folder / f"{variant}.json"))
            return record, _bytes(folder / f"{variant}.box")

    def synthesis(self, variant: int) -> Synthesis:
        """With the CT it belongs to. Raises Gone, Discarded, UnknownReference (the CT went or changed)."""
        record, content = self.box(variant)
        reference = self._reference()
        if reference.voxel_sha256 != record.reference_sha256:
            raise UnknownReference("the reference CT has changed since this job: fetch the box instead")
        box = np.frombuffer(content, BOX_TYPE).reshape(record.box_shape, order="F")
        return Synthesis(reference, box, record.box_offset, record)

    def lesion(self, synthesis: Synthesis) -> Volume:
        """The lesion's voxels, 0 and 1, on the grid of the CT. Raises Gone."""
        with self._folder():
            mask = read_volume(self.mask)
        request = self.asked.request
        assert isinstance(request, EditRequest)
        return mask_on_grid(mask, synthesis.reference, request.label)

    def discard(self, variant: int) -> None:
        with self._folder() as folder:
            for suffix in ("box", "json"):
                (folder / f"{variant}.{suffix}").unlink(missing_ok=True)

    def _reference(self) -> Volume:
        if self.asked.reference is None:
            return stored_ct(self.service, self.path)
        with self.vault.references.using(self.asked.reference) as path:
            return stored_ct(self.service, path)

    def _store(self, folder: Path, syntheses: Sequence[Synthesis]) -> None:
        for variant, synthesis in enumerate(syntheses, 1):
            content = synthesis.box.astype(BOX_TYPE, copy=False).tobytes(order="F")
            (folder / f"{variant}.box").write_bytes(content)
            (folder / f"{variant}.json").write_text(synthesis.provenance.model_dump_json(), encoding="utf-8")

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        if not self.vault.results.has(self.ident):
            raise Gone("the result was kept for its time and is gone: submit the job again")
        with self.vault.results.using(self.ident) as folder:
            yield folder

    def _let_go(self) -> None:
        """The CT and the result may go when their time comes; once is enough."""
        with self._lock:
            held, self._held = self._held, False
        if held:
            self.vault.results.release(self.ident)
            if self.asked.reference is not None:
                self.vault.references.release(self.asked.reference)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Discarded("this variant was discarded") from error
