"""What the tests of the panel share: a client and a host that do as told, a panel on a real scene."""

# ruff: noqa: E402, I001 - the stand-ins have to be there before the module is imported

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from qt_kit import application

application.install_qt()

from LesionBrushLib.client.answers import ConnectionReport, JobStatus, ModelFacts, ServerFacts
from LesionBrushLib.client.boxes import Box, voxel_sha256
from LesionBrushLib.client.cohorts import MadeCohort
from LesionBrushLib.client.errors import Cancelled
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.client.orders import GeneratedCT, Order, Outcome, Watch
from LesionBrushLib.panel.host import SlicerHost
from LesionBrushLib.panel.session import Services
from LesionBrushLib.panel.settings import Settings
from LesionBrushLib.panel.widget import LesionBrushPanel
from qt_kit import pythonqt
from qt_kit.editor import SegmentEditor
from qt_kit.widgets import load_ui

from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "slicer_module" / "LesionBrush"
UI = MODULE / "Resources" / "UI" / "LesionBrush.ui"
SHAPE_KJI = (24, 28, 32)
CARD = {
    "title": "Lung lesion",
    "makes": "A lung nodule under the painted mask.",
    "weights_license": "Apache-2.0",
    "window_hu": [-1000, 1000],
    "figures": {"cases": 111.0},
    "limits": ["Lung only."],
}
PNG = None


def facts(**changes: Any) -> ServerFacts:
    """A server with one model that runs and one that does not."""
    schema = SynthesisRequest.model_json_schema()
    models = {
        "lung_lesion": ModelFacts("lung_lesion", CARD, schema),
        "liver": ModelFacts("liver", {**CARD, "title": "Liver"}, schema, problem="weights are missing"),
    }
    given = {"version": "0.2.0", "protocol": 1, "models": models, "devices": ("cpu",)}
    return ServerFacts(**{**given, **changes})


