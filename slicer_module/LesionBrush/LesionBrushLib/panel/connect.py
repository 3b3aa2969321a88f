"""1. Connect: which server, is it there, what can it make, and may a CT go there."""

from html import escape
from typing import Any, Optional

from ..client.addresses import Address, BadAddress, parse_address
from .session import Session, knows_quick, make_form

CARD_FIGURES = 6


class ConnectPanel:
    """Owns the server's address, token and models. Nothing of a CT is sent here."""

    def __init__(self, ui: Any, session: Session) -> None:
        self.ui, self.session = ui, session
        self._filling = False
        settings = session.settings
        ui.addressEdit.text = settings.url
        ui.keepTokenCheck.checked = settings.keep_token
        ui.certificateEdit.text = settings.ca_file
        ui.certificateEdit.connect("textEdited(QString)", self._certificate)
        ui.certificateButton.connect("clicked()", lambda: session.guard(self._choose_certificate))
        ui.addressEdit.connect("textEdited(QString)", self._address_edited)
        ui.addressEdit.connect("returnPressed()", self.test)
        ui.tokenEdit.connect("textEdited(QString)", self._token_edited)
        ui.keepTokenCheck.connect("toggled(bool)", self._keep_token)
        ui.testButton.connect("clicked()", self.test)
        ui.modelBox.connect("currentIndexChanged(int)", self._model_chosen)
        ui.withdrawButton.connect("clicked()", self._withdraw)
        self._take_address(remembered_token=True)

    def test(self) -> None:
        """Ask the server what it is; the answer or the reason is shown below the button."""
        session = self.session
        self._take_address()
        if session.address is None:
            return
        session.settings.url = session.address.url
        session.settings.set_token(session.address, session.token)
        client = session.client()
        self.ui.connectionLabel.text = f"Asking {session.address.url} …"
        session.run(
            "testing the connection", lambda cancelled, report: client.test_connection(), self._answered
        )

    def _answered(self, report: Any) -> None:
        session = self.session
        session.facts = report.facts if report.ok else None
        self.ui.connectionLabel.text = "\n".join([report.text, *report.remarks])
        self._fill_models()

    def _fill_models(self) -> None:
        session, box = self.session, self.ui.modelBox
        models = session.facts.models if session.facts else {}
        self._filling = True
        box.clear()
        for name, model in models.items():
            box.addItem(model.title if model.can_run else f"{model.title} (cannot run)", name)
        self._filling = False
        names = list(models)
        runs = [name for name in names if models[name].can_run]
        easy = sorted(runs, key=lambda name: _ease(models[name]))
        wanted = (session.logic.parameters.model, session.settings.model, *easy)
        chosen = next((name for name in wanted if name in runs), names[0] if names else None)
        if chosen is not None:
            box.currentIndex = names.index(chosen)
            self._choose(chosen)

    def _model_chosen(self, index: int) -> None:
        if not self._filling and index >= 0:
            self._choose(str(self.ui.modelBox.itemData(index)))
            self.session.on_refresh()

    def _choose(self, name: str) -> None:
        session = self.session
        session.logic.parameters.choose_model(name)
        session.settings.model = name
        model = session.model
        session.form = make_form(model) if model else None

    def _address_edited(self, _: str) -> None:
        self._take_address(remembered_token=True)
        self._disconnected()

    def _token_edited(self, _: str) -> None:
        self._take_address()
        self._disconnected()

    def _choose_certificate(self) -> None:
        path = self.session.host.ask_open_path("Certificate of the authority", "Certificates (*.pem *.crt)")
        if path is not None:
            self.ui.certificateEdit.text = str(path)
            self._certificate(str(path))

    def _certificate(self, path: str) -> None:
        self.session.settings.ca_file = path.strip()
        self._disconnected()

    def _disconnected(self) -> None:
        """Another address or token: what was known of the server no longer holds."""
        session = self.session
        session.facts = None
        if session.address is not None:
            self.ui.connectionLabel.text = "Not connected yet: press Test connection."
        self._fill_models()
        session.on_refresh()

    def _take_address(self, remembered_token: bool = False) -> None:
        """Read the fields. remembered_token: fill in the token this server was given before."""
        session, ui = self.session, self.ui
        try:
            session.address = parse_address(ui.addressEdit.text)
        except BadAddress as error:
            session.address = None
            ui.connectionLabel.text = str(error)
            return
        if remembered_token:
            ui.tokenEdit.text = session.settings.token(session.address)
        session.token = ui.tokenEdit.text.strip()

    def _keep_token(self, keep: bool) -> None:
        session = self.session
        session.settings.keep_token = keep
        if session.address is not None:
            session.settings.set_token(session.address, session.token)

    def _withdraw(self) -> None:
        if self.session.address is not None:
            self.session.settings.withdraw(self.session.address)
        self.session.on_refresh()

    def _follow_model(self) -> None:
        """A loaded scene brings its model along, a closed one takes it away: then the one shown is meant."""
        session, box = self.session, self.ui.modelBox
        if session.facts is None or box.count == 0:
            return
        names = list(session.facts.models)
        wanted = session.logic.parameters.model
        if wanted not in names:
            self._choose(names[box.currentIndex])
        elif wanted != names[box.currentIndex]:
            self._filling = True
            box.currentIndex = names.index(wanted)
            self._filling = False
            self._choose(wanted)

    def refresh(self) -> None:
        session, ui = self.session, self.ui
        self._follow_model()
        ui.testButton.enabled = not session.busy
        ui.modelBox.enabled = session.facts is not None and not session.busy
        ui.addressEdit.enabled = ui.tokenEdit.enabled = not session.busy
        ui.cardLabel.text = self._card()
        agreed = session.settings.agreed(session.address) if session.address else None
        ui.withdrawButton.setVisible(agreed is not None)
        ui.consentLabel.text = _consent_words(session.address, agreed)

    def _card(self) -> str:
        session = self.session
        if session.model is None or session.address is None:
            return ""
        return card_html(
            session.model, session.facts, session.settings.speed(session.address, session.model.name)
        )


