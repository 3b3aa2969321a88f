"""The app that MONAI Label starts: `python -m monailabel.main start_server --app app --studies DIR`."""

from __future__ import annotations

from typing import Any

import lesionbrush  # now: this folder is importable only while MONAI Label loads this file
from lesionbrush.registry import list_models
from lesionbrush.server.gate import install
from lesionbrush.server.inference import Service
from lesionbrush.server.routes import front_app
from lesionbrush.server.studies import Studies
from lesionbrush.server.task import SynthesisTask
from monailabel.interfaces.app import MONAILabelApp


class LesionBrush(MONAILabelApp):
    """One infer task per installed model. MONAI Label finds it as a direct subclass of MONAILabelApp."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.service = Service()
        super().__init__(
            app_dir,
            studies,
            conf,
            name="LesionBrush",
            description="Paint a lesion on a CT, get the same CT with it. Outputs are synthetic.",
            version=lesionbrush.__version__,
        )

    def init_datastore(self) -> Studies:
        return Studies(self.studies)

    def init_infers(self) -> dict[str, SynthesisTask]:
        return {model.card.name: SynthesisTask(self.service, model) for model in list_models()}

    def init_strategies(self) -> dict[str, Any]:
        return {}

    def on_init_complete(self) -> None:
        """The server is about to take requests."""
        super().on_init_complete()
        install(front_app(self.service, self.datastore()))
