"""The variants of one answer: one volume node shows them all, and each may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..client.boxes import Box
from ..client.orders import GeneratedCT, Labels
from .compose import checked_base, haste, new_synthetic, restore_box, synthetic_name, write_box
from .files import save_volume
from .problems import BrokenBox, NoSuchVariant, OtherReference
from .thumbnails import thumbnail
from .voxels import Grid
from .whole import as_boxes, common_grid, labels_of, remove_labels, show_labels

NEAR_MM = 100.0
NEW, ACCEPTED, SAVED, DISCARDED = "new", "accepted", "saved", "discarded"


@dataclass
class Variant:
    """One result. number: the server's, from 1; state: new, accepted, saved or discarded."""

    number: int
    count: int
    box: Box
    provenance: dict[str, Any]
    labels: Labels | None = None
    state: str = NEW
    image_id: str | None = None
    kept: str | None = field(default=None, repr=False)  # ID of the node of its own

    @property
    def seed(self) -> int:
        return int(self.provenance.get("seed", 0))

    @property
    def title(self) -> str:
        """`variant 3 of 3, seed 9, quick look (fast)`: how it is called in lists."""
        number = f"variant {self.number} of {self.count}" if self.count > 1 else ""
        return ", ".join(part for part in (number, f"seed {self.seed}", haste(self.provenance)) if part)


