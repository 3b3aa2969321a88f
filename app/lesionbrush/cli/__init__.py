"""The commands of `run.py`, one module each: `add_arguments(parser)` and `run(options) -> exit code`."""
