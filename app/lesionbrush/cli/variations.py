"""One lesion of another case, followed more and less strictly by mDDPM: a sheet over factors and stops."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lesionbrush.cli.options import (
    add_device_argument,
    add_input_arguments,
    add_request_arguments,
    collect_inputs,
    files_of,
    request_from,
    require_taken,
)
from lesionbrush.cli.outputs import (
    VOLUME,
    Output,
    check_folder,
    check_outputs,
    pictures,
    require_room,
    require_same_origin,
    save_picture,
)
from lesionbrush.cli.progress import StepBar
from lesionbrush.core.inputs import check_inputs
from lesionbrush.core.model import OnEstimate, OnStep
from lesionbrush.core.registry import ModelCard, find_model
from lesionbrush.core.rois import RoiBatch, Sampled
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.core.volume import mask_on_grid, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import write_sidecar
from lesionbrush.montage import LUNG, SOFT, Panel, lesion_view, sheet
from lesionbrush.systems import load_model
from lesionbrush.systems.mddpm.guidance_images import guidance_images
from lesionbrush.systems.mddpm.hooks import HOOKS
from lesionbrush.systems.mddpm.request import Guide, MDDPMRequest
from lesionbrush.systems.running import pick_device

AXES = {"mddpm": (2, 3), "mddpm_3d": (1, 2, 3)}
"""By system: of (L, Z, Y, X), those that its guides are filtered along."""
GUIDES = ("pathology", "reference", "anatomy")
WINDOWS = {"lung": LUNG, "soft": SOFT}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ct", type=Path, metavar="CT")
    parser.add_argument("mask", type=Path, metavar="MASK", help="the painted lesion")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--model", default="mddpm_3d", help="of system mddpm or mddpm_3d (%(default)s)")
    parser.add_argument("--guide", choices=GUIDES, default="pathology", help="whose strength varies")
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4, 8], metavar="N", help="rows")
    parser.add_argument(
        "--stops", type=float, nargs="+", default=[0.0, 0.1, 0.3], metavar="A", help="columns"
    )
    parser.add_argument("--window", choices=WINDOWS, default="lung")
    parser.add_argument("--field-mm", type=float, default=56.0, help="side of the box shown (%(default)s)")
    parser.add_argument("--volumes", type=Path, metavar="DIR", help="also write every CT, with its record")
    add_device_argument(parser)
    add_request_arguments(parser)
    add_input_arguments(parser)


def run(options: Namespace) -> int:
    installed = find_model(options.model)
    if installed.card.system not in AXES:
        raise InvalidRequest(f"{options.model} is no model of mDDPM: variations needs {' or '.join(AXES)}")
    requests = list(vary(request_from(options), options))
    paths = outputs(options, requests)
    require_taken(collect_inputs(options), installed.card)
    pick_device(options.device)
    reference = require_ct(read_volume(options.ct))
    require_same_origin(paths, reference)
    require_room(paths, reference.array.nbytes)
    mask = read_volume(options.mask)
    inputs = read_inputs(collect_inputs(options), HOOKS.inputs)
    view = lesion_view(mask_on_grid(mask, reference, requests[0].label), options.field_mm)
    check_inputs(inputs, HOOKS.inputs, reference)
    for request in requests:  # the last one may not fit, which the first ones would be sampled in vain for
        synthesize(reference, mask, request, Rehearsal(installed.card), inputs)
    model = load_model(installed, options.device)
    window, remarks = WINDOWS[options.window], dict[str, None]()
    panels = [view.panel(reference, window, "")]
    for k, request in enumerate(requests):
        with StepBar() as bar:
            made = synthesize(reference, mask, request, model, inputs, on_step=bar)[0]
        panels.append(_caption(view.panel(made.volume(), window, ""), getattr(request, options.guide)))
        remarks |= dict.fromkeys(made.provenance.remarks)
        if paths:
            save(made, paths[k])
    print("".join(f"{remark}\n" for remark in remarks), end="", file=sys.stderr)
    title = (
        f"{options.model}, seed {requests[0].seed}: reference, then {options.guide} by factor n and stop a"
    )
    save_picture(sheet(_rows(panels, len(options.stops)), len(options.stops), title=title), options.out)
    print(options.out)
    return 0


@dataclass
class Rehearsal:
    """In the place of a model: looks whether a request can be followed, and samples nothing."""

    card: ModelCard
    hooks = HOOKS

    def sample(
        self,
        rois: RoiBatch,
        request: MDDPMRequest,
        seeds: Sequence[int],
        on_step: OnStep,
        on_estimate: OnEstimate | None = None,
    ) -> Sampled:
        """The tissue as it is. Raises InvalidRequest."""
        guidance_images(rois, request, AXES[self.card.system])
        return Sampled(np.stack([rois.reference_hu for _ in seeds]), "none")


def outputs(options: Namespace, requests: Sequence[MDDPMRequest]) -> list[Path]:
    """The volumes, one per request, if they are asked for. Raises InvalidRequest."""
    paths: list[Path] = []
    if options.volumes:
        check_folder(options.volumes)
        guides: list[Guide] = [getattr(request, options.guide) for request in requests]
        paths = [options.volumes / f"n{guide.factor}-a{guide.stop:g}.nii.gz" for guide in guides]
    wanted = [Output(path, VOLUME, recorded=True) for path in paths]
    inputs = [options.ct, options.mask, *files_of(collect_inputs(options))]
    check_outputs([*pictures(options.out), *wanted], inputs)
    return paths


def vary(request: object, options: Namespace) -> Iterator[MDDPMRequest]:
    """The request with the guide at every factor and stop. InvalidRequest for a value that cannot be."""
    assert isinstance(request, MDDPMRequest)
    for factor in options.factors:
        for stop in options.stops:
            try:
                guide = Guide(factor=factor, stop=stop)
            except ValidationError as error:
                raise InvalidRequest(f"factor {factor}, stop {stop:g}: {error.errors()[0]['msg']}") from error
            yield request.model_copy(update={options.guide: guide, "variants": 1})


def save(made: Synthesis, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(made.volume(), path, made.provenance.note)
    write_sidecar(made.provenance, path)


def _caption(panel: Panel, guide: Guide) -> Panel:
    return Panel(
        panel.hu, panel.spacing_mm, panel.window, f"n {guide.factor}, a {guide.stop:g}", badge="SYNTHETIC"
    )


def _rows(panels: list[Panel], columns: int) -> list[Panel]:
    """The reference at the head of a row of its own."""
    empty = [Panel(0 * panels[0].hu - 2000, panels[0].spacing_mm, panels[0].window)] * (columns - 1)
    return [panels[0], *empty, *panels[1:]]
