"""Put a synthetic lesion into a chest CT, over a real server, as 3D Slicer would.

Without --ct a phantom chest is made; without --mask a place for a lesion is proposed, in lung or, with
--organ liver, in the liver of the phantom. --model: any of those that `python3 run.py models list` names;
some take volumes beside CT and mask.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from LesionBrushLib.client import SUFFIXES, JobClient, Order, Result, Upload, Watch

from lesionbrush.cli.files import ChangedVoxels, changes_on_disk, number_paths, volume_suffix
from lesionbrush.cli.local_server import asking, local_server
from lesionbrush.cli.options import (
    add_input_arguments,
    add_request_arguments,
    collect_inputs,
    edit_from,
    files_of,
    option_of,
    require_taken,
)
from lesionbrush.cli.outputs import (
    VOLUME,
    Output,
    check_folder,
    check_outputs,
    pictures,
    reports,
    require_room,
    save_picture,
)
from lesionbrush.cli.progress import Phases
from lesionbrush.core.inputs import Inputs, check_inputs
from lesionbrush.core.model import EditHooks, around_mask
from lesionbrush.core.registry import ModelCard, find_model, list_models, verify_weights
from lesionbrush.core.request import EditRequest
from lesionbrush.core.volume import Volume, mask_on_grid, require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.inputs import read_inputs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import sidecar_path
from lesionbrush.montage import montage
from lesionbrush.phantom.chest import Phantom, chest_phantom, lung_mask, propose_lesion
from lesionbrush.systems import DEFAULT_MODEL, find_system

FIELD_MM = 96.0
MODELS = {"lung": DEFAULT_MODEL, "liver": "soft_tissue_lesion"}
"""What the demo shows in an organ, unless --model says otherwise."""
_RECORD = re.compile(r"synthetic_ct(-\d+)?\.provenance\.json")
_LEFT_BEHIND = re.compile(
    rf"(reference|mask|may_also_change|synthetic_ct(-\d+)?)(\.nii|\.nii\.gz|\.nrrd|\.mha)|{_RECORD.pattern}|"
    r"montage(-\d+)?\.png|server\.log"
)
HEADING = """LesionBrush demo: a lesion painted on a CT becomes a CT with that lesion.
Not a medical device. What comes out is synthetic.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--ct", type=Path, metavar="FILE|FOLDER", help="your own CT instead of the phantom")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="your own lesion mask; needs --ct")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="default: %(default)s")
    parser.add_argument("--lesion-mm", type=float, default=18.0, help="its diameter (default: %(default)g)")
    parser.add_argument(
        "--organ", choices=MODELS, default="lung", help="where it goes (default: %(default)s)"
    )
    words = "; ".join(f"{organ}: {model}" for organ, model in MODELS.items())
    parser.add_argument("--model", help=f"an installed model (default: by the organ; {words})")
    add_request_arguments(parser)
    add_input_arguments(parser)


@dataclass(frozen=True)
class DemoCase:
    """The files of one demo. ct: the reference as it is sent; mask: 0/1 on its grid; inputs: other volumes as
    they are sent; also: what may change beside mask and margin, on the grid of the CT, or None."""

    out: Path
    ct: Path
    mask: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    also: Path | None = None

    @property
    def synthetic(self) -> Path:
        return self.out / f"synthetic_ct{volume_suffix(self.ct)}"

    def synthetic_paths(self, variants: int) -> list[Path]:
        """One for each; a single one has no number."""
        return number_paths(self.synthetic, variants)

    def picture_of(self, synthetic: Path) -> Path:
        stem = synthetic.name.removesuffix(volume_suffix(synthetic))
        return self.out / f"{stem.replace('synthetic_ct', 'montage')}.png"

    @property
    def region(self) -> Path:
        """Where that goes, for a request that may change more."""
        return self.out / "may_also_change.nii.gz"

    @property
    def log(self) -> Path:
        return self.out / "server.log"


def run(options: Namespace) -> int:
    """0, or 1 if a voxel outside the edit region differs."""
    options.model = options.model or _model_for(options.organ)
    request, card = _check_request(options), find_model(options.model).card
    require_taken(collect_inputs(options), card)
    case = _case(options)
    _check_outputs(case, options, request)
    inputs = read_inputs(collect_inputs(options), find_system(card.system).inputs)
    print(HEADING, flush=True)
    _name_what_was_not_given(card, inputs)
    phases = Phases()
    case = _prepare(case, options, request, inputs, phases)
    result = _over_http(case, options.model, request, phases)
    with phases.phase("drawing, and comparing the files on disk"):
        drawn = [_draw(case, path, options.model) for path in result.paths]
        changes = [
            changes_on_disk(case.ct, case.mask, path, request.reach_mm, case.also) for path in result.paths
        ]
    _report(case, result, changes, drawn)
    return 1 if any(change.outside for change in changes) else 0


