"""What `transfer` writes down: a row for every lesion, in the record of its case and in one table of all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lesionbrush.errors import DamagedFile
from lesionbrush.files.durable import whole_files
from lesionbrush.transfer.patients import Attempt
from lesionbrush.transfer.results import Move, Refused

RECORD, TABLE = "transfer.json", "transfer.csv"
PLACES = ("shift_mm", "centre_mm")


@dataclass(frozen=True)
class TransferRow:
    """One lesion of a case, and what became of it. move: None for one that was refused, then `why` and
    `reason` say more; model: that made the CT, "" for none.
    """

    case: str
    lesion: int
    organ: str | None
    into: str | None
    why: str = ""
    reason: str = ""
    move: Move | None = None
    model: str = ""

    @classmethod
    def of(cls, case: str, attempt: Attempt, model: str) -> TransferRow:
        number, organ, into, result = attempt.number, attempt.organ, attempt.into, attempt.result
        if isinstance(result, Refused):
            return cls(case, number, organ, into, result.why, result.reason)
        return cls(case, number, organ, into, move=result.move, model=model)

    @property
    def carried(self) -> bool:
        return self.move is not None

    def columns(self) -> dict[str, object]:
        """As the table has them: a place is three columns, along the patient's right, front and up."""
        found: dict[str, object] = {"case": self.case, "lesion": self.lesion, "carried": self.carried}
        found |= {"organ": self.organ, "into": self.into, "model": self.model}
        found |= {"why": self.why, "reason": self.reason}
        for field in fields(Move):
            value = None if self.move is None else getattr(self.move, field.name)
            if field.name not in PLACES:
                found[field.name] = _rounded(value)
                continue
            for axis, part in zip(("right", "front", "up"), value or (None,) * 3, strict=True):
                found[f"{field.name.removesuffix('_mm')}_{axis}_mm"] = _rounded(part)
        return found

    def __str__(self) -> str:
        start = f"{self.case}, lesion {self.lesion}"
        if self.move is None:
            return f"{start}: refused ({self.why}): {self.reason}"
        organs = self.into if self.organ == self.into else f"{self.organ or 'unknown organ'} to {self.into}"
        mirrored = ", mirrored" if self.move.mirrored else ""
        return f"{start}: {organs}, {self.move.volume_ml:.2f} ml, scaled by {self.move.scale:.2f}{mirrored}"


@dataclass(frozen=True)
class TransferRecord:
    """Beside the mask of a case. asked: a digest of what it was made with; source: of the lesions' files."""

    asked: str
    source: str
    rows: tuple[TransferRow, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> TransferRecord:
        """Raises DamagedFile."""
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(_read_row(row) for row in said["rows"])
            return cls(str(said["asked"]), str(said["source"]), rows)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedFile(
                f"{path.parent.name}/{path.name} is no record of run.py transfer: remove that folder, or "
                "choose another one for the results"
            ) from error


def _read_row(row: Mapping[str, Any]) -> TransferRow:
    move = row["move"]
    if move is not None:
        places = {name: None if move[name] is None else tuple(move[name]) for name in PLACES}
        move = Move(**{**move, **places})
    return TransferRow(**{**row, "move": move})


def find_records(out: Path) -> Iterator[TransferRecord]:
    """Of all cases in a folder, by name. Raises DamagedFile."""
    for path in sorted(out.glob(f"*/{RECORD}")):
        yield TransferRecord.read(path)


def write_table(rows: Sequence[TransferRow], path: Path) -> None:
    """At least one row, all or nothing. Raises StorageFull."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0].columns()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.columns() for row in rows)
    with whole_files(path) as (draft,):
        draft.write_text(text.getvalue(), encoding="utf-8")


def summarise(rows: Sequence[TransferRow]) -> str:
    """`5 of 7 lesions carried; refused: 1 no_room, 1 taken`."""
    carried = sum(row.carried for row in rows)
    whys = [row.why for row in rows if not row.carried]
    refused = ", ".join(f"{whys.count(why)} {why}" for why in sorted(set(whys)))
    return f"{carried} of {len(rows)} lesions carried" + (f"; refused: {refused}" if refused else "")


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
