"""Measure a model on patients it never saw: figures.json, and a sheet of real beside synthetic."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from lesionbrush.registry import find_model
from lesionbrush.training.evaluate import evaluate
from lesionbrush.training.export import update_card


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="name of an installed model")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its training data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cases", type=int, default=0, metavar="N", help="use only N nodules")
    parser.add_argument("--update-card", action="store_true", help="write the figures into the model's card")


def run(options: Namespace) -> int:
    figures = evaluate(options.model, options.data, options.out, options.cases)
    for name, value in asdict(figures).items():
        print(f"{name}: {value:g}")
    print(f"{options.out / 'figures.json'}, {options.out / 'sheet.png'}")
    if options.update_card:
        update_card(find_model(options.model).folder, figures=asdict(figures))
    return 0