def _model_for(organ: str) -> str:
    """Raises InvalidRequest when it is not installed."""
    wanted, installed = MODELS[organ], [model.card.name for model in list_models()]
    if wanted not in installed:
        raise InvalidRequest(
            f"the demo in the {organ} needs the model {wanted}, which is not installed: add its folder to "
            f"models/, or choose with --model ({', '.join(installed) or 'none is installed'})"
        )
    return wanted


def _check_request(options: Namespace) -> EditRequest:
    """The request, once everything that can be known to fail has not."""
    request = edit_from(options)
    if options.mask and not options.ct:
        raise InvalidRequest("--mask belongs to a CT: name it with --ct")
    if options.ct and not options.mask and options.organ != "lung":
        raise InvalidRequest(
            f"--organ {options.organ} finds a place in the phantom alone: give --mask with --ct"
        )
    if request.output != "volume":
        raise InvalidRequest("the demo compares whole volumes: leave out --param output")
    verify_weights(find_model(options.model))
    return request


def _case(options: Namespace) -> DemoCase:
    out, given = options.out, collect_inputs(options)
    sent = {name: _as_sent(value, out, name) for name, value in given.items() if isinstance(value, Path)}
    if len(sent) < len(given) or any(name.endswith("_names") for name in sent):
        raise InvalidRequest("the demo sends volumes alone: use  run.py synthesize for texts and layouts")
    return DemoCase(out, _as_sent(options.ct, out), out / "mask.nii.gz", sent)


def _check_outputs(case: DemoCase, options: Namespace, request: EditRequest) -> None:
    """Raises InvalidRequest for a file of the demo that could not be written, or is one of the user's."""
    check_folder(case.out)
    own = [options.ct, *files_of(collect_inputs(options))]
    made = [case.mask, *(path for path in (case.ct, *case.inputs.values()) if path not in own)]
    made += [case.region]
    synthetic = case.synthetic_paths(request.variants)
    wanted = [Output(path, VOLUME, recorded=True) for path in synthetic]
    drawn = pictures(*map(case.picture_of, synthetic))
    if _is_of_a_demo(case.out):
        drawn = [replace(one, endings=()) for one in drawn]
    check_outputs(
        [*(Output(path, VOLUME) for path in made), *wanted, *drawn, *reports(case.log)], [*own, options.mask]
    )


def _is_of_a_demo(folder: Path) -> bool:
    """True where there is a result of ours and nothing else than a demo leaves: its pictures are ours also
    where an older version drew them, which did not say so."""
    names = [path.name for path in folder.glob("*")]
    return any(map(_RECORD.fullmatch, names)) and all(map(_LEFT_BEHIND.fullmatch, names))


def _name_what_was_not_given(card: ModelCard, inputs: Inputs) -> None:
    """A model may need some of it, which only the model knows; the server says so then."""
    lacking = [one for one in find_system(card.system).inputs if one.name not in set(inputs.names())]
    if lacking:
        print(f"{card.name} takes more than a CT and a mask. Not given:")
        for one in lacking:
            print(f"  {option_of(one.name)} FILE  {one.about}")
        print(flush=True)


def _prepare(
    case: DemoCase, options: Namespace, request: EditRequest, inputs: Inputs, phases: Phases
) -> DemoCase:
    """The case with its files written. Raises what reading them and looking at them raises."""
    phantom = None
    if options.ct is None:
        with phases.phase("making a chest phantom CT"):
            phantom = chest_phantom(request.seed)
            reference = phantom.volume
    else:
        with phases.phase(f"reading {options.ct.name}"):
            reference = require_ct(read_volume(options.ct))
    what = "reading the mask" if options.mask else f"finding a place for a lesion of {options.lesion_mm:g} mm"
    with phases.phase(what):
        mask = _mask(options, request, reference, phantom)
    system = find_system(find_model(options.model).card.system)
    check_inputs(inputs, system.inputs, reference)
    made = {case.mask: mask}
    made |= {case.ct: reference} if case.ct != options.ct else {}
    made |= {
        path: inputs.volumes()[name] for name, path in case.inputs.items() if path != getattr(options, name)
    }
    require_room([*made, *case.synthetic_paths(request.variants)], reference.array.nbytes)
    case.out.mkdir(parents=True, exist_ok=True)
    for path, volume in made.items():
        write_volume(volume, path)
    assert isinstance(system.hooks, EditHooks)
    if system.hooks.region is around_mask:
        return case
    with phases.phase("looking what may change beside the lesion"):
        return _with_region(case, system.hooks, inputs, request)


