"""The whole round trip in the real 3D Slicer, in about five minutes. For its Python console (Ctrl+3):

    exec(open("/path/to/slicer_module/LesionBrush/check_in_slicer.py").read())

Needs the module (docs/slicer.md, step 1) and a server on this computer (python3 run.py serve --studies
FOLDER). It clears the scene, works on the module's own phantom, and says what passed. Set ADDRESS and TOKEN
before the line above to use another server.
"""

import time

import qt
import slicer
import vtk

PATIENCE_S = 240.0
VIEWS = 6


class Check:
    """Notes what passed; a step that fails ends the check, and the table says so."""

    def __init__(self):
        self.lines = []

    def step(self, what, passed, detail=""):
        self.lines.append(f"{'ok  ' if passed else 'FAIL'} {what} {detail}".rstrip())
        print(self.lines[-1])
        slicer.app.processEvents()
        if not passed:
            raise RuntimeError(f"{what}: {detail or 'see above'}")

    def wait(self, what, done, seconds=PATIENCE_S):
        """Let Slicer work until something holds; also tells the longest time it did not answer."""
        begin = last = time.monotonic()
        longest = 0.0
        while not done() and time.monotonic() - begin < seconds:
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)
            time.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        self.step(what, bool(done()), f"({last - begin:.1f} s, longest pause {longest:.2f} s)")


def connect(check, panel, address, token):
    panel.ui.addressEdit.text = address
    panel.ui.tokenEdit.text = token
    panel.connect.test()
    check.wait("the server answers", lambda: not panel.session.busy, 30)
    check.step("it has a model", panel.session.model is not None, panel.ui.connectionLabel.text)


def choose_and_propose(check, panel):
    from LesionBrushLib.panel import sample_data

    node = sample_data.load()
    check.step("the phantom loads", node is not None and sample_data.PHANTOM.is_file())
    panel.ui.volumeSelector.setCurrentNode(node)
    check.step("it is the reference", panel.session.logic.parameters.reference is node)
    panel.paint.follow_reference()
    panel.ui.brush10Button.click()
    check.step("Segment Editor paints", panel.paint.editor.activeEffect() is not None)
    panel.paint.editor.setActiveEffect(None)
    panel.session.logic.propose(18.0, 0, "lobulated", lung_point(node))
    panel.refresh()
    check.step("a lesion is proposed", panel.session.logic.export().voxels > 0)


def lung_point(node):
    """RAS of a point in the middle of one lung: the mean around it is that of air with some tissue."""
    hu = slicer.util.arrayFromVolume(node)
    k, j = hu.shape[0] // 2, hu.shape[1] // 2
    blocks = {i: hu[k - 4 : k + 4, j - 6 : j + 6, i - 6 : i + 6].mean() for i in range(20, hu.shape[2] // 2)}
    lung = [i for i, mean in blocks.items() if -950 < mean < -700]
    ijk_to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijk_to_ras)
    return list(ijk_to_ras.MultiplyPoint([lung[len(lung) // 2], j, k, 1.0]))[:3]


def synthesize_and_compare(check, panel):
    before = slicer.util.arrayFromVolume(panel.session.logic.parameters.reference).copy()
    panel.ui.synthesizeButton.click()
    check.step(
        "synthesis starts", panel.session.busy, panel.ui.reasonLabel.text or panel.ui.messageLabel.text
    )
    check.wait("the result arrives, Slicer answers meanwhile", lambda: not panel.session.busy)
    variants = panel.session.logic.variants
    check.step("it is in the scene", variants is not None, panel.ui.messageLabel.text)
    changed = (slicer.util.arrayFromVolume(variants.node) != before).sum()
    check.step("only part of it changed", 0 < changed < before.size // 10, f"({changed} voxels)")
    after = slicer.util.arrayFromVolume(panel.session.logic.parameters.reference)
    check.step("the CT is untouched", bool((after == before).all()))
    names = list(panel.session.logic.comparison.view_names)
    manager = slicer.app.layoutManager()
    there = [name for name in names if manager.sliceWidget(name) is not None]
    check.step("six views are there", len(there) == VIEWS, str(there))
    panel.compare.flicker()
    panel.compare.flicker()
    panel.compare.jump()
    panel.compare.compare(False)
    check.step("the former layout is back", not panel.session.logic.comparison.active)


def cancel(check, panel):
    panel.ui.synthesizeButton.click()
    panel.ui.cancelButton.click()
    check.wait("cancel ends it", lambda: not panel.session.busy, 60)
    check.step("the last result stays", panel.session.logic.variants is not None)


def run(address="http://127.0.0.1:8000", token=""):
    """The check; returns its lines. Raises RuntimeError at the first step that fails."""
    check = Check()
    slicer.mrmlScene.Clear()
    slicer.util.selectModule("LesionBrush")
    widget = slicer.modules.lesionbrush.widgetRepresentation().self()
    panel = widget.panel
    check.step("the panel is there", panel is not None)
    connect(check, panel, address, token)
    panel.session.settings.agree(panel.session.address)  # the phantom is nobody's CT
    choose_and_propose(check, panel)
    synthesize_and_compare(check, panel)
    cancel(check, panel)
    slicer.util.selectModule("Data")
    check.step("the keys are free again", not panel._shortcuts)
    print(f"LesionBrush works in Slicer {slicer.app.applicationVersion}: {len(check.lines)} steps passed.")
    return check.lines


if __name__ == "__main__":
    run(globals().get("ADDRESS", "http://127.0.0.1:8000"), globals().get("TOKEN", ""))
