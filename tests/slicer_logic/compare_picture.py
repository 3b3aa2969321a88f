"""The picture of the README: a lesion proposed on a CT, made by the real server, in the six views.

`python tests/slicer_logic/compare_picture.py docs/slicer_compare.png [CT.nii.gz]`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "app"))  # pytest does this by itself
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "slicer_module" / "LesionBrush"))

import numpy as np
import slicer
import vtk
from lesionbrush.cli.local_server import local_server
from lesionbrush.files.io import write_volume
from lesionbrush.phantom.chest import chest_phantom, propose_lesion
from LesionBrushLib.client import JobClient, Order, Outcome, Watch
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.layout import VIEW_NAMES
from mrml_kit import SliceView, World, boot, grid_picture
from PIL import Image

MODEL = "lung_lesion"
VIEW_PX = (400, 320)


@dataclass(frozen=True)
class Case:
    """ras_mm: where the lesion goes; lesion_mm: its size; seed: of its shape and of the synthesis."""

    ct: Path
    ras_mm: tuple[float, float, float]
    lesion_mm: float
    seed: int
    steps: int = 8


@dataclass(frozen=True, eq=False)
class Made:
    """A synthesis in a scene, and the views it is shown in."""

    world: World
    logic: LesionBrushLogic
    reference: Any
    outcome: Outcome
    views: dict[str, SliceView]
    statuses: list[Any]


def phantom_case(folder: Path) -> Case:
    """For who has no CT at hand."""
    path, phantom = folder / "phantom.nii.gz", chest_phantom(0)
    write_volume(phantom.volume, path)
    place = propose_lesion(phantom.volume, phantom.lungs, 22.0, np.random.default_rng(4))
    x, y, z, _ = (place.affine @ (*np.argwhere(place.array).mean(axis=0), 1.0)).tolist()
    return Case(path, (x, y, z), 22.0, 4)


def load(world: World, path: Path) -> Any:
    """As the application loads a file: by a storage node."""
    node = world.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Chest CT")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    node.CreateDefaultDisplayNodes()
    return node


def synthesize(case: Case, client: JobClient) -> Made:
    """What the user does: choose a CT, propose a lesion, synthesize, compare, jump to it."""
    world = boot()
    logic = LesionBrushLogic(world.scene, world.application)
    chosen = logic.parameters
    chosen.reference, chosen.model = load(world, case.ct), MODEL
    chosen.seed, chosen.steps = case.seed, case.steps
    logic.propose(case.lesion_mm, case.seed, ras_mm=case.ras_mm)
    assert logic.ready() == []
    sent, statuses = logic.export(), []
    order = Order(chosen.model, sent.mask(), sent.reference(), chosen.request())
    outcome = client.synthesize(order, Watch(on_status=statuses.append))
    logic.receive(outcome.boxes, outcome.provenances)
    views = six_views(world, logic)
    logic.compare(True)
    logic.jump_to_lesion(92.0)
    return Made(world, logic, chosen.reference, outcome, views, statuses)


def six_views(world: World, logic: LesionBrushLogic) -> dict[str, SliceView]:
    logic.comparison.layout.enter()
    views = {name: SliceView(world, name, VIEW_PX) for name in VIEW_NAMES}
    for view in views.values():
        logic.marks.attach(view.renderer, view.node)
        name_the_volume(view)
    logic.comparison.layout.leave()
    return views


def name_the_volume(view: SliceView) -> None:
    """In the lower left, where the application does it."""
    annotation = vtk.vtkCornerAnnotation()
    annotation.SetMaximumFontSize(12)
    annotation.SetMinimumFontSize(12)
    annotation.SetNonlinearFontScaleFactor(1.0)
    annotation.GetTextProperty().ShadowOn()
    view.renderer.AddViewProp(annotation)

    def show(*_: object) -> None:
        volume = view.logic.GetBackgroundLayer().GetVolumeNode()
        annotation.SetText(0, f"B: {volume.GetName()}" if volume is not None else "")

    view.composite.AddObserver(vtk.vtkCommand.ModifiedEvent, show)


def save_picture(views: dict[str, SliceView], path: Path) -> np.ndarray:
    """The six views as a PNG of few colours; returns the pixels."""
    pixels = grid_picture(list(views.values()))
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return pixels


def main(arguments: Sequence[str]) -> int:
    out = Path(arguments[0])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lesionbrush-picture-")))
        (folder / "studies").mkdir()
        case = Case(Path(arguments[1]), *REAL) if len(arguments) > 1 else phantom_case(folder)
        server, _ = stack.enter_context(local_server(folder / "studies", folder / "server.log"))
        made = synthesize(case, JobClient(server.url))
        save_picture(made.views, out)
        made.logic.close()
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return 0


REAL = ((60.0, 165.0, 24.5), 20.0, 7)
"""Place, size and seed for LungFCP-01-0001."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
