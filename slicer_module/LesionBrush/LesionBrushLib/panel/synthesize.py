"""4. Synthesize: a form made from the server's schema, a button that says what is missing, progress."""

from typing import Any

import numpy as np
import qt

from ..logic.compose import QUICK, haste_sentence
from ..logic.surroundings import advice
from .form_view import FormView
from .inputs import InputsPanel
from .pictures import pixmap
from .schema_form import Values
from .session import Session, knows_quick, missing
from .work import Answer, Ask, Progress, picking_up, seconds_words, synthesis

SECOND_MS = 1000


class SynthesizePanel:
    """Binds the form to the parameters, and runs one synthesis at a time."""

    def __init__(self, ui: Any, session: Session, generator: np.random.Generator) -> None:
        self.ui, self.session = ui, session
        self.view = FormView(ui.formFrame, ui.moreFrame, self._edited, generator)
        self.inputs = InputsPanel(ui, session)
        self.progress: Any = None
        self._shown_preview: Any = None
        self._result_of: Any = None
        self._sent: Any = None
        self._whole = False
        self._lesion_ijk: Any = None
        self._asked: Any = None
        self._lost_job = ""
        self._clock = qt.QTimer()
        self._clock.setInterval(SECOND_MS)
        self._clock.connect("timeout()", self._tell)
        ui.synthesizeButton.connect("clicked()", lambda: session.guard(self.start))
        ui.quickButton.connect("clicked()", lambda: session.guard(lambda: self.start(quick=True)))
        ui.cancelButton.connect("clicked()", self.cancel)
        ui.resumeButton.connect("clicked()", lambda: session.guard(self.pick_up))

    def _edited(self, values: Values) -> None:
        """A control was changed: into the parameters, so that the scene saves it."""
        session = self.session
        form, parameters = session.form, session.logic.parameters
        if form is None:
            return
        session.form_values = values
        rest = form.params(values)
        for name in ("seed", "variants", "steps"):
            if isinstance(rest.get(name), int):
                setattr(parameters, name, rest.pop(name))
        parameters.attributes = rest.pop("attributes", {})
        parameters.extra = rest
        session.on_refresh()

    def start(self, quick: bool = False) -> None:
        """Take from the scene what is sent, ask for consent if it was never given, and send the work off.

        quick: one variant in few steps, for a first look.
        """
        session = self.session
        lacking = missing(session)
        if lacking:
            session.show(lacking[0])
            return
        logic, whole, takes = session.logic, session.whole, session.takes
        shipment = logic.export_inputs(takes) if whole else logic.export(takes, session.needs_mask)
        if (shipment.inputs or not whole) and not session.agreed_to_send():
            session.show("Nothing was sent: you did not agree that the CT goes to this server.")
            return
        parameters, form, client = logic.parameters, session.form, session.client()
        params = form.params(session.form_values) if form is not None else parameters.request()
        if quick:
            params = {**params, "quality": QUICK, "variants": 1}
            params.pop("steps", None)
        ask = Ask(parameters.model, params, parameters.image_id)
        self._result_of, self._whole = client, whole
        self._sent = None if whole else parameters.reference
        self._lesion_ijk = shipment.lesion_ijk
        self._asked = None if quick else (session.address, parameters.model, _effort(params))
        self._run(synthesis(client, shipment, ask))

    def pick_up(self) -> None:
        """Follow the job whose connection was lost; the server may have gone on with it, or be done."""
        if self.can_pick_up:
            self._asked = None
            self._run(picking_up(self._result_of, self._lost_job))

    @property
    def can_pick_up(self) -> bool:
        """A job was lost from sight, and the CT it was made for, if any, is still here."""
        there = self._whole or (self._sent is not None and self._sent.GetScene() is not None)
        return bool(self._lost_job) and there and not self.session.busy

    def forget(self) -> None:
        """Another scene: a job that was lost from sight is not for it."""
        self._lost_job, self._sent, self._whole = "", None, False

    def _run(self, work: Any) -> None:
        session = self.session
        self.progress, self._shown_preview = Progress(), None
        self._lost_job = ""
        if session.run("synthesizing", work, self._done, self._failed, self._news):
            session.show("")
            self._clock.start()

    def cancel(self) -> None:
        if self.session.job is not None:
            self.session.job.cancel()
        self.session.on_refresh()

    def _news(self, news: Any) -> None:
        self.progress.take(news)
        self._tell()

    def _tell(self) -> None:
        """Show the progress there is; also once a second, so that a user sees that it lives."""
        ui, progress, job = self.ui, self.progress, self.session.job
        if progress is None or job is None:
            return
        ui.progressBar.maximum = 100 if progress.percent is not None else 0  # 0: moves without an end
        ui.progressBar.value = progress.percent or 0
        words = "Cancelling: the server stops at its next step" if job.cancelling else progress.sentence
        ui.progressLabel.text = "\n".join([words, *progress.remarks])
        if progress.preview is not None and progress.preview is not self._shown_preview:
            self._shown_preview = progress.preview
            picture = pixmap(progress.preview)
            ui.previewLabel.setPixmap(picture)
            ui.previewLabel.setVisible(not picture.isNull())

    def _done(self, answer: Answer) -> None:
        """Compose the boxes locally; if one does not fit, the result before stays."""
        session, logic, made = self.session, self.session.logic, answer.outcome
        try:
            if made.volumes:
                logic.receive_whole(made.volumes, made.provenances)
            else:
                logic.receive(made.boxes, made.provenances, self._sent, self._lesion_ijk)
        except Exception:
            # If the stored CT differs from the one here, the next try sends the voxels themselves.
            session.logic.parameters.image_id = ""
            raise
        session.result_client, session.result_job = self._result_of, made.job_id
        count = len(made.provenances)
        self._note_speed(answer)
        what = f"{count} variants" if count > 1 else "The synthetic CT"
        words = f"{what} arrived after {seconds_words(answer.seconds)}."
        said = haste_sentence(made.provenances[0])
        self.ui.progressLabel.text = "\n".join([words, *([said] if said else []), *answer.remarks])
        self.ui.compareSection.collapsed = self.ui.keepSection.collapsed = False
        session.logic.compare(True)

    def _note_speed(self, answer: Answer) -> None:
        """Remember what a user can expect of this server the next time."""
        if self._asked is None:  # a quick look, or picked up again: it says nothing of the next one
            return
        session, (address, model, effort) = self.session, self._asked
        count, took = len(answer.outcome.provenances), seconds_words(answer.seconds)
        words = f"Last time: {took} for {count} × {effort}."
        session.settings.set_speed(address, model, words)

    def _failed(self, error: Exception) -> None:
        self.ui.progressLabel.text = (
            "The last good result is still there." if self.session.logic.variants else ""
        )
        self._lost_job = getattr(error, "job_id", None) or ""
        self.session.fail(error)

    def stop_clock(self) -> None:
        """For a panel that goes away."""
        self._clock.stop()

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        if session.form is not self.view.form:
            self.view.build(session.form)
        if session.form is not None:
            session.form_values = session.form.values(session.logic.parameters.request())
            self.view.show(session.form_values)
        synthesizing = session.busy and session.doing == "synthesizing"
        lacking = missing(session)
        ui.synthesizeButton.enabled = not lacking
        ui.synthesizeButton.text = "Generate" if session.whole else "Synthesize"
        what = "CT and mask" if session.needs_mask else "the CT and what is chosen"
        sent = "Get a whole new CT" if session.whole else f"Send {what}, get the synthetic CT"
        ui.synthesizeButton.toolTip = "\n".join(lacking) or f"{sent} (Ctrl+Return)"
        self._refresh_quick(lacking)
        ui.reasonLabel.text = "" if synthesizing else self._words_before(lacking)
        ui.cancelButton.enabled = (
            session.job is not None and session.job.running and not session.job.cancelling
        )
        ui.resumeButton.setVisible(self.can_pick_up)
        ui.progressBar.setVisible(synthesizing)
        self.inputs.refresh()
        self.view.enable(not session.busy)
        if not synthesizing:
            self._rest()

    def _words_before(self, lacking: "list[str]") -> str:
        """What is missing; else what speaks against this model for this lesion, before anything is sent."""
        if lacking:
            return f"To do first: {lacking[0]}."
        session = self.session
        if session.whole or session.model.made_for is None:
            return ""
        return advice(session.logic.surroundings(), session.model, session.facts.models.values())

    def _refresh_quick(self, lacking: "list[str]") -> None:
        """Grey as Synthesize is, and where the model has no such quality."""
        button, session = self.ui.quickButton, self.session
        if session.model is not None and session.form is not None and not knows_quick(session.form):
            lacking = [f"{session.model.title} has no quality “{QUICK}”: it makes no quick looks", *lacking]
        button.enabled = not lacking
        button.toolTip = "\n".join(lacking) or "One variant in a few steps; Synthesize makes the real one"

    def _rest(self) -> None:
        self._clock.stop()
        self.ui.previewLabel.setVisible(False)
        if self.progress is not None and self.session.job is not None and self.session.job.cancelled:
            self.ui.progressLabel.text = "Cancelled. Nothing was changed."
        self.progress = None


def _effort(params: "dict[str, Any]") -> str:
    """`8 steps` or `quality fine`."""
    quality = params.get("quality")
    return f"quality {quality}" if quality else f"{params.get('steps')} steps"
