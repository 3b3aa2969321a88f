"""The part of `run.py models` that adds and removes published weights."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from types import TracebackType
from typing import Any

from tqdm import tqdm

from lesionbrush.cli.outputs import check_folder, require_room
from lesionbrush.core.registry import models_dir
from lesionbrush.errors import InvalidRequest
from lesionbrush.published.adding import WeightsOrder, add, check_order
from lesionbrush.published.catalogue import CATALOGUE, KnownModel, find_known
from lesionbrush.published.models import check_removable, find_published, list_published, remove


def add_actions(actions: Any) -> None:
    """`add` and `remove`, for the subparsers of `models`."""
    adding: ArgumentParser = actions.add_parser(
        "add", help="check published weights and put them among the models"
    )
    adding.add_argument("name", help="as in `models list`")
    adding.add_argument(
        "--from",
        dest="sources",
        action="append",
        metavar="FILE_OR_URL",
        help="the weights as published, or their https address; once for each of several files",
    )
    adding.add_argument(
        "--accept-licence",
        "--accept-license",
        metavar="LICENCE",
        help='the licence of the weights, as `models show NAME` names it; "unstated" where there is none',
    )
    adding.add_argument(
        "--sha256", type=_sha256, metavar="HEX", help="refuse the file unless it has this SHA-256"
    )
    adding.add_argument("--size-bytes", type=int, metavar="N", help="refuse the file unless it has this size")
    adding.set_defaults(action=add_model)
    removing: ArgumentParser = actions.add_parser(
        "remove", help="delete a model that was added or trained here"
    )
    removing.add_argument("name")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    removing.set_defaults(action=remove_model)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ArgumentTypeError("a SHA-256 is 64 hexadecimal digits")
    return text.lower()


def add_model(options: Namespace) -> int:
    known = find_known(options.name)
    print(f"{known.title} ({known.reference})\nLicence. {known.terms()}", flush=True)
    source, *more = options.sources or [""]
    order = WeightsOrder(
        known, source, options.accept_licence, options.sha256, options.size_bytes, tuple(more)
    )
    check_order(order)
    if not order.source:
        raise InvalidRequest(f"get {known.file} from {known.page} and give its path: {known.options}")
    check_folder(models_dir())
    require_room([models_dir()], order.size_bytes or known.size_bytes or 0)
    with _ByteBar() as bar:
        model = add(order, bar)
    origin = model.card.origin
    print(f"{known.name}: every tensor has its place; a server that is started now offers it")
    compared = (
        "as expected" if origin.sha256_expected else "recorded; there was no known value to compare it with"
    )
    print(f"SHA-256 of the published file {origin.sha256} ({compared})")
    print(f"Note: {known.reason}")
    return 0


def remove_model(options: Namespace) -> int:
    check_removable(options.name)
    if not options.yes:
        if not sys.stdin.isatty():
            raise InvalidRequest(f"this deletes {options.name!r}: repeat it with --yes")
        if input(f"Delete the model {options.name!r}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was changed")
            return 1
    print(f"{options.name}: removed ({remove(options.name) / 1e6:.1f} MB)")
    return 0


def describe_published() -> list[str]:
    """What can be added, and what cannot yet with the reason."""
    names = {model.card.model.name for model in list_published()}
    can = [known for known in CATALOGUE if known.addable and known.name not in names]
    cannot = [known for known in CATALOGUE if not known.addable]
    return _section("Can be added (models add NAME):", can) + _section("Known, cannot be added:", cannot)


def _section(title: str, models: list[KnownModel]) -> list[str]:
    lines = [
        f"  {known.name}: {known.makes} ({known.weights_license}) Note: {known.reason}" for known in models
    ]
    return ["", title, *lines] if lines else []


def show_origin(name: str) -> None:
    """For an added model, where it came from."""
    if any(model.folder.name == name for model in list_published()):
        print(f"\nAdded: {find_published(name).card.model_dump_json(indent=2)}")


def show_known(name: str) -> None:
    """What the catalogue knows of a model that is not there. UnknownModel."""
    known = find_known(name)
    print(known.model_dump_json(indent=2, exclude_none=True))
    print(f"\nNot added. {known.terms()}\nNote: {known.reason}")


class _ByteBar:
    """A progress bar in bytes; nothing is shown for a file that is already here."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = tqdm(desc="download", unit="B", unit_scale=True, total=total, leave=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> _ByteBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
