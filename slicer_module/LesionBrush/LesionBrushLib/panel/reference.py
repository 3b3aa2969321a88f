"""2. Reference: any CT that is loaded, or one fetched from the server's list."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..logic.whole import is_labels
from .session import Session
from .work import fetching

SERVER_IMAGE, SERVER = "LesionBrush.ServerImage", "LesionBrush.Server"


class ReferencePanel:
    """Binds the volume selector to the reference of the parameters."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self._refreshing = False
        self._images: list[str] = []
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._chosen)
        ui.listButton.connect("clicked()", lambda: session.guard(self.list_images))
        ui.fetchButton.connect("clicked()", lambda: session.guard(self.fetch))

    def _chosen(self, node: Any) -> None:
        if not self._refreshing:
            self.session.guard(lambda: self.choose(node))

    def choose(self, node: Any) -> None:
        """Make a volume the reference. A CT fetched from this very server need not be sent there again."""
        parameters, address = self.session.logic.parameters, self.session.address
        parameters.reference = node
        if node is not None and parameters.segmentation is not None:
            self._change_segmentation(node)
        origin = node.GetAttribute(SERVER) if node is not None else None
        known = address is not None and origin == address.origin
        parameters.image_id = (node.GetAttribute(SERVER_IMAGE) or "") if known else ""

    def _change_segmentation(self, reference: Any) -> None:
        """What was painted on one CT does not belong on another: each has a segmentation of its own."""
        parameters = self.session.logic.parameters
        if painted_on(parameters.segmentation) in (None, reference):
            return
        scene, kind = self.session.host.scene, "vtkMRMLSegmentationNode"
        nodes = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
        mine = [node for node in nodes if painted_on(node) is reference and not is_labels(node)]
        parameters.segmentation = mine[0] if mine else None
        parameters.segment_id = ""

    def list_images(self) -> None:
        client = self.session.client()
        self.session.run("listing the CTs", lambda cancelled, report: client.images(), self._listed)

    def _listed(self, images: list[str]) -> None:
        self._images = list(images)
        box = self.ui.imageBox
        box.clear()
        for image in self._images:
            box.addItem(image)
        if not self._images:
            self.session.show(
                "the server has no CTs: choose one that is loaded here, or store some on the server"
            )

    def fetch(self) -> None:
        """Load the chosen CT of the server into the scene, and make it the reference."""
        image, client = self.ui.imageBox.currentText, self.session.client()
        # Kept by the two functions below: if the user cancels, it goes with them.
        folder = TemporaryDirectory(prefix="lesionbrush-")

        def failed(error: Exception) -> None:
            folder.cleanup()
            self.session.fail(error)

        def fetched(path: Path) -> None:
            try:
                self._load(path, image)
            finally:
                folder.cleanup()

        self.session.run(f"fetching {image}", fetching(client, image, Path(folder.name)), fetched, failed)

    def _load(self, path: Path, image: str) -> None:
        session = self.session
        try:
            node = session.host.load_volume(path, image)
        except RuntimeError as error:
            session.show(f"{image} arrived, but Slicer cannot read it ({error}): load it from elsewhere")
            return
        if session.address is not None:
            node.SetAttribute(SERVER_IMAGE, image)
            node.SetAttribute(SERVER, session.address.origin)
        self.choose(node)
        session.host.show_volume(node)

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        free = session.facts is not None and not session.busy
        ui.listButton.enabled = free
        ui.imageBox.enabled = ui.fetchButton.enabled = free and bool(self._images)
        ui.volumeSelector.enabled = not session.busy
        node = session.logic.parameters.reference
        self._refreshing = True
        if ui.volumeSelector.currentNode() is not node:
            ui.volumeSelector.setCurrentNode(node)
        self._refreshing = False
        ui.referenceLabel.text = facts_of(node) if node is not None else "Choose a loaded CT, or fetch one."


def painted_on(segmentation: Any) -> Any:
    """The volume whose grid a segmentation was made on, or None."""
    return segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())


def facts_of(node: Any) -> str:
    """Size and spacing of a volume in a line, enough to notice the wrong one."""
    image = node.GetImageData()
    if image is None:
        return "This volume holds no voxels."
    voxels = " × ".join(str(n) for n in image.GetDimensions())
    spacing = " × ".join(f"{mm:.3g}" for mm in node.GetSpacing())
    low, high = image.GetScalarRange()
    return f"{voxels} voxels of {spacing} mm, {low:g} to {high:g} HU"
