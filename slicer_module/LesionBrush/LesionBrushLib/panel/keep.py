"""6. Keep: accept into the server's studies, save as files, or discard."""

import re
from typing import Any

from ..logic.compose import haste, haste_sentence, mark
from .session import Session


class KeepPanel:
    """What becomes of the variant at hand. The user's own volumes and segments are never touched."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        ui.acceptButton.connect("clicked()", lambda: session.guard(self.accept))
        ui.saveButton.connect("clicked()", lambda: session.guard(self.save))
        ui.discardButton.connect("clicked()", lambda: session.guard(self.discard))

    def accept(self) -> None:
        """Ask the server to store the variant, the mask and the record; it is kept here as well."""
        session = self.session
        variants, client, job = session.logic.variants, session.result_client, session.result_job
        if variants is None or client is None or job is None:
            session.show("this result cannot be accepted on a server: save it as files")
            return
        index, number = variants.index, variants.current.number
        if not self._wanted(variants.current):
            self.ui.keepLabel.text = f"Not accepted: {variants.current.title}."
            return

        def accepted(image: str) -> None:
            if session.logic.variants is variants:
                session.logic.accepted(index, image)
            self.ui.keepLabel.text = f"Accepted: the server keeps it as {image!r}."

        session.run("accepting", lambda cancelled, report: client.accept(job, number), accepted)

    def _wanted(self, variant: Any) -> bool:
        """A quick look, or what was painted into one, is stored by nobody by accident."""
        said = haste_sentence(variant.provenance)
        question = f"{said}\n\nStore it on the server all the same?"
        return not said or bool(self.session.host.confirm(question, "Accept"))

    def save(self) -> None:
        """Write the volume, and its record beside it, where the user says."""
        session = self.session
        variants = session.logic.variants
        if variants is None:
            return
        path = session.host.ask_save_path("Save the synthetic CT", proposed_name(variants.current))
        if path is None:
            return
        session.host.set_wait_cursor(True)
        try:
            written = session.logic.save(variants.index, path)
        finally:
            session.host.set_wait_cursor(False)
        self.ui.keepLabel.text = "Saved: " + " and ".join(file.name for file in written)

    def discard(self) -> None:
        """Forget the variant here, and on the server; if the server cannot be told, here all the same."""
        session = self.session
        variants, client, job = session.logic.variants, session.result_client, session.result_job
        if variants is None:
            return
        index, variant = variants.index, variants.current
        question = f"{variant.title} was {variant.state}. Remove it here? What was {variant.state} stays."
        if variant.state in ("accepted", "saved") and not session.host.confirm(question, "Discard"):
            return
        tell = job is not None and client is not None and variant.state != "accepted"
        session.logic.discard(index)
        self.ui.keepLabel.text = f"Discarded: {variant.title}."
        if tell:
            session.run(
                "discarding",
                lambda cancelled, report: client.discard(job, variant.number),
                lambda _: None,
                lambda error: session.show(f"Discarded here. The server still has it for a while: {error}"),
            )

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        variants = session.logic.variants
        current = variants.current if variants is not None else None
        there = current is not None and current.state != "discarded" and not session.busy
        accepted = current is not None and current.state == "accepted"
        ui.acceptButton.enabled = there and session.result_job is not None and not accepted
        ui.saveButton.enabled = ui.discardButton.enabled = there
        if current is None:
            ui.keepLabel.text = ui.keepLabel.text or "Nothing to keep yet."


def proposed_name(variant: Any) -> str:
    """A file name that says that it is synthetic, from which model and seed, and whether it is a quick look;
    no patient's name."""
    record = variant.provenance
    said = f"{mark(record)} {record.get('model', 'ct')}-seed{variant.seed} {haste(record)}"
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', said).strip('-')}.nii.gz"
