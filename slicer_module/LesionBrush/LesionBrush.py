"""LesionBrush for 3D Slicer: paint a lesion on a CT, get the same CT with that lesion in it.

The entry that Slicer looks for. What the module does is in LesionBrushLib: panel (Qt), logic (the scene),
client (HTTP).
"""

import sys

import numpy as np
import qt
import slicer
from LesionBrushLib.client import JobClient
from LesionBrushLib.client.boxes import Box, voxel_sha256
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.problems import OtherReference
from LesionBrushLib.panel import sample_data
from LesionBrushLib.panel.host import SlicerHost
from LesionBrushLib.panel.session import Services
from LesionBrushLib.panel.settings import Settings
from LesionBrushLib.panel.widget import LesionBrushPanel
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

HELP = """
Paint a lesion on a CT, press Synthesize, and compare the CT with and without it in three windows.
The work is done by a LesionBrush server; nothing is sent before you agreed to it.
<br><br><b>Not a medical device.</b> What comes out is synthetic, is marked so, and is not for diagnosis.
"""
THANKS = "Made by the LesionBrush maintainers, Apache-2.0. Each model names its training data on its card."


class LesionBrush(ScriptedLoadableModule):
    """What Slicer lists in its menus."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "LesionBrush"
        self.parent.categories = ["Simulation"]
        self.parent.dependencies = ["Segmentations", "SubjectHierarchy", "Volumes"]
        self.parent.contributors = ["the LesionBrush maintainers"]
        self.parent.helpText = HELP
        self.parent.acknowledgementText = THANKS
        slicer.app.connect("startupCompleted()", sample_data.register)


def new_client(url, token, ca_file):
    """What talks to a server; opens no connection by itself."""
    return JobClient(url, token, ca_file=ca_file)


class LesionBrushWidget(ScriptedLoadableModuleWidget):
    """Puts the panel into Slicer's window, and passes on what Slicer tells."""

    def __init__(self, parent=None):
        self.panel = None
        self.logic = None
        ScriptedLoadableModuleWidget.__init__(self, parent)  # without a parent it calls setup

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        top = slicer.util.loadUI(self.resourcePath("UI/LesionBrush.ui"))
        self.layout.addWidget(top)
        ui = slicer.util.childWidgetVariables(top)
        top.setMRMLScene(slicer.mrmlScene)
        self.logic = LesionBrushLogic(slicer.mrmlScene, slicer.app.applicationLogic())
        settings = Settings(qt.QSettings())
        self.panel = LesionBrushPanel(ui, Services(self.logic, settings, SlicerHost(), new_client))

    def enter(self):
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def cleanup(self):
        if self.panel is not None:
            self.panel.close()
            self.panel = None

    def onReload(self):
        """Developer mode's Reload: the library is read again too, not only this file."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "LesionBrushLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class LesionBrushTest(ScriptedLoadableModuleTest):
    """Reload and Test: the round trip without a server, on a ball in a box, and the scene is cleared."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_a_result_comes_into_the_scene()
        self.setUp()
        self.test_a_wrong_result_is_refused()

    def test_a_result_comes_into_the_scene(self):
        self.delayDisplay("A painted lesion, an answer, a synthetic CT")
        logic = self._painted()
        shipment = logic.export()
        assert shipment.voxels == 27
        before = slicer.util.arrayFromVolume(logic.parameters.reference).copy()
        logic.receive([self._answer(shipment)], [{"model": "self_test", "seed": 7}])
        after = slicer.util.arrayFromVolume(logic.parameters.synthetic)
        assert int((after != before).sum()) == 27
        assert (after[9:12, 9:12, 9:12] == 40).all()
        unchanged = slicer.util.arrayFromVolume(logic.parameters.reference)
        assert (unchanged == before).all()
        logic.discard(0)
        logic.close()
        self.delayDisplay("Test passed")

    def test_a_wrong_result_is_refused(self):
        self.delayDisplay("An answer for another CT")
        logic = self._painted()
        answer = self._answer(logic.export())
        slicer.util.arrayFromVolume(logic.parameters.reference)[0, 0, 0] = 1000
        slicer.util.arrayFromVolumeModified(logic.parameters.reference)
        try:
            logic.receive([answer], [{"model": "self_test", "seed": 7}])
        except OtherReference:
            pass
        else:
            raise AssertionError("an answer for another CT was taken")
        assert logic.variants is None
        logic.close()
        self.delayDisplay("Test passed")

    def _painted(self):
        """A logic with a small CT of lung and a painted cube of 27 voxels in it."""
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Self test CT")
        slicer.util.updateVolumeFromArray(volume, np.full((20, 20, 20), -850, np.int16))
        logic = LesionBrushLogic(slicer.mrmlScene, slicer.app.applicationLogic())
        logic.parameters.reference = volume
        segmentation = logic.ensure_segmentation()
        mask = np.zeros((20, 20, 20), np.uint8)
        mask[9:12, 9:12, 9:12] = 1
        segment = segmentation.GetSegmentation().GetNthSegmentID(0)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
        logic.parameters.segment_id = segment
        return logic

    def _answer(self, shipment):
        hu = np.full((3, 3, 3), 40, np.int16)
        return Box(hu, (9, 9, 9), voxel_sha256(shipment.hu_kji.T))
