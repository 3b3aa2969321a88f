"""What a server says, as types. Unknown keys are ignored, so that a newer server can say more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from .wire import BrokenAnswer

ENDED = ("done", "failed", "cancelled", "expired")
STATES = ("queued", "running", *ENDED)


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
        card = said.get("card") or {k: v for k, v in said.items() if k not in ("schema", "problem")}
        return cls(name, dict(card), dict(said.get("schema") or {}), said.get("problem"))

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
    def inputs(self) -> "tuple[str, ...]":
        """Names of the volumes it takes beside CT and mask; none for a server that knows no such thing."""
        return tuple(str(name) for name in self.card.get("inputs") or ())

    @property
    def can_run(self) -> bool:
        return self.problem is None


@dataclass(frozen=True)
class ServerFacts:
    """What a server is. protocol: 0 for one without job routes."""

    version: str
    protocol: int
    models: dict[str, ModelFacts]
    limits: dict[str, Any] = field(default_factory=dict)
    devices: "tuple[str, ...]" = ()
    read_only: bool = False

    @property
    def has_jobs(self) -> bool:
        return self.protocol > 0

    @classmethod
    def from_json(cls, said: Any) -> "ServerFacts":
        """From `GET /lesionbrush/v1/`, or from `GET /info/` of a server without job routes.

        Raises BrokenAnswer for what is neither.
        """
        try:
            models = {name: ModelFacts.from_json(name, facts) for name, facts in said["models"].items()}
            return cls(
                str(said["version"]),
                int(said.get("protocol", 0)),
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
