"""What is to be made, as the routes hand it on: checked, with its files in place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import file_sha256
from lesionbrush.core.request import BaseRequest


@dataclass(frozen=True)
class ReferenceCT:
    """The CT that is to be edited. path: a file, or a folder with one DICOM series.

    image: its id, of one in the studies; sha256: of one that was uploaded and is kept. One that came with the
    request, and goes with it, has neither.
    """

    path: Path
    image: str | None = None
    sha256: str | None = None

    @property
    def stays(self) -> bool:
        """It will be asked for again."""
        return self.image is not None or self.sha256 is not None


@dataclass(frozen=True)
class Order:
    """reference, mask: of an edit, whose system may need no mask; a whole new CT has neither.

    inputs: files by the names of their parts; made_from: the record of the reference, where that is
    synthetic itself.
    """

    model: str
    request: BaseRequest
    reference: ReferenceCT | None = None
    mask: Path | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    made_from: Provenance | None = None

    @property
    def steps(self) -> int:
        """Over all variants."""
        return self.request.steps * self.request.variants

    @property
    def files(self) -> dict[str, Path]:
        """What came with the order, the CT aside."""
        return {**({} if self.mask is None else {"label": self.mask}), **self.inputs}

    def move_to(self, folder: Path) -> Order:
        """The same; what came with it is in `folder` now. Raises OSError."""
        moved = {name: Path(shutil.move(path, folder / path.name)) for name, path in self.files.items()}
        inputs = {name: moved[name] for name in self.inputs}
        return replace(self, mask=moved.get("label"), inputs=inputs)

    def digest(self) -> str:
        """Of all that was asked for, the bytes of the mask and of the inputs included."""
        named = None if self.reference is None else (self.reference.image, self.reference.sha256)
        record = None if self.made_from is None else self.made_from.model_dump_json()
        files = sorted(self.files.items())
        contents = [(name, file_sha256(path)) for name, path in files]
        said = (self.model, self.request.model_dump_json(), named, record, contents)
        return sha256(repr(said).encode()).hexdigest()
