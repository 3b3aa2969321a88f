"""The app that MONAI Label starts: `python -m monailabel.main start_server --app app --studies DIR`."""

from __future__ import annotations

from pathlib import Path

import lesionbrush  # now: this folder is importable only while MONAI Label loads this file
import numpy as np
from lesionbrush.core.registry import list_models
from lesionbrush.errors import LesionBrushError
from lesionbrush.server.archive.dicomweb import Archive, is_address
from lesionbrush.server.archive.dicomweb_cache import cache_folder
from lesionbrush.server.archive.dicomweb_studies import DicomWebStudies
from lesionbrush.server.archive.fetching import fetch_first
from lesionbrush.server.http.routes import front_app
from lesionbrush.server.operation.serve import refuse_to_start
from lesionbrush.server.operation.startup import open_doors, prepare
from lesionbrush.server.stock.strategies import NextWithoutCase, list_strategies
from lesionbrush.server.stock.words import LESION
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.synthesis.task import SynthesisTask
from monailabel.interfaces.app import MONAILabelApp


class LesionBrush(MONAILabelApp):
    """One infer task per installed model. MONAI Label finds it as a direct subclass of MONAILabelApp."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        prepare()
        self.folder = cache_folder(studies) if is_address(studies) else Path(studies)
        try:
            self.service = Service(studies=self.folder)
        except LesionBrushError as error:  # another server works on these studies
            refuse_to_start(error)
            raise
        super().__init__(
            app_dir,
            studies,
            conf,
            name="LesionBrush",
            description="Paint a lesion on a CT, get the same CT with it. Outputs are synthetic.",
            version=lesionbrush.__version__,
            labels=[LESION],
        )

    def init_datastore(self) -> Studies:
        if is_address(self.studies):
            return DicomWebStudies(Archive(self.studies), self.folder)
        return Studies(self.studies)

    def init_infers(self) -> dict[str, SynthesisTask]:
        return {model.card.name: SynthesisTask(self.service, model) for model in list_models()}

    def init_strategies(self) -> dict[str, NextWithoutCase]:
        return list_strategies(np.random.default_rng())

    def on_init_complete(self) -> None:
        """The server is about to take requests."""
        super().on_init_complete()
        front = front_app(self.service, self.datastore(), self._strategies)
        fetch_first(front, self.datastore())
        open_doors(front, self.service, self.folder)