class Store(dict):
    """QSettings in memory."""

    def value(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    def setValue(self, key: str, value: Any) -> None:  # noqa: N802
        self[key] = value

    def remove(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class FakeHost:
    """The application: answers as told, notes what it was asked."""

    scene: Any
    says_yes: bool = True
    path: Path | None = None
    asked: list[str] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)
    loaded: list[tuple[Path, str]] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    hidden_bars: list[str] = field(default_factory=list)

    def confirm(self, text: str, title: str) -> bool:
        self.asked.append(text)
        return self.says_yes

    def ask_save_path(self, title: str, name: str) -> Path | None:
        return self.path / name if self.path else None

    def ask_open_path(self, title: str, kinds: str) -> Path | None:
        return self.path

    def load_volume(self, path: Path, name: str) -> Any:
        assert path.is_file()
        self.loaded.append((path, name))
        return new_ct(self.scene, name)

    def show_volume(self, node: Any) -> None:
        self.shown.append(node)

    def new_node_selector(self, kinds: Sequence[str], none_words: str) -> Any:
        return SlicerHost.new_node_selector(self, kinds, none_words)

    def new_segment_editor(self) -> Any:
        return SegmentEditor()

    def shortcut(self, key: str, action: Any) -> Any:
        assert key not in self.keys
        self.keys[key] = action
        return key

    def remove_shortcut(self, shortcut: Any) -> None:
        del self.keys[shortcut]

    def views(self) -> list[Any]:
        return []

    def show_controllers(self, names: list[str], visible: bool) -> None:
        self.hidden_bars = [] if visible else names

    def set_wait_cursor(self, on: bool) -> None:
        pass


@dataclass
class FakeClient:
    """A server's client. raises: what the next call raises; hold: the synthesis waits until it is set."""

    report: ConnectionReport = field(
        default_factory=lambda: ConnectionReport(True, "ok", "connected", facts())
    )
    raises: Exception | None = None
    hold: threading.Event | None = None
    changed: bool = False
    remarks: tuple[str, ...] = ()
    news: list[Any] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    def __call__(self, url: str, token: str | None, ca_file: Path | None = None) -> FakeClient:
        self.calls.append(("client", url, token))
        self.ca_file = ca_file
        return self

    def _did(self, *call: Any) -> None:
        self.calls.append(call)
        assert threading.current_thread() is not threading.main_thread(), "HTTP on the main thread"
        if self.raises is not None:
            raise self.raises

    def test_connection(self) -> ConnectionReport:
        self._did("test_connection")
        return self.report

    def images(self) -> list[str]:
        self._did("images")
        return ["case-1", "case-2"]

    def download_image(self, image: str, path: Path, cancelled: Any = None) -> Path:
        self._did("download_image", image)
        path.write_bytes(self.stored)
        return path

    def accept(self, job: str, n: int) -> str:
        self._did("accept", job, n)
        return f"synthetic-{n}"

    def make_cohort(self, job: str, n: int, like: dict[str, Any], watch: Watch) -> MadeCohort:
        self._did("make_cohort", job, n, like)
        watch.status(status(step=3, steps=6, seconds_left=2.0))
        while self.hold is not None and not self.hold.wait(0.01):
            if watch.cancelled is not None and watch.cancelled():
                raise Cancelled
        return MadeCohort("like1", (f"{like['count']} of {like['count']} cases are in the cohort like1.",))

    def discard(self, job: str, n: int) -> None:
        self._did("discard", job, n)

    def resume(self, job: str, watch: Watch) -> Outcome:
        self._did("resume", job)
        return self._work(self.orders[-1], watch)

    def synthesize(self, order: Order, watch: Watch) -> Outcome:
        self.orders.append(order)
        self._did("synthesize", order.model)
        return self._work(order, watch)

    volumes: list[GeneratedCT] = field(default_factory=list)

    def _work(self, order: Order, watch: Watch) -> Outcome:
        for call, *given in self.news:
            getattr(watch, call)(*given)
        while self.hold is not None and not self.hold.wait(0.01):
            if watch.cancelled is not None and watch.cancelled():
                raise Cancelled
        if order.reference is None:
            return Outcome(whole_records(order, len(self.volumes)), "job-1", volumes=self.volumes)
        return outcome(order, self.reference_voxels if not self.changed else "0" * 64, self.remarks)

    reference_voxels: str = ""
    ca_file: Path | None = None
    stored: bytes = b"NRRD0004"


def outcome(order: Order, voxels: str, remarks: tuple[str, ...] = ()) -> Outcome:
    """One box of 3 x 3 x 3 voxels for each variant."""
    count = order.params["variants"]
    boxes = [Box(np.full((3, 3, 3), 30 + n, np.int16), (10, 10, 10), voxels) for n in range(count)]
    seed = order.params["seed"]
    said = {"model": order.model, "request": order.params, "remarks": [*remarks]}
    records = [{**said, "seed": seed + n} for n in range(count)]
    for record in records if order.record else []:
        record.update(generated=order.record.get("generated", False), made_from=order.record)
        record["reference_sha256"] = voxels
    return Outcome(records, "job-1", boxes)


def whole_records(order: Order, count: int) -> list[dict[str, Any]]:
    """Of whole new CTs."""
    seed = order.params["seed"]
    said = {"model": order.model, "synthetic": True, "generated": True, "reference_sha256": None}
    return [{**said, "seed": seed + n} for n in range(count)]


def status(state: str = "running", **given: Any) -> JobStatus:
    return JobStatus(id="job-1", model="lung_lesion", state=state, **given)


def new_ct(scene: Any, name: str = "CT") -> Any:
    """A small CT of lung."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.full(SHAPE_KJI, -850, np.int16))
    return node


def paint(panel: LesionBrushPanel) -> None:
    """A cube of 27 voxels in the chosen segment, as the Segment Editor would leave it."""
    import slicer

    parameters = panel.session.logic.parameters
    mask = np.zeros(SHAPE_KJI, np.uint8)
    mask[10:13, 10:13, 10:13] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask, parameters.segmentation, parameters.segment_id, parameters.reference
    )
    panel.refresh()


@dataclass
class Bench:
    """A panel with everything around it."""

    panel: LesionBrushPanel
    ui: Any
    host: FakeHost
    client: FakeClient
    store: Store
    logic: LesionBrushLogic
    scene: Any
    top: Any

    def wait(self, until: Any = None, seconds: float = 10.0) -> None:
        """Let Qt work until the job under way is over, or something holds."""
        done = until or (lambda: not self.panel.session.busy)
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, "it took too long"
            pythonqt.application().processEvents()
            time.sleep(0.002)
        pythonqt.application().processEvents()

    def settle(self, seconds: float = 0.3) -> None:
        """Let the timers that gather events run out."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def connect(self) -> None:
        self.ui.testButton.click()
        self.wait()

    def ready(self) -> None:
        """Connected, with a CT and a painted lesion."""
        self.connect()
        node = new_ct(self.scene)
        import slicer

        self.client.reference_voxels = voxel_sha256(slicer.util.arrayFromVolume(node).T)
        self.ui.volumeSelector.setCurrentNode(node)
        self.panel.enter()
        paint(self.panel)

    def synthesize(self) -> None:
        self.ui.synthesizeButton.click()
        self.wait()

    @property
    def message(self) -> str:
        return str(self.ui.messageLabel.text)


def new_bench(slicer: Any, store: Store | None = None, client: FakeClient | None = None) -> Bench:
    """A panel on slicer.mrmlScene, with the real .ui file."""
    scene, store = slicer.mrmlScene, store if store is not None else Store()
    host, client = FakeHost(scene), client or FakeClient()
    logic = LesionBrushLogic(scene, slicer.app.applicationLogic())
    top = load_ui(str(UI))
    ui = application.child_widget_variables(top)
    top.setMRMLScene(scene)
    services = Services(logic, Settings(store), host, client)
    panel = LesionBrushPanel(ui, services, np.random.default_rng(0))
    return Bench(panel, ui, host, client, store, logic, scene, top)
