"""Put a synthetic lesion into a chest CT, over a real server, as 3D Slicer would.

Without --ct a phantom chest is made; without --mask a place for a lesion is proposed.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from LesionBrushLib.client import SUFFIXES, JobClient, Order, Result, Upload, Watch

from lesionbrush.cli.files import Changes, changes_on_disk, require_none_of, volume_suffix
from lesionbrush.cli.local_server import asking, local_server
from lesionbrush.cli.options import add_model_argument, add_request_arguments, request_from
from lesionbrush.cli.progress import Phases
from lesionbrush.errors import InvalidRequest
from lesionbrush.io import read_volume, write_volume
from lesionbrush.montage import montage
from lesionbrush.phantom import chest_phantom, lung_mask, propose_lesion
from lesionbrush.provenance import sidecar_path
from lesionbrush.registry import find_model, verify_weights
from lesionbrush.request_base import BaseRequest
from lesionbrush.volume import Volume, mask_on_grid, require_ct

HEADING = """LesionBrush demo: a lesion painted on a CT becomes a CT with that lesion.
Not a medical device. What comes out is synthetic.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--ct", type=Path, metavar="FILE|FOLDER", help="your own CT instead of the phantom")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="your own lesion mask; needs --ct")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="default: %(default)s")
    parser.add_argument("--lesion-mm", type=float, default=18.0, help="its diameter (default: %(default)g)")
    add_model_argument(parser)
    add_request_arguments(parser)


@dataclass(frozen=True)
class Case:
    """The files of one demo. ct: the reference as it is sent; mask: 0/1 on its grid."""

    out: Path
    ct: Path
    mask: Path

    @property
    def synthetic(self) -> Path:
        return self.out / f"synthetic_ct{volume_suffix(self.ct)}"

    def synthetic_paths(self, variants: int) -> list[Path]:
        """One for each; a single one has no number."""
        if variants == 1:
            return [self.synthetic]
        suffix = volume_suffix(self.ct)
        return [self.out / f"synthetic_ct-{n}{suffix}" for n in range(1, variants + 1)]


def run(options: Namespace) -> int:
    """0, or 1 if a voxel outside the edit region differs."""
    request = _checked_request(options)
    options.out.mkdir(parents=True, exist_ok=True)
    print(HEADING, flush=True)
    phases = Phases()
    case = _prepared(options, request, phases)
    result = _over_http(case, options.model, request, phases)
    with phases.phase("drawing, and comparing the files on disk"):
        pictures = [_draw(case, path, options.model) for path in result.paths]
        changes = [changes_on_disk(case.ct, case.mask, path, request.margin_mm) for path in result.paths]
    _report(case, result, changes, pictures)
    return 1 if any(change.outside for change in changes) else 0


def _checked_request(options: Namespace) -> BaseRequest:
    """The request, once everything that can be known to fail has not."""
    request = request_from(options)
    if options.mask and not options.ct:
        raise InvalidRequest("--mask belongs to a CT: name it with --ct")
    if request.output != "volume":
        raise InvalidRequest("the demo compares whole volumes: leave out --param output")
    verify_weights(find_model(options.model))
    return request


def _prepared(options: Namespace, request: BaseRequest, phases: Phases) -> Case:
    out: Path = options.out
    if options.ct is None:
        with phases.phase("making a chest phantom CT"):
            reference = chest_phantom(request.seed).volume
    else:
        with phases.phase(f"reading {options.ct.name}"):
            reference = require_ct(read_volume(options.ct))
    what = "reading the mask" if options.mask else f"finding a place for a lesion of {options.lesion_mm:g} mm"
    with phases.phase(what):
        mask = _mask(options, request, reference)
    case = Case(out, _as_sent(options.ct, out), out / "mask.nii.gz")
    require_none_of([case.ct], [case.synthetic])
    if case.ct != options.ct:
        write_volume(reference, case.ct)
    write_volume(mask, case.mask)
    return case


def _mask(options: Namespace, request: BaseRequest, reference: Volume) -> Volume:
    if options.mask:
        return mask_on_grid(read_volume(options.mask), reference, request.label)
    generator = np.random.default_rng(request.seed)
    return propose_lesion(reference, lung_mask(reference), options.lesion_mm, generator)


def _as_sent(ct: Path | None, out: Path) -> Path:
    """The CT's own file if a server takes its type, else a NIfTI of it, which is what Slicer would send."""
    if ct is not None and ct.is_file() and ct.name.lower().endswith(SUFFIXES):
        return ct
    return out / "reference.nii.gz"


def _over_http(case: Case, model: str, request: BaseRequest, phases: Phases) -> Result:
    params = request.model_dump(mode="json", exclude={"label"})  # the mask that is sent has only one
    order = Order(model, Upload.of(case.mask), Upload.of(case.ct), params)
    with ExitStack() as stack:
        studies = Path(stack.enter_context(TemporaryDirectory(prefix="lesionbrush-demo-")))
        with phases.phase("starting the server"):
            started, _ = stack.enter_context(local_server(studies, case.out / "server.log"))
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


def _draw(case: Case, synthetic: Path, model: str) -> Path:
    reference, mask, result = require_ct(read_volume(case.ct)), read_volume(case.mask), read_volume(synthetic)
    stem = synthetic.name.removesuffix(volume_suffix(synthetic))
    picture = case.out / f"{stem.replace('synthetic_ct', 'montage')}.png"
    montage(reference, mask, result, title=f"{model}: {synthetic.name}").save(picture)
    return picture


def _report(case: Case, result: Result, changes: Sequence[Changes], pictures: Sequence[Path]) -> None:
    steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result.seconds.items())
    print(f"\nOn the server, in seconds: {steps}")
    for path, change in zip(result.paths, changes, strict=True):
        print(
            f"{path.name}: {change.inside:,} voxels changed inside the edit region, "
            f"{change.outside:,} outside (of {change.total:,}; counted in the files)"
        )
    print("\nFiles:")
    sidecars = [sidecar_path(path) for path in result.paths]
    for path in (case.ct, case.mask, *result.paths, *sidecars, *pictures):
        print(f"  {path}")
    print("\nLook at the picture first.")
