"""3. Paint: Segment Editor's own widget with the few tools that matter, brushes, where, a proposal."""

from typing import Any

import numpy as np
import slicer

from ..logic.blob import SHAPES
from .paint_only import PaintOnlyPanel
from .session import Session

EFFECTS = ("Paint", "Erase", "Threshold", "Scissors", "Islands", "Smoothing", "Grow from seeds", "Margin")
BRUSHES_MM = (5, 10, 20, 30)
UNDO_STATES = 10
EDITOR_TAG = "LesionBrush"
LARGEST_SEED = 2**31


class PaintPanel:
    """The editor and its parameter node are this module's own: the Segment Editor module is not disturbed."""

    def __init__(self, ui: Any, session: Session, generator: np.random.Generator) -> None:
        self.ui, self.session, self._generator = ui, session, generator
        self.node: Any = None
        self._following = False
        self.editor = session.host.new_segment_editor()
        self._set_up_editor()
        ui.editorFrame.layout().addWidget(self.editor)
        for mm in BRUSHES_MM:
            button = getattr(ui, f"brush{mm}Button")
            button.connect("clicked()", self._brush_action(mm))
        self.only = PaintOnlyPanel(ui, session)
        ui.proposeSlider.connect("valueChanged(double)", self._size_changed)
        for shape in SHAPES:
            ui.shapeBox.addItem(shape)
        ui.shapeBox.connect("currentIndexChanged(int)", self._shape_chosen)
        ui.proposeButton.connect("clicked()", lambda: session.guard(self.propose))

    def _set_up_editor(self) -> None:
        """The order matters: the scene's default choices have to find a parameter node to go into."""
        editor = self.editor
        editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.select_node()
        editor.setMRMLScene(self.session.host.scene)
        # Choosing a tool would otherwise put the CT into every view and break the comparison.
        _first_of(editor, "setAutoShowSourceVolumeNode", "setAutoShowMasterVolumeNode")(False)
        editor.setEffectNameOrder(list(EFFECTS))
        editor.unorderedEffectsVisible = False
        _first_of(editor, "setSourceVolumeNodeSelectorVisible", "setMasterVolumeNodeSelectorVisible")(False)
        self.session.logic.save_undo = editor.saveStateForUndo

    def select_node(self) -> None:
        """This module's Segment Editor node of the scene, made when there is none."""
        scene = self.session.host.scene
        node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(EDITOR_TAG)
            node.SetName("LesionBrush segment editor")
            node = scene.AddNode(node)
        if node is not self.node:
            self.node = node
            self.editor.setMRMLSegmentEditorNode(node)

    def enter(self) -> None:
        self.select_node()
        self.editor.setupViewObservations()
        self.editor.installKeyboardShortcuts()
        self.editor.updateWidgetFromMRML()
        self.follow_reference()

    def exit(self) -> None:
        """Painting ends and the keys are free again as soon as another module is opened."""
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def scene_closes(self) -> None:
        self.editor.setActiveEffect(None)
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()
        self.node = None

    def follow_reference(self) -> None:
        """Let the editor work on the segmentation of the chosen CT; a new one is made when there is none."""
        reference = self.session.logic.parameters.reference
        if reference is None or self.node is None or self._following:
            return
        self._following = True  # nodes that are added tell the panel, which would come here again
        try:
            self._follow(reference)
        finally:
            self._following = False

    def _follow(self, reference: Any) -> None:
        logic = self.session.logic
        segmentation = logic.parameters.segmentation or logic.ensure_segmentation()
        if self.editor.segmentationNode() is not segmentation:
            self.editor.setSegmentationNode(segmentation)
        current = _first_of(self.editor, "sourceVolumeNode", "masterVolumeNode")()
        if current is not reference:
            _first_of(self.editor, "setSourceVolumeNode", "setMasterVolumeNode")(reference)
        if logic.parameters.segment_id and self.node.GetSelectedSegmentID() != logic.parameters.segment_id:
            self.editor.setCurrentSegmentID(logic.parameters.segment_id)

    def editor_changed(self) -> None:
        """The user chose another segmentation or segment in the editor: that one is the lesion."""
        parameters = self.session.logic.parameters
        segmentation, segment = self.node.GetSegmentationNode(), self.node.GetSelectedSegmentID() or ""
        if segmentation is None or self.session.host.scene.IsClosing():
            return
        if parameters.segmentation is not segmentation:
            parameters.segmentation = segmentation
        if segment and parameters.segment_id != segment:
            parameters.segment_id = segment

    def _brush_action(self, mm: int) -> Any:
        return lambda: self.session.guard(lambda: self.brush(mm))

    def brush(self, mm: float) -> None:
        """Paint with a ball of this diameter, the same at every zoom; erase with it if Erase is on."""
        self.follow_reference()
        effect = self.editor.activeEffect()
        if effect is None or effect.name not in ("Paint", "Erase"):
            self.editor.setActiveEffectByName("Paint")
            effect = self.editor.activeEffect()
        if effect is None:
            self.session.show("choose a CT first (2. Reference), then paint")
            return
        effect.setCommonParameter("BrushSphere", 1)
        effect.setCommonParameter("BrushDiameterIsRelative", 0)
        effect.setCommonParameter("BrushAbsoluteDiameter", mm)

    def _size_changed(self, mm: float) -> None:
        if self.session.logic.parameters.lesion_mm != mm:
            self.session.logic.parameters.lesion_mm = float(mm)

    def _shape_chosen(self, index: int) -> None:
        shape = list(SHAPES)[index]
        if self.session.logic.parameters.lesion_shape != shape:
            self.session.logic.parameters.lesion_shape = shape

    def propose(self) -> None:
        """A lesion of the chosen size at the crosshair, in a segment that becomes the chosen one."""
        logic = self.session.logic
        seed = int(self._generator.integers(LARGEST_SEED))
        self.follow_reference()
        proposal = logic.propose(float(self.ui.proposeSlider.value), seed, logic.parameters.lesion_shape)
        logic.parameters.segment_id = proposal.segment_id
        self.follow_reference()
        beyond = f"; {proposal.cut:.0%} of it lay outside {proposal.where} and was cut away"
        cut = beyond if proposal.cut > 0.005 else ""
        self.session.show(f"Proposed a lesion of {proposal.volume_ml:.2f} ml{cut}. Undo takes it back.")

    def refresh(self) -> None:
        logic, ui = self.session.logic, self.ui
        parameters = logic.parameters
        has_reference = parameters.reference is not None
        for mm in BRUSHES_MM:
            getattr(ui, f"brush{mm}Button").enabled = has_reference
        ui.proposeButton.enabled = has_reference
        self.only.refresh(self.node)
        if abs(ui.proposeSlider.value - parameters.lesion_mm) > 0.01:
            ui.proposeSlider.value = parameters.lesion_mm
        if parameters.lesion_shape in SHAPES:
            ui.shapeBox.currentIndex = list(SHAPES).index(parameters.lesion_shape)
        ui.segmentLabel.text = self._segment_words()

    def _segment_words(self) -> str:
        parameters = self.session.logic.parameters
        node = parameters.segmentation
        segment = node.GetSegmentation().GetSegment(parameters.segment_id) if node is not None else None
        if segment is None:
            return "No lesion is painted yet."
        return f"What is sent as the lesion: segment {segment.GetName()!r} of {node.GetName()!r}."


def _first_of(thing: Any, *names: str) -> Any:
    """The first of these methods that this version of Slicer has: masters became sources in 5.2."""
    return next((getattr(thing, name) for name in names if hasattr(thing, name)), lambda *_: None)
