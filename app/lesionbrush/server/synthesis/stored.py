"""A result that stays on disk until it is fetched, accepted, discarded, or has had its time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from lesionbrush.core.boxes import bounding_box
from lesionbrush.core.generate import LESION, Generation
from lesionbrush.core.inputs import Layout
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.synthesize import Synthesis
from lesionbrush.core.volume import Array, Volume
from lesionbrush.errors import InvalidRequest
from lesionbrush.server.errors import UnknownReference, naming_full_disk
from lesionbrush.server.jobs.errors import Discarded, Gone, NoLabels
from lesionbrush.server.jobs.job import Outcome, Ticket, Watch
from lesionbrush.server.synthesis.inference import Service, Vault
from lesionbrush.server.synthesis.making import Variant, carry_out
from lesionbrush.server.synthesis.order import Order

BOX_TYPE = np.dtype("<i2")
LESION_FILE = "lesion.npz"


class StoredResult:
    """See `jobs.job.Work`.

    Of variant n there is `<n>.box`, raw int16 with i fastest, and `<n>.json`, the provenance. Of a whole new
    CT also `<n>.grid`, its affine, and where it has labels `<n>.npy` and `<n>.names`; of an edit
    `lesion.npz`, the mask as it was placed on the grid of the CT.
    """

    def __init__(self, service: Service, vault: Vault, order: Order, ident: str) -> None:
        """Holds the uploaded CT until the job is over. Raises UnknownReference, StorageFull."""
        self.service, self.vault, self.ident = service, vault, ident
        self._lock = Lock()
        self._uploaded = order.reference.sha256 if order.reference else None
        if self._uploaded is not None:
            vault.references.hold(self._uploaded)
        self._held = True
        try:
            with naming_full_disk():
                self.order = order.move_to(vault.results.hold(ident))
        except BaseException:
            self.forget()
            raise

    def run(self, device: str, watch: Watch) -> Outcome:
        done = carry_out(self.service, self.order, device, watch)
        folder = self.vault.results.folder(self.ident)
        for path in self.order.files.values():  # nobody asks for them again
            path.unlink(missing_ok=True)
        with naming_full_disk():
            if done.lesion is not None:
                _store_lesion(folder / LESION_FILE, done.lesion.array)
            for number, variant in enumerate(done.variants, 1):
                _store(folder / str(number), variant)
        self._let_go()
        return Outcome(len(done.variants), done.variants[0].provenance.remarks)

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

    def result(self, variant: int) -> Variant:
        """Of an edit with the CT it belongs to.

        Raises Gone, Discarded, UnknownReference (the CT went or changed).
        """
        record, content = self.box(variant)
        box = np.frombuffer(content, BOX_TYPE).reshape(record.box_shape, order="F")
        if self.order.reference is None:
            with self._folder() as folder:
                ct = Volume(box, np.array(json.loads(_bytes(folder / f"{variant}.grid"))))
                return Generation(ct, _layout(folder / str(variant), ct), record)
        reference = self._reference(self.order.reference.path)
        if reference.voxel_sha256 != record.reference_sha256:
            raise UnknownReference("the reference CT has changed since this job: fetch the box instead")
        return Synthesis(reference, box, record.box_offset, record)

    def labels(self, variant: int) -> Layout:
        """What is where in a whole new CT. Raises Gone, Discarded, NoLabels."""
        self.label_names(variant)
        made = self.result(variant)
        assert isinstance(made, Generation)
        assert made.layout is not None
        return made.layout

    def label_names(self, variant: int) -> dict[int, str]:
        """What the values of its labels mean. Raises as `labels`."""
        with self._folder() as folder:
            _bytes(folder / f"{variant}.json")
            names = _part(folder / str(variant), "names")
            if names.exists():
                return _names(names)
        raise NoLabels(
            f"variant {variant} has no labels: a model that makes whole CTs may say what is where in them"
        )

    def final_label(self, variant: Variant) -> tuple[Volume, Mapping[int, str]]:
        """What is labelled in an accepted case, and what its values mean where they are not 0 and 1.

        The lesion, or all labels of a new CT without one. Raises Gone, InvalidRequest.
        """
        if isinstance(variant, Synthesis):
            return self.lesion(variant.reference), {}
        if variant.layout is None:
            raise InvalidRequest(
                "this CT comes without labels, and a case has one: fetch it by GET .../volume instead"
            )
        inside = variant.layout.mask(LESION)
        if not inside.any():
            return variant.layout.labels, variant.layout.names
        return variant.ct.with_array(inside.astype(np.uint8)), {}

    def lesion(self, reference: Volume) -> Volume:
        """Of an edit: the lesion's voxels, 0 and 1, on the grid of the CT. Raises Gone."""
        with self._folder() as folder, np.load(folder / LESION_FILE) as stored:
            array = np.zeros(reference.shape, np.uint8, order="F")
            array[tuple(slice(*ends) for ends in stored["ends"])] = stored["box"]
        return reference.with_array(array)

    def discard(self, variant: int) -> None:
        with self._folder() as folder:
            for path in folder.glob(f"{variant}.*"):
                path.unlink(missing_ok=True)

    def _reference(self, path: Path) -> Volume:
        if self._uploaded is None:
            return self.service.load_ct(path)
        with self.vault.references.using(self._uploaded) as kept:
            return self.service.load_ct(kept)

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
            if self._uploaded is not None:
                self.vault.references.release(self._uploaded)


def ticket_of(service: Service, vault: Vault, order: Order, client: str) -> Ticket:
    """For a job whose result is stored."""
    return Ticket(order.model, client, lambda ident: StoredResult(service, vault, order, ident), order.steps)


def _store(place: Path, variant: Variant) -> None:
    """place: of all its files, but for their suffixes."""
    if isinstance(variant, Generation):
        _part(place, "grid").write_text(json.dumps(variant.ct.affine.tolist()), encoding="utf-8")
        if variant.layout is not None:
            variant.ct.require_same_grid(variant.layout.labels, "layout")
            np.save(_part(place, "npy"), variant.layout.labels.array, allow_pickle=False)
            _part(place, "names").write_text(json.dumps(dict(variant.layout.names)), encoding="utf-8")
    box = variant.ct.array if isinstance(variant, Generation) else variant.box
    _part(place, "box").write_bytes(box.astype(BOX_TYPE, copy=False).tobytes(order="F"))
    _part(place, "json").write_text(variant.provenance.model_dump_json(), encoding="utf-8")


def _layout(place: Path, ct: Volume) -> Layout | None:
    if not _part(place, "npy").exists():
        return None
    labels = np.load(_part(place, "npy"), allow_pickle=False)
    return Layout(ct.with_array(labels), _names(_part(place, "names")))


def _names(path: Path) -> dict[int, str]:
    return {int(number): name for number, name in json.loads(_bytes(path)).items()}


def _store_lesion(path: Path, mask: Array) -> None:
    """Its box alone; ends: (3, 2), where that begins and stops."""
    box = bounding_box(mask)
    np.savez_compressed(path, box=mask[box], ends=[(part.start, part.stop) for part in box])


def _part(place: Path, suffix: str) -> Path:
    return place.with_name(f"{place.name}.{suffix}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Discarded("this variant was discarded") from error
