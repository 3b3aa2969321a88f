"""More cases like the variant at hand: a number, a button; the server makes them, and keeps them."""

from typing import Any

from .session import Session
from .work import Progress, making_more

MAKING = "making more"
PLACES = ("organ", "here")
"""In the order of the box."""


class MorePanel:
    """Asks for a cohort, tells how far it is, and where it is in the end. Nothing of it comes here."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self.progress = Progress()
        ui.moreButton.connect("clicked()", lambda: session.guard(self.start))

    def start(self) -> None:
        session, ui = self.session, self.ui
        variants, client, job = session.logic.variants, session.result_client, session.result_job
        if variants is None or client is None or job is None:
            session.show("this result is on no server: synthesize again, then ask for more like it")
            return
        like = {"count": int(ui.moreSpin.value), "place": PLACES[ui.morePlaceBox.currentIndex]}
        self.progress = Progress()
        session.run(
            MAKING, making_more(client, job, variants.current.number, like), self._done, progress=self._news
        )

    def _news(self, news: Any) -> None:
        self.progress.take(news)
        self.ui.moreLabel.text = self.progress.sentence

    def _done(self, made: Any) -> None:
        self.ui.moreLabel.text = "\n".join(made.remarks)

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        variants = session.logic.variants
        there = variants is not None and variants.current.state != "discarded" and not session.busy
        for control in (ui.moreButton, ui.moreSpin, ui.morePlaceBox):
            control.enabled = there and session.result_job is not None
        job = session.job
        if session.doing == MAKING and job is not None and job.cancelled:
            ui.moreLabel.text = "Cancelled. Cases that were made are on the server; the same again goes on."