def _with_region(case: DemoCase, hooks: EditHooks, inputs: Inputs, request: EditRequest) -> DemoCase:
    """The case with what may change beside mask and margin, found in the files as the server finds it.

    In the volumes in memory a few voxels differ: the files have their spacing in fewer digits.
    """
    ct = require_ct(read_volume(case.ct))
    label = request.model_copy(update={"label": None})
    scope = hooks.region(ct, read_volume(case.mask), inputs, label)
    if scope.also is None:
        return case
    write_volume(ct.with_array(scope.also.astype(np.uint8)), case.region)
    return replace(case, also=case.region)


def _mask(options: Namespace, request: EditRequest, reference: Volume, phantom: Phantom | None) -> Volume:
    if options.mask:
        return mask_on_grid(read_volume(options.mask), reference, request.label)
    liver = phantom.liver if phantom is not None and options.organ == "liver" else None
    organ = liver or lung_mask(reference)
    return propose_lesion(reference, organ, options.lesion_mm, np.random.default_rng(request.seed))


def _as_sent(given: Path | None, out: Path, name: str = "reference") -> Path:
    """A volume's own file if a server takes its type, else a NIfTI of it, which is what Slicer would send."""
    if given is not None and given.is_file() and given.name.lower().endswith(SUFFIXES):
        return given
    return out / f"{name}.nii.gz"


def _over_http(case: DemoCase, model: str, request: EditRequest, phases: Phases) -> Result:
    params = request.model_dump(mode="json", exclude={"label"})  # the mask that is sent has only one
    inputs = {name: Upload.of(path) for name, path in case.inputs.items()}
    order = Order(model, Upload.of(case.mask), Upload.of(case.ct), params, inputs)
    with ExitStack() as stack:
        studies = Path(stack.enter_context(TemporaryDirectory(prefix="lesionbrush-demo-")))
        with phases.phase("starting the server"):
            started, _ = stack.enter_context(local_server(studies, case.log))
        stack.enter_context(asking())
        client = JobClient(started.url)
        with phases.phase("sending the CT"):
            client.put_reference(case.ct)
        with phases.steps("sending the mask, synthesizing (Ctrl-C cancels)") as bar:
            watch = Watch(on_status=lambda job: bar(job.step, job.steps))
            outcome = client.synthesize(order, watch)
        with phases.phase("getting the synthetic CT"):
            paths = case.synthetic_paths(len(outcome.boxes))
            for n, path in enumerate(paths, 1):
                client.download_volume(str(outcome.job_id), n, path)
        return Result(paths, outcome.provenances, outcome.provenances[0]["seconds"])


def _draw(case: DemoCase, synthetic: Path, model: str) -> Path:
    reference, mask, result = require_ct(read_volume(case.ct)), read_volume(case.mask), read_volume(synthetic)
    picture = case.picture_of(synthetic)
    field_mm = None if case.also else FIELD_MM
    drawn = montage(reference, mask, result, title=f"{model}: {synthetic.name}", field_mm=field_mm)
    save_picture(drawn, picture)
    return picture


def _report(case: DemoCase, result: Result, changes: Sequence[ChangedVoxels], drawn: Sequence[Path]) -> None:
    steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result.seconds.items())
    print(f"\nOn the server, in seconds: {steps}")
    for path, change in zip(result.paths, changes, strict=True):
        print(
            f"{path.name}: {change.inside:,} voxels changed inside the edit region, "
            f"{change.outside:,} outside (of {change.total:,}; counted in the files)"
        )
    for remark in dict.fromkeys(remark for said in result.provenances for remark in said.get("remarks", ())):
        print(f"remark: {remark}")
    print("\nFiles:")
    sidecars = [sidecar_path(path) for path in result.paths]
    also = [case.also] if case.also else []
    for path in (case.ct, case.mask, *case.inputs.values(), *also, *result.paths, *sidecars, *drawn):
        print(f"  {path}")
    print("\nLook at the picture first.")
