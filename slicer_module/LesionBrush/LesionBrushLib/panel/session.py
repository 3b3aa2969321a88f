"""What the six panels share: the logic, the server, the one job under way, and where errors are shown.

Imports no Qt itself, but what it starts (http_job) does.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from ..client import Cancelled, ServerError, ServerUnreachable, Take, WrongReference
from ..logic.compose import QUICK
from ..logic.problems import NotReady, Problem
from .http_job import Callbacks, HttpJob, Report, Work
from .schema_form import Form, Values
from .settings import Address, Settings, consent_text

log = logging.getLogger("LesionBrush")

# Filled in by the program: the mask that is sent has one label, and only the changed box travels back.
PROGRAMS_OWN = (("label",), ("output",))


@dataclass
class Services:
    """Handed in by the module, replaced in tests.

    host: what only the application has (host.py); make_client(url, token, ca_file): a new JobClient.
    """

    logic: Any
    settings: Settings
    host: Any
    make_client: Callable[[str, Optional[str], Optional[Path]], Any]


class Session:
    """State that is not saved with the scene. `on_refresh` and `on_message` are set by the widget."""

    def __init__(self, services: Services) -> None:
        self.logic, self.settings = services.logic, services.settings
        self.host, self._make_client = services.host, services.make_client
        self.address: Optional[Address] = None
        self.token = ""
        self.facts: Any = None
        self.form: Optional[Form] = None
        self.form_values: Values = {}
        self.job: Optional[HttpJob] = None
        self.doing = ""
        self.result_client: Any = None
        self.result_job: Optional[str] = None
        self.on_refresh: Callable[[], None] = lambda: None
        self.on_message: Callable[[str], None] = lambda text: None

    # -- the server

    def client(self) -> Any:
        """A client for the server chosen now. It opens no connection by itself."""
        if self.address is None:
            raise NotReady("choose a server first: type its address under Connect")
        ca_file = self.settings.ca_file
        return self._make_client(self.address.url, self.token or None, Path(ca_file) if ca_file else None)

    @property
    def model(self) -> Any:
        """The chosen model's facts, or None."""
        return self.facts.models.get(self.logic.parameters.model) if self.facts else None

    @property
    def takes(self) -> "tuple[Take, ...]":
        """What the chosen model takes beside CT and mask."""
        return self.model.takes if self.model else ()

    @property
    def whole(self) -> bool:
        """Whether it makes whole new CTs."""
        return bool(self.model and self.model.makes_volumes)

    @property
    def needs_mask(self) -> bool:
        """Whether it edits under a mask alone."""
        return self.model is None or self.model.needs_mask

    def agreed_to_send(self) -> bool:
        """True once the user agreed that CTs go to this server; asks the first time."""
        if self.address is None:
            return False
        if self.settings.agreed(self.address):
            return True
        if not self.host.confirm(consent_text(self.address), "Send this CT?"):
            return False
        self.settings.agree(self.address)
        return True

    # -- work beside the application

    @property
    def busy(self) -> bool:
        return self.job is not None and self.job.running

    def run(
        self,
        doing: str,
        work: Work,
        done: Callable[[Any], None],
        failed: Optional[Callable[[Exception], None]] = None,
        progress: Optional[Callable[[Any], None]] = None,
    ) -> bool:
        """Start work in a thread, unless something is under way. doing: for the user, "synthesizing"."""
        if self.busy:
            self.show(f"still {self.doing}: wait for it, or press Cancel")
            return False

        def cancelled(_: None) -> None:
            self.on_refresh()

        def ended(action: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda value: self.guard(lambda: action(value))

        self.doing = doing
        callbacks = Callbacks(
            ended(done), ended(failed or self.fail), progress or (lambda _: None), cancelled
        )
        self.job = HttpJob(work, callbacks)
        self.on_refresh()
        return True

    def stop(self) -> None:
        """For a panel that goes away: the work under way ends unheard."""
        if self.job is not None:
            self.job.abandon()
            self.job = None

    # -- errors

    def show(self, text: str) -> None:
        """A sentence the user has to see; it stays until the next success or until it is closed."""
        self.on_message(text)

    def fail(self, error: Exception) -> None:
        """Show an error. Those of the logic and the client are written for users, others are our faults."""
        if is_ours(error):
            self.show(str(error))
        else:
            log.error("unexpected error", exc_info=error)
            self.show(
                f"LesionBrush made a mistake ({type(error).__name__}: {error}). Nothing was changed. "
                "The Python console has the details; please report them."
            )

    def guard(self, action: Callable[[], Any]) -> None:
        """Do what the user asked for; whatever goes wrong is shown; the panel is up to date afterwards."""
        try:
            action()
        except Exception as error:  # noqa: BLE001, a slot must not let it go into Qt's loop
            self.fail(error)
        self.on_refresh()


def is_ours(error: Exception) -> bool:
    """Does this error carry a sentence for the user?"""
    return isinstance(error, (Problem, ServerError, ServerUnreachable, Cancelled, WrongReference, ValueError))


def missing(session: Session) -> list[str]:
    """What is missing before Synthesize can be pressed, in the order of the panel; [] when nothing is."""
    found = []
    facts, model = session.facts, session.model
    if session.busy:
        found.append(f"{session.doing}: wait for it, or press Cancel")
    if facts is None:
        found.append("connect to a server first (1. Connect, Test connection)")
    elif facts.read_only:
        found.append("this token may only look: ask for one that may synthesize")
    elif model is None:
        found.append("choose a model (1. Connect)")
    elif not model.can_run:
        found.append(f"{model.title} cannot run on this server: {model.problem}")
    unknown = facts is None or model is None
    lacking = session.logic.ready(session.takes, session.whole, session.needs_mask)
    found += [text for text in lacking if not (unknown and text.startswith("connect"))]
    if session.form is not None:
        found += session.form.problems(session.form_values)
    return found


def make_form(model: Any) -> Form:
    return Form(model.schema, hidden=PROGRAMS_OWN)


def knows_quick(form: Form) -> bool:
    """Whether a model can be asked for a quick look: other systems and older servers cannot."""
    field = form.field("quality")
    return field is not None and QUICK in field.choices


__all__ = ["PROGRAMS_OWN", "Report", "Services", "Session", "is_ours", "knows_quick", "make_form", "missing"]
