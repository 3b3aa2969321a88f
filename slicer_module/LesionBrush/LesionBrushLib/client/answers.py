"""What a server says, as types. Unknown keys are ignored, so that a newer server can say more."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from .wire import BrokenAnswer

ENDED = ("done", "failed", "cancelled", "expired")
STATES = ("queued", "running", *ENDED)
EDIT, VOLUME = "edit", "volume"
KINDS = ("volume", "mask", "layout", "text")
REFERENCE, OWN = "reference", "own"


@dataclass(frozen=True)
class Take:
    """Something that a model takes beside CT and mask. kind: one of KINDS; about: in a sentence.

    on: whose grid it lies on: REFERENCE, OWN, or the name of another input, with which it forms a pair.
    """

    name: str
    kind: str
    about: str = ""
    required: bool = False
    on: str = REFERENCE

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "Take":
        about, on = str(said.get("about") or ""), str(said.get("on") or REFERENCE)
        return cls(str(said["name"]), str(said["kind"]), about, bool(said.get("required")), on)


_ONCE = (
    Take("lungs", "mask", "both lungs; found by itself when left out"),
    Take("anatomy", "volume", "an anatomy map in HU, whose coarse structures the result follows"),
    Take("pathology", "volume", "the CT of another case, whose lesion the result follows", on=OWN),
    Take("pathology_mask", "mask", "the lesion in the CT of that other case", on="pathology"),
)
"""All that there was when servers said no more of inputs than their names."""


@dataclass(frozen=True)
class MadeFor:
    """Tissue that a model makes lesions in. name: after "lesions in"; hu: from, to; least_share: of the
    voxels under a mask, or around it, that have such HU."""

    name: str
    hu: "tuple[float, float]"
    least_share: float

    @classmethod
    def from_json(cls, said: Any) -> "Optional[MadeFor]":
        """None for what names no tissue in these words: it is for advice alone."""
        try:
            low, high = (float(end) for end in said["hu"])
            return cls(str(said["name"]), (low, high), float(said["least_share"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class ModelFacts:
    """A model of the server. card: what it says of itself; schema: JSON schema of its parameters;
    problem: why it cannot run, None when it can."""

    name: str
    card: dict[str, Any]
    schema: dict[str, Any]
    problem: Optional[str] = None

    @classmethod
    def from_json(cls, name: str, said: Mapping[str, Any]) -> "ModelFacts":
        made = cls(name, dict(said["card"]), dict(said.get("schema") or {}), said.get("problem"))
        return replace(made, problem=made.problem or made.too_new)

    @property
    def title(self) -> str:
        return str(self.card.get("title") or self.name)

    @property
    def makes(self) -> str:
        return str(self.card.get("makes", ""))

    @property
    def license(self) -> str:
        return str(self.card.get("weights_license", ""))

    @property
    def window_hu(self) -> Optional["tuple[float, float]"]:
        window = self.card.get("window_hu")
        return (float(window[0]), float(window[1])) if window else None

    @property
    def made_for(self) -> Optional[MadeFor]:
        return MadeFor.from_json(self.card.get("tissue"))

    @property
    def makes_volumes(self) -> bool:
        """Whole new CTs, from no CT and no mask."""
        return self._kind == VOLUME

    @property
    def needs_mask(self) -> bool:
        """False too for an edit of what its inputs say; servers from before there were such say nothing."""
        return not self.makes_volumes and self.card.get("needs_mask") is not False

    @property
    def takes(self) -> "tuple[Take, ...]":
        """What it takes beside CT and mask, as far as this module can send it."""
        return tuple(take for take in self._takes if take.kind in KINDS)

    @property
    def is_recommended(self) -> bool:
        """Whether it is the one to begin with in its tissue."""
        return self.card.get("recommended") is True

    @property
    def asks_for(self) -> "tuple[bool, bool, int, int]":
        """How much it asks of somebody new, to be sorted by: whether it is no edit of CT and mask; whether
        others are better to begin with; how much has to be chosen beside these; how much may be."""
        required = sum(take.required for take in self._takes)
        return (self._kind != EDIT, not self.is_recommended, required, len(self._takes))

    @property
    def takes_records(self) -> bool:
        """Whether the server wants to know where a synthetic reference came from."""
        return "kind" in self.card

    @property
    def too_new(self) -> Optional[str]:
        """Why this module cannot work with it, None when it can."""
        if self._kind not in (EDIT, VOLUME):
            return f"it makes a {self._kind!r}, which this module does not know: update the module"
        for take in self._takes:
            if take.required and take.kind not in KINDS:
                return f"it needs {take.name}, a {take.kind!r}, which this module cannot send: update it"
        return None

    @property
    def _kind(self) -> str:
        return str(self.card.get("kind", EDIT))

    @property
    def _takes(self) -> "tuple[Take, ...]":
        if "takes" in self.card:
            return tuple(Take.from_json(said) for said in self.card["takes"])
        return tuple(take for take in _ONCE if take.name in (self.card.get("inputs") or ()))

    @property
    def can_run(self) -> bool:
        return self.problem is None


@dataclass(frozen=True)
class ServerFacts:
    """What a server is."""

    version: str
    protocol: int
    models: dict[str, ModelFacts]
    limits: dict[str, Any] = field(default_factory=dict)
    devices: "tuple[str, ...]" = ()
    read_only: bool = False

    @classmethod
    def from_json(cls, said: Any) -> "ServerFacts":
        """From `GET /lesionbrush/v1/`. Raises BrokenAnswer for anything else."""
        try:
            models = {name: ModelFacts.from_json(name, facts) for name, facts in said["models"].items()}
            return cls(
                str(said["version"]),
                int(said["protocol"]),
                models,
                dict(said.get("limits") or {}),
                tuple(said.get("devices") or ()),
                bool(said.get("read_only", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenAnswer(f"this is not what a LesionBrush server says of itself: {error!r}") from error


@dataclass(frozen=True)
class StoredReference:
    """A CT on the server. reference: SHA-256 of its file; voxel_sha256: of its voxels (see `boxes`);
    shape: (i, j, k); sent: it was not there before."""

    reference: str
    voxel_sha256: str
    shape: "tuple[int, int, int]"
    bytes: int
    sent: bool = False

    @classmethod
    def from_json(cls, said: Any, sent: bool = False) -> "StoredReference":
        try:
            i, j, k = (int(length) for length in said["shape"])
            return cls(str(said["reference"]), str(said["voxel_sha256"]), (i, j, k), int(said["bytes"]), sent)
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenAnswer(f"this is no description of a reference: {error!r}") from error


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands. position: jobs before it in the queue; step of steps: of denoising, all variants
    together; variants: how many there are; accepted: image id by number of the variant, from 1."""

    id: str
    model: str
    state: str
    position: Optional[int] = None
    step: int = 0
    steps: int = 0
    seconds_left: Optional[float] = None
    estimated_seconds: Optional[float] = None
    variants: int = 1
    discarded: "tuple[int, ...]" = ()
    accepted: dict[int, str] = field(default_factory=dict)
    error_code: Optional[str] = None
    error_message: Optional[str] = None
    remarks: "tuple[str, ...]" = ()
    created: str = ""

    @classmethod
    def from_json(cls, said: Any) -> "JobStatus":
        """Raises BrokenAnswer for anything but a status."""
        try:
            error = said.get("error") or {}
            status = cls(
                id=str(said["id"]),
                model=str(said["model"]),
                state=str(said["state"]),
                position=said.get("position"),
                step=int(said.get("step") or 0),
                steps=int(said.get("steps") or 0),
                seconds_left=said.get("seconds_left"),
                estimated_seconds=said.get("estimated_seconds"),
                variants=int(said.get("variants") or 0),
                discarded=tuple(int(n) for n in said.get("discarded") or ()),
                accepted={int(n): str(image) for n, image in (said.get("accepted") or {}).items()},
                error_code=error.get("code"),
                error_message=error.get("message"),
                remarks=tuple(str(remark) for remark in said.get("remarks") or ()),
                created=str(said.get("created", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenAnswer(f"this is no status of a job: {error!r}") from error
        if status.state not in STATES:
            raise BrokenAnswer(f"a job cannot be {status.state!r}")
        return status

    @property
    def finished(self) -> bool:
        return self.state in ENDED

    @property
    def fraction(self) -> float:
        """0 to 1, for a progress bar."""
        if self.state == "done":
            return 1.0
        return min(self.step / self.steps, 1.0) if self.steps else 0.0


@dataclass(frozen=True)
class ConnectionReport:
    """What `test_connection` found. code: a stable name, "ok" when all is well; text: to be shown as it is;
    remarks: what a user should know even so."""

    ok: bool
    code: str
    text: str
    facts: Optional[ServerFacts] = None
    remarks: "tuple[str, ...]" = ()
