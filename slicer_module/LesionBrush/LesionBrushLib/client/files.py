"""The shortest way: from files to a synthetic CT in a file, with its record beside it."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Optional, Union

from .errors import ServerUnreachable, WrongInput
from .inputs import Input
from .jobs import JobClient
from .orders import Order, Watch
from .patience import Patience
from .records import publish
from .transfer import SLOW_S
from .transport import Call
from .uploads import Upload, split
from .wire import Form, OnProgress


@dataclass(frozen=True)
class Result:
    """Files written, in the order of the variants; what the server says of each; seconds per phase."""

    paths: list[Path]
    provenances: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def provenance(self) -> dict[str, Any]:
        return self.provenances[0]


class Client(JobClient):
    """One server, for programs that have files. timeout_s: how long it may be silent."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: Optional[str] = None,
        timeout_s: float = 600.0,
        on_upload: Optional[OnProgress] = None,
    ) -> None:
        super().__init__(url, token, patience=Patience(silent_s=timeout_s))
        self.on_upload = on_upload

    def wait_until_ready(self, timeout_s: float = 60.0, alive: Callable[[], bool] = lambda: True) -> None:
        """Return once the server answers. ServerUnreachable after `timeout_s`, or when `alive` says no."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.about()
                return
            except ServerUnreachable:
                if time.monotonic() > deadline or not alive():
                    raise
                time.sleep(0.2)

    def put_image(self, path: Path, image_id: str) -> str:
        """Store a CT on the server, once for many requests. ServerError 409 when the id is taken."""
        form = Form({"params": "{}"}, {"file": Upload.of(path).part("reference")}, self.on_upload)
        call = Call("PUT", "/datastore/image", {"image": image_id}, form, timeout_s=SLOW_S)
        return str(self.transport.json(call)["image"])

    def infer(
        self,
        model: str,
        *,
        out_path: Union[Path, str],
        mask_path: Union[Path, str, None] = None,
        image_id: Optional[str] = None,
        reference_path: Union[Path, str, None] = None,
        params: Optional[dict[str, Any]] = None,
        **inputs: Input,
    ) -> Result:
        """Send a mask, with a CT or the id of a stored one, or neither to a model that makes whole CTs; write
        the synthetic CT and its record.

        reference_path: a volume, or a folder with a DICOM series; params, inputs: see `Order`, say
        `anatomy=Upload.of(path)`. out_path: its type (.nii.gz, .nii, .nrrd, .mha) is the type that comes
        back; for several variants it becomes ct-1.nii, ct-2.nii, ... Nothing is written unless all of it
        arrived. Raises as `synthesize`, ValueError for a file type the server does not take, and WrongInput
        for a result that would replace what it is made from.
        """
        out_path = Path(out_path)
        stem, suffix = split(out_path)
        _require_no_input(out_path, [mask_path, reference_path])
        if (params or {}).get("output", "volume") != "volume":
            raise WrongInput("output: whole CTs are written here; JobClient.box gives what changed alone")
        mask = Upload.of(Path(mask_path)) if mask_path is not None else None
        reference = Upload.of(Path(reference_path)) if reference_path is not None else image_id
        order = Order(model, mask, reference, dict(params or {}), inputs)
        made = self.synthesize(order, Watch(on_upload=self.on_upload), fetch=False)
        with TemporaryDirectory(prefix=".lesionbrush-", dir=out_path.parent) as folder:
            drafts = [Path(folder) / f"{n}{suffix}" for n in made.numbers]
            for n, draft in zip(made.numbers, drafts):
                self.download_volume(made.job_id, n, draft)
            ends = [""] if len(drafts) == 1 else [f"-{n}" for n in made.numbers]
            paths = [out_path.with_name(f"{stem}{end}{out_path.name[len(stem) :]}") for end in ends]
            publish(drafts, paths, made.provenances)
        return Result(paths, made.provenances, made.provenances[0].get("seconds", {}))


def _require_no_input(out_path: Path, inputs: "list[Union[Path, str, None]]") -> None:
    for path in inputs:
        if path is not None and out_path.exists() and Path(path).exists() and out_path.samefile(path):
            raise WrongInput(f"{out_path.name} is what the result is made from: give it another name")