def _ease(model: Any) -> "tuple[Any, ...]":
    """Least for somebody new: it asks for little and shows it soon. Equal ones stay in the server's order."""
    return (*model.asks_for, not knows_quick(make_form(model)))


def _consent_words(address: Optional[Address], agreed: Optional[str]) -> str:
    if address is None:
        return ""
    if agreed is None:
        return "You will be asked before the first CT is sent to this server."
    return f"You agreed on {agreed[:10]} that CTs go to {address.url}."


def card_html(model: Any, facts: Any, speed: str) -> str:
    """A model's card in a few lines: what it makes, HU window, licence, where it runs, its figures."""
    lines = [f"<b>{escape(model.makes)}</b>"]
    if model.problem:
        lines.append(f"<b>Cannot run:</b> {escape(model.problem)}")
    if model.window_hu:
        low, high = model.window_hu
        lines.append(f"Works from {low:g} to {high:g} HU.")
    lines.append(f"Licence of the weights: {escape(model.license or 'not stated')}.")
    where = f"Runs on {', '.join(facts.devices)}." if facts.devices else ""
    known = str(model.card.get("speed", "")) or speed
    if where or known:
        lines.append(escape(f"{where} {known}".strip()))
    figures = model.card.get("figures", {})
    if figures:
        shown = [f"{_figure(name)} {value:.3g}" for name, value in figures.items()][:CARD_FIGURES]
        lines.append("Measured on patients it never saw: " + escape("; ".join(shown)) + ".")
    for limit in model.card.get("limits", ())[:3]:
        lines.append(f"Limit: {escape(str(limit))}")
    return "<br>".join(lines)


def _figure(name: str) -> str:
    """`seam_mask_only` -> "seam mask only"; HU stays a unit."""
    return " ".join("HU" if part == "hu" else part for part in name.split("_"))
