"""`python -m lesionbrush.cli COMMAND`: finds the command, runs it, and says in one line what went wrong."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from lesionbrush.cli.commands import GROUPS, list_commands
from lesionbrush.errors import LesionBrushError
from lesionbrush.server.collector import no_collections

COMMANDS = [name for commands in GROUPS.values() for name in commands]
BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143


class OneLineParser(ArgumentParser):
    """Says what is wrong with the arguments without repeating all that could be right."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 for a check that failed, 2 for bad input, 130 after Ctrl-C."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(f"usage: python -m lesionbrush.cli COMMAND [options]\n\n{list_commands(GROUPS)}")
        return 0
    if name not in COMMANDS:
        print(f"run.py: no command {name!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return BAD_INPUT
    with no_collections():
        command = import_module(f"lesionbrush.cli.{name.replace('-', '_')}")
    parser = OneLineParser(prog=f"run.py {name}", description=command.__doc__)
    command.add_arguments(parser)
    try:
        return int(command.run(_options(command, parser, rest)))
    except (LesionBrushError, OSError) as error:
        print(f"{parser.prog}: {_in_options(str(error), parser)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _options(command: ModuleType, parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """By the command's own `parse`, where what may be asked depends on what is."""
    if hasattr(command, "parse"):
        parsed: Namespace = command.parse(parser, arguments)
        return parsed
    return parser.parse_args(arguments)


def _in_options(said: str, parser: ArgumentParser) -> str:
    """A refusal of what was sent, in the words of the command that sent it."""
    from lesionbrush.cli.options import name_options

    return name_options(said, parser.format_help())


def exit_when_terminated() -> None:
    """Leave through every `finally`: what a command started is stopped, what is half done is removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows knows no SIGHUP, nohup ignores it
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(TERMINATED))


if __name__ == "__main__":
    exit_when_terminated()
    sys.exit(main(sys.argv[1:]))
