"""What the commands `generate` and `synthesize` have in common: the order, and the files that come of it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image

from lesionbrush.cli.files import number_paths
from lesionbrush.cli.options import add_device_argument, collect_inputs, files_of, require_taken
from lesionbrush.cli.outputs import VOLUME, Output, check_outputs, pictures, save_picture
from lesionbrush.core.provenance import Provenance
from lesionbrush.core.registry import InstalledModel, find_model
from lesionbrush.core.request import BaseRequest
from lesionbrush.core.volume import Volume
from lesionbrush.files.inputs import Sent
from lesionbrush.files.io import write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.systems.running import pick_device

RequestT = TypeVar("RequestT", bound=BaseRequest)
OrderT = TypeVar("OrderT", bound="CTOrder[Any]")
MadeT = TypeVar("MadeT")


def add_order_arguments(parser: ArgumentParser, drawn: str) -> None:
    """--out, --montage and --device, to be read with `CTOrder.of`. drawn: what the picture shows."""
    parser.add_argument("-o", "--out", type=Path, required=True, help="ct.nii.gz, ct.nii, ct.nrrd or ct.mha")
    parser.add_argument("--montage", type=Path, metavar="PNG", help=f"also draw {drawn}")
    add_device_argument(parser)


@dataclass(frozen=True, kw_only=True)
class CTOrder(Generic[RequestT]):
    """What is to be made, by which model. device: None is a GPU if there is one.

    out, montage: the result and its picture, with numbers where there are several variants.
    """

    model: InstalledModel
    request: RequestT
    out: Path
    inputs: Sent = field(default_factory=dict)
    montage: Path | None = None
    device: str | None = None

    @classmethod
    def of(cls: type[OrderT], options: Namespace, **own: Any) -> OrderT:
        """own: the request, and what only this kind of order has. Raises UnknownModel."""
        return cls(
            model=find_model(options.model),
            out=options.out,
            inputs=collect_inputs(options),
            montage=options.montage,
            device=options.device,
            **own,
        )

    @property
    def paths(self) -> list[Path]:
        """Of the results, one per variant."""
        return number_paths(self.out, self.request.variants)

    @property
    def drawings(self) -> list[Path]:
        """Of the pictures, if they are asked for."""
        return number_paths(self.montage, self.request.variants) if self.montage else []

    def check(self, beside: Iterable[Path] = (), read: Iterable[Path] = ()) -> None:
        """Raise InvalidRequest for what the model does not take, and files that cannot be written.

        beside: files that are written beside the results, and replaced with
        them alone; read: those that are read beside the inputs. Nothing is read or made here.
        """
        again = any(path.exists() for path in self.paths)
        wanted = [Output(path, VOLUME, recorded=True) for path in self.paths]
        written = [*wanted, *(Output(path, new=not again) for path in beside), *pictures(*self.drawings)]
        check_outputs(written, [*read, *files_of(self.inputs)])
        require_taken(self.inputs, self.model.card)
        pick_device(self.device)

    def keep(
        self,
        made: Sequence[MadeT],
        save: Callable[[MadeT, Path], None],
        draw: Callable[[MadeT], Image.Image],
    ) -> None:
        """Save every variant, then draw each, where pictures are asked for."""
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        for variant, path in zip(made, self.paths, strict=True):
            save(variant, path)
        for variant, path in zip(made if self.drawings else [], self.drawings, strict=True):
            save_picture(draw(variant), path)
            print(path)


def write_result(ct: Volume, record: Provenance, path: Path) -> None:
    """A CT with its record beside it; what its user should know is said as well."""
    write_volume(ct, path, record.note)
    write_sidecar(record, path)
    for remark in record.remarks:
        print(remark, file=sys.stderr)
