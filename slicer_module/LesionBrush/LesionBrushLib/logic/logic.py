"""All the module does in the scene, behind one door. No Qt: the widget calls this, and so do the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np

from ..client.answers import Take
from ..client.boxes import Box
from ..client.orders import GeneratedCT
from .choices import chosen_reference, chosen_segment, crosshair, missing
from .compare import ORIENTATIONS, Comparison
from .compose import difference
from .editing import (
    Proposal,
    new_segment,
    new_segmentation,
    place,
    to_volume_space,
    to_world,
)
from .layout import LAYOUT_ID, WINDOWS, WINDOWS_OF, Window, register, windows_for
from .marks import Marks
from .masks import segment_centre
from .outline import give_back
from .paint_only import LIKE, PaintOnly, choose, chosen_organ, paint_only, tissue_at
from .parameters import Parameters
from .problems import NoSuchVariant, NotReady
from .propose import Wish, propose
from .scene_watch import SceneWatch
from .shipment import PaintedShipment, Shipment
from .steering import exported, missing_inputs
from .surroundings import Surroundings, surroundings
from .variants import Variants
from .voxels import Grid, hu_array
from .whole import pair


class LesionBrushLogic:
    """One scene. on_change(what) says what to look at again: "comparison", "variants", "scene", "marks".

    save_undo: called once before each edit of the user's segmentation; the widget gives the Segment Editor's.
    """

    def __init__(self, scene: Any, application_logic: Any = None) -> None:
        self.scene, self.application_logic = scene, application_logic
        self.on_change: Callable[[str], None] = lambda what: None
        self.save_undo: Callable[[], None] = lambda: None
        self.variants: Variants | None = None
        self.parameters = Parameters(scene)
        self.comparison = Comparison(
            scene, application_logic, lambda: self._changed("comparison"), self._remember_views
        )
        self.marks = Marks(scene, self.comparison.original, lambda: self.on_change("marks"))
        register(scene)
        self._watch = SceneWatch(scene, self)
        self._watch.follow(self.parameters.node, self.chosen_anew)

    def close(self) -> None:
        """The module goes: no observer, no helper node and no foreign layout is left."""
        self._watch.stop()
        self.comparison.leave()
        self.marks.detach_all()

    # what to work on

    def ready(self, takes: Sequence[Take] = (), whole: bool = False, needs_mask: bool = True) -> list[str]:
        """What is missing before a synthesis, as sentences. takes: what the model takes beside CT and mask;
        whole: it makes whole new CTs; needs_mask: it edits under a mask alone."""
        return missing(self.parameters, whole, needs_mask) + missing_inputs(self.parameters, takes)

    def ensure_segmentation(self) -> Any:
        """The chosen segmentation, or a new one on the grid of the CT with one empty segment."""
        chosen = self.parameters
        reference = self._reference()
        if chosen.segmentation is None:
            chosen.segmentation = new_segmentation(self.scene, reference)
        if not self._segment():
            chosen.segment_id = new_segment(chosen.segmentation)
        return chosen.segmentation

    def paint_in(self, kind: str, segment_id: str = "", ras_mm: Sequence[float] | None = None) -> None:
        """Where the brush may paint, one of paint_only.KINDS; of LIKE: like the tissue at the crosshair, or
        at a point of the world. Raises NotReady, NotACT, and then all stays as it was.
        """
        if kind == LIKE:
            reference = self._reference()
            level_hu, width_hu = tissue_at(reference, self._point(reference, ras_mm))
            self.parameters.like_hu, self.parameters.like_width_hu = level_hu, width_hu
        choose(self.parameters, kind, segment_id)

    def paint_only(self) -> PaintOnly:
        """What the Segment Editor is to be told of it."""
        return paint_only(self.parameters)

    def propose(
        self, size_mm: float, seed: int, shape: str = "lobulated", ras_mm: Sequence[float] | None = None
    ) -> Proposal:
        """Make a lesion at the crosshair (or at a point of the world); one undo state.

        It is cut to the lung, or to the segment the brush is held to, a little inside its border.

        It fills the chosen segment when that is empty or holds an untouched proposal, else a new one: what
        the user painted stays. Raises OutsideLung, OutsideOrgan, NotReady, NotACT.
        """
        reference = self._reference()
        point = self._point(reference, ras_mm)
        wish, organ = Wish(size_mm, seed, shape), chosen_organ(self.parameters)
        lesion = propose(hu_array(reference), Grid.of(reference), point, wish, organ)
        segmentation = self.ensure_segmentation()
        self.save_undo()
        proposal = place(segmentation, self._segment(), lesion, reference)
        self.parameters.segment_id = proposal.segment_id
        return proposal

    def export(self, takes: Sequence[Take] = (), needs_mask: bool = True) -> PaintedShipment:
        """What an edit sends. takes, needs_mask: see `ready`. Raises NotReady, NotACT, EmptyMask."""
        self._keep_what_is_used()
        return PaintedShipment.of(self.parameters, takes, needs_mask)

    def export_inputs(self, takes: Sequence[Take] = ()) -> Shipment:
        """What a model gets that makes whole new CTs. Raises NotReady, NotACT, EmptyMask."""
        return Shipment(exported(self.parameters, takes, None))

    # what came back

    def receive(
        self,
        boxes: Sequence[Box],
        provenances: Sequence[dict[str, Any]],
        reference: Any = None,
        lesion_ijk: Sequence[float] | None = None,
    ) -> Variants:
        """Put an answer into the scene, show its first variant. reference: what was sent (default: chosen);
        lesion_ijk: see `Shipment`. Raises OtherReference, BrokenBox: then the last result stays as it is.
        """
        made = Variants.of_edit(self.scene, reference or self._reference(), boxes, provenances, lesion_ijk)
        return self._received(made)

    def receive_whole(
        self, volumes: Sequence[GeneratedCT], provenances: Sequence[dict[str, Any]]
    ) -> Variants:
        """The same for whole new CTs. Raises BrokenBox."""
        return self._received(Variants.of_volumes(self.scene, volumes, provenances))

    def _received(self, made: Variants) -> Variants:
        self._keep_what_is_used()
        if self.variants is not None:
            self.variants.remove_node()
        self.variants = made
        self._shown()
        return made

    def show(self, index: int) -> None:
        self._switch(lambda variants: variants.show(index))

    def next(self) -> None:
        self._switch(Variants.next)

    def previous(self) -> None:
        self._switch(Variants.previous)

    def _switch(self, change: Callable[[Variants], Any]) -> None:
        variants = self._variants()
        self._keep_what_is_used()
        change(variants)
        self._shown()

    def accepted(self, index: int, image_id: str) -> Any:
        """The server has stored this variant under that id. Returns its node, which stays in the scene."""
        node = self._variants().accept(index, image_id)
        self._shown()
        return node

    def save(self, index: int, path: Path) -> list[Path]:
        """Write a variant and its record; returns both paths. Raises CannotSave: nothing is written then."""
        written = self._variants().save(index, path)
        self._shown()
        return written

    def discard(self, index: int) -> None:
        """Forget a variant. After the last one the volume goes, and the comparison shows the CT alone."""
        self._switch(lambda variants: variants.discard(index))

    # how it is looked at

    def compare(self, on: bool) -> None:
        """Into the comparison, or back to the former layout. Raises NotReady, NoLayout."""
        if on:
            chosen = self.parameters
            if chosen.orientation in ORIENTATIONS and chosen.orientation != self.comparison.orientation:
                self.comparison.orientation = chosen.orientation
            self._enter(chosen.reference)
            self.comparison.outline = chosen.outline
            self.set_difference(chosen.difference)
            self._changed("comparison")
        else:
            self.comparison.leave()

    def set_outline(self, on: bool) -> None:
        self.parameters.outline = on
        self.comparison.outline = on

    def set_orientation(self, name: str) -> None:
        """The plane of all six views, one of ORIENTATIONS. Raises NotReady."""
        self.comparison.orientation = name
        self.parameters.orientation = name

    def set_windows(self, name: str) -> None:
        """The windows of the rows, one of WINDOWS_OF, or "": by the tissue around the lesion. NotReady."""
        if name and name not in WINDOWS_OF:
            raise NotReady(f"unknown windows {name!r}: choose one of {', '.join(WINDOWS_OF)}")
        self.parameters.windows = name
        if self.comparison.active:
            self.comparison.windows = self._windows()

    def surroundings(self) -> Surroundings | None:
        """What the painted lesion lies in; None while there is no lesion or no CT."""
        return surroundings(self.parameters)

    def set_difference(self, on: bool) -> None:
        """Blue where the result is darker than the CT, red where brighter."""
        self.parameters.difference = on
        comparison = self.comparison
        pair = comparison.reference, comparison.synthetic
        shown = on and comparison.active and pair[1] is not None
        comparison.show_difference(difference(*pair) if shown else None)

    def jump_to_lesion(self, field_mm: float | None = 90.0) -> None:
        """Centre all six views on the chosen segment. Raises NotReady, EmptyMask."""
        reference, segmentation = self._reference(), self.parameters.segmentation
        if segmentation is None:
            raise NotReady("paint a lesion first, or propose one: there is nothing to jump to")
        point = segment_centre(segmentation, self._segment(), reference)
        self.comparison.jump(to_world(reference, point), field_mm)

    # inside: also called by SceneWatch

    def scene_closing(self) -> None:
        self.comparison.leave()
        self.variants = None

    def scene_closed(self) -> None:
        self._use_parameters()
        self._changed("scene")

    def scene_loaded(self) -> None:
        """A scene saved while comparing has the views of that; ours were not saved."""
        self._use_parameters()
        if self.parameters.segmentation is not None and not self.comparison.active:
            give_back(self.parameters.segmentation, self.parameters.views_before)
            self.parameters.views_before = {}
        layout = register(self.scene)
        if layout is not None and layout.GetViewArrangement() == LAYOUT_ID and not self.comparison.active:
            layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
        self._changed("scene")

    def node_gone(self) -> None:
        """The user deleted a node; a comparison needs its CT, and makes its own nodes again."""
        comparison = self.comparison
        if comparison.busy:
            return
        if comparison.active and comparison.reference is None:
            comparison.leave()
        elif comparison.incomplete:
            self._enter(comparison.reference)
        self._changed("scene")

    def chosen_anew(self) -> None:
        """The parameters changed: another CT or segmentation comes up in the comparison at once."""
        comparison, chosen = self.comparison, self.parameters
        left, _ = pair(chosen.reference, chosen.synthetic)
        if not comparison.active or comparison.busy or left is None:
            return
        if left is comparison.reference and chosen.segmentation is comparison.segmentation:
            return
        if left.GetImageData() is not None:
            self.compare(True)

    def _shown(self) -> None:
        """Variants have changed: the parameter, the comparison and the marks follow."""
        variants = self.variants
        node = variants.node if variants is not None and variants.left else None
        self.parameters.synthetic = node
        reference = (variants.reference if variants is not None else None) or self.parameters.reference
        if self.comparison.active and pair(reference, node)[0] is not None:
            self._enter(reference)
            self.set_difference(self.parameters.difference)
        self._changed("variants")

    def _enter(self, reference: Any) -> None:
        self.comparison.enter(*pair(reference, self.parameters.synthetic), self.parameters.segmentation)
        self.comparison.windows = self._windows()

    def _windows(self) -> tuple[Window, ...]:
        place = None if self.parameters.windows in WINDOWS_OF else self.surroundings()
        if place is not None:
            return windows_for(place.shown_hu)
        return WINDOWS_OF.get(self.parameters.windows, WINDOWS)

    def _keep_what_is_used(self) -> None:
        if self.variants is not None:
            self.variants.keep_if_used(self.parameters.reference, self.parameters.segmentation)

    def _use_parameters(self) -> None:
        self.parameters = Parameters(self.scene)
        self._watch.follow(self.parameters.node, self.chosen_anew)

    def _remember_views(self, views: dict[str, list[str]]) -> None:
        self.parameters.views_before = views

    def _changed(self, what: str) -> None:
        self.marks.update()
        self.on_change(what)

    def _reference(self) -> Any:
        return chosen_reference(self.parameters)

    def _point(self, volume: Any, world_mm: Sequence[float] | None) -> np.ndarray:
        """A point of the world, or the crosshair, in the volume's own RAS."""
        world = np.array(crosshair(self.scene) if world_mm is None else world_mm, dtype=float)
        return to_volume_space(volume, world)

    def _segment(self) -> str:
        return chosen_segment(self.parameters)

    def _variants(self) -> Variants:
        if self.variants is None:
            raise NoSuchVariant("there is no result yet: synthesize first")
        return self.variants
