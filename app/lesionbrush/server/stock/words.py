"""Words of MONAI Label that its clients send among a model's parameters, see the table in docs/wire.md.

Some are honoured, some mean nothing here and are passed over. All others are the model's own parameters, and
are checked as such. No word is ever a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionbrush.errors import InvalidRequest

LESION = "lesion"
SCRIBBLES = "foreground_scribbles"
"""What the Slicer plugin calls the segment that its scribbles tool paints."""

CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSED_OVER = frozenset(
    ("result_compress", "restore_label_idx", "logging", "largest_cc", "model_filename", "roi")
)
_HELP = {"result_dtype": "; int16 is the CT, uint8 and uint16 are the label map of the lesion"}
_Name = Annotated[str, Field(max_length=256)]
_Value = Annotated[int, Field(ge=0, le=65535)]


class LabelInfo(BaseModel):
    """What a value of a label map stands for. Run says `id`, Submit says `idx`; nothing else is used."""

    name: _Name = ""
    id: _Value | None = None
    idx: _Value | None = None

    @property
    def value(self) -> int | None:
        return self.id if self.idx is None else self.idx


class Words(BaseModel):
    """client_id: who asks; device: one of the server's; label_info: of the mask that was sent with them."""

    model_config = ConfigDict(frozen=True)

    client_id: Any = None
    result_extension: Literal[".nii", ".nii.gz", ".nrrd", ".mha"] | None = None
    result_dtype: Literal["int16", "uint8", "uint16"] = "int16"
    device: _Name | None = None
    selected_label_name: _Name = LESION
    label_info: Annotated[tuple[LabelInfo, ...], Field(max_length=1000)] = ()

    @property
    def wants_label_map(self) -> bool:
        return self.result_dtype != "int16"

    def values_of(self, *names: str) -> list[int]:
        """Which values of the mask have one of these names; 0 is what is not labelled."""
        named = [info.value for info in self.label_info if info.name in names]
        return [value for value in named if value]


def split(params: str) -> tuple[Words, Any]:
    """MONAI Label's words, and the rest as `request.parse_request` takes it; what is no object stays so.

    Raises InvalidRequest.
    """
    try:
        values = json.loads(params)
    except (ValueError, RecursionError):  # said better where the rest is checked
        return Words(), params
    if not isinstance(values, dict):
        return Words(), values
    words = {name: value for name, value in values.items() if name in Words.model_fields}
    rest = {name: value for name, value in values.items() if name not in _PASSED_OVER and name not in words}
    return understand(words), rest


def understand(values: dict[str, Any]) -> Words:
    """Raises InvalidRequest, with the value."""
    try:
        return Words.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("; ".join(_sentence(dict(item)) for item in error.errors())) from error


def require_device(words: Words, there: Sequence[str]) -> None:
    """InvalidRequest for a device this server does not compute on. Which of its own, the queue decides."""
    kinds = {name.partition(":")[0] for name in there}
    if words.device is not None and words.device not in (*there, *kinds):
        raise InvalidRequest(
            f"device: {words.device!r} is not here; this server computes on {', '.join(there)}"
        )


def client_name(client_id: object, address: str) -> str:
    """Who asks, for the fair order of jobs and the record of a case; many leave `client_id` as it was set."""
    named = isinstance(client_id, str) and CLIENT.fullmatch(client_id)
    return f"{client_id}@{address}" if named else address


def _sentence(item: dict[str, Any]) -> str:
    name = ".".join(map(str, item["loc"]))
    return f"{name}: {item['msg']} (got {item['input']!r}){_HELP.get(name, '')}"