class Variants:
    """All variants of one answer. `node` holds the one at hand.

    Switching writes only the box, so ten variants of a CT take the memory of one.
    """

    def __init__(self, scene: Any, reference: Any, grid: Grid, variants: list[Variant]) -> None:
        """See `of_edit` and `of_volumes`."""
        self.scene, self.grid, self._list = scene, grid, variants
        self.reference_id = reference.GetID() if reference is not None else ""
        self.node_id: str | None = None
        self._shown: int | None = None  # what the shared node holds
        self.index = 0
        self._lesion_ijk: Sequence[float] | None = None
        self._reference_boxes: list[np.ndarray] = []

    @classmethod
    def of_edit(
        cls,
        scene: Any,
        reference: Any,
        boxes: Sequence[Box],
        provenances: Sequence[dict[str, Any]],
        lesion_ijk: Sequence[float] | None = None,
    ) -> Variants:
        """Main thread. lesion_ijk: the middle of what was painted, in voxels of the reference, where known.

        Raises OtherReference, BrokenBox, NotACT before anything is made.
        """
        results = _results(boxes, provenances, [None] * len(boxes))
        base = checked_base(reference, boxes)
        made = cls(scene, reference, Grid.of(reference), results)
        made._lesion_ijk, made._reference_boxes = lesion_ijk, _parts(base, boxes)
        made._write()
        return made

    @classmethod
    def of_volumes(
        cls, scene: Any, volumes: Sequence[GeneratedCT], provenances: Sequence[dict[str, Any]]
    ) -> Variants:
        """Main thread. Whole new CTs, made from no other. Raises BrokenBox before anything is made."""
        results = _results(as_boxes(volumes), provenances, [volume.labels for volume in volumes])
        made = cls(scene, None, common_grid(volumes), results)
        made._write()
        return made

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: int) -> Variant:
        if not 0 <= index < len(self._list):
            raise NoSuchVariant(f"there is no variant {index + 1}: this answer has {len(self._list)}")
        return self._list[index]

    @property
    def current(self) -> Variant:
        return self[self.index]

    @property
    def node(self) -> Any:
        """The volume that shows the variant at hand; None once the user has deleted it."""
        return self.scene.GetNodeByID(self.current.kept or self.node_id or "")

    @property
    def reference(self) -> Any:
        return self.scene.GetNodeByID(self.reference_id)

    @property
    def left(self) -> list[int]:
        """Indices of the variants that were not discarded."""
        return [index for index, variant in enumerate(self._list) if variant.state != DISCARDED]

    def show(self, index: int) -> Any:
        """Bring a variant to hand; its node. Raises NoSuchVariant for a discarded one."""
        variant = self[index]
        if variant.state == DISCARDED:
            raise NoSuchVariant(f"variant {variant.number} was discarded: choose another one")
        self.index = index
        if variant.kept and self.node is None:  # the user deleted it
            variant.kept = None
        if not variant.kept and (self.node is None or self._shown != index):
            self._write()
        return self.node

    def next(self) -> Any:
        return self._step(1)

    def previous(self) -> Any:
        return self._step(-1)

    def keep(self) -> Any:
        """The variant at hand as a node that stays; the next variant shown gets another node."""
        if self.current.kept is None:
            if self.node is None:
                self._write()
            self.current.kept, self.node_id, self._shown = self.node_id, None, None
        return self.node

    def keep_if_used(self, *nodes: Any) -> None:
        """What the user works on, as a reference or in its labels, must not change with the variants."""
        shown = self.node
        mine = {id(node) for node in (shown, labels_of(shown)) if node} if shown is not None else set()
        if mine & {id(node) for node in nodes}:
            self.keep()

    def accept(self, index: int, image_id: str) -> Any:
        """The server has it now."""
        node = self.show(index) and self.keep()
        self.current.state, self.current.image_id = ACCEPTED, image_id
        return node

    def save(self, index: int, path: Path) -> list[Path]:
        """Write the variant and its record beside it; returns both paths. Raises CannotSave."""
        node = self.show(index)
        written = save_volume(node, path, self.current.provenance)
        self.keep()
        if self.current.state == NEW:
            self.current.state = SAVED
        return written

    def discard(self, index: int) -> Any | None:
        """Forget a variant; shows a neighbour, whose node is returned, or None when none is left.

        A node made by `keep` for it stays: the user deletes it like any other.
        """
        variant = self[index]
        variant.state = DISCARDED
        if not self.left:
            self.remove_node()
            return None
        if index == self.index:
            return self.next()
        return self.node

    def thumbnail(self, index: int, size_px: int = 96) -> np.ndarray:
        """(size_px, size_px, 3) uint8: the axial slice through the lesion, front up.

        All of a small box; of one with both lungs, what lies around the lesion.
        """
        box = self[index].box
        if self._lesion_ijk is None:
            return thumbnail(
                box.array.transpose(2, 1, 0), self.grid.part(box.offset, box.array.shape), size_px
            )
        at, half = np.array(self._lesion_ijk) - box.offset, NEAR_MM / 2 / self.grid.spacing_mm
        shape = np.array(box.array.shape)
        first = np.floor(at - half).astype(int).clip(0, shape - 1)
        end = (np.ceil(at + half).astype(int) + 1).clip(first + 1, shape)
        i, j, k = first + box.offset
        part = box.array[tuple(slice(start, stop) for start, stop in zip(first, end))]
        around = self.grid.part((int(i), int(j), int(k)), part.shape)
        return thumbnail(part.transpose(2, 1, 0), around, size_px, at - first)

    def remove_node(self) -> None:
        """Take the shared node out of the scene; kept ones stay."""
        node = self.scene.GetNodeByID(self.node_id or "")
        self.node_id = None
        if node is not None:
            remove_labels(self.scene, node)
            self.scene.RemoveNode(node)

    def _step(self, by: int) -> Any:
        if not self.left:
            raise NoSuchVariant("all variants were discarded: synthesize again")
        count = len(self._list)
        order = [(self.index + by * distance) % count for distance in range(1, count + 1)]
        return self.show(next(index for index in order if index in self.left))

    def _take_back(self) -> None:
        """Make the shared node the plain reference again, before another variant goes in."""
        if self._shown is not None and self._reference_boxes:
            shared = self.scene.GetNodeByID(self.node_id)
            restore_box(shared, self[self._shown].box, self._reference_boxes[self._shown])
        self._shown = None

    def _write(self) -> None:
        if self.scene.GetNodeByID(self.node_id or "") is None:
            self.node_id = new_synthetic(self.scene, self.reference, self.grid, self._base()).GetID()
            self._shown = None
        self._take_back()
        node, variant = self.scene.GetNodeByID(self.node_id), self.current
        node.SetName(synthetic_name(variant.provenance))
        write_box(node, variant.box, variant.provenance)
        show_labels(self.scene, node, variant.labels)
        self._shown = self.index

    def _base(self) -> np.ndarray:
        """(k, j, i) what the box at hand goes into."""
        if not self.reference_id:
            return np.zeros(self.grid.shape_ijk[::-1], np.int16)
        if self.reference is None:
            raise OtherReference(
                "the CT of this result was removed from the scene: load it and synthesize again"
            )
        return checked_base(self.reference, [self.current.box])


def _results(
    boxes: Sequence[Box], provenances: Sequence[dict[str, Any]], labels: Sequence[Labels | None]
) -> list[Variant]:
    if not boxes or len(boxes) != len(provenances):
        raise BrokenBox(
            f"the answer holds {len(boxes)} results and {len(provenances)} records: synthesize again"
        )
    rows = enumerate(zip(boxes, provenances, labels), 1)
    return [Variant(n, len(boxes), box, dict(record), known) for n, (box, record, known) in rows]


def _parts(base_kji: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
    """Copies of the reference under each box; boxes in the same place, which may be large, share one."""
    copies = {(box.offset, box.array.shape): box for box in boxes}
    parts = {place: np.array(_part(base_kji, box)) for place, box in copies.items()}
    return [parts[box.offset, box.array.shape] for box in boxes]


def _part(base_kji: np.ndarray, box: Box) -> np.ndarray:
    i, j, k = box.place
    return base_kji[k, j, i]
