"""Lesions made in a training loop: the promise, what they hang on, and what is told where they cannot be."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohort_kit import LIVER, NAMES, organ_labels
from lesionbrush.augment.lesions import LesionRecipe, put_lesions
from lesionbrush.cohorts import making
from lesionbrush.cohorts.findings import NotPlaced
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, GeometryMismatch, InvalidRequest, LesionBrushError, NotACT
from lesionbrush.files.io import write_volume
from lesionbrush.monai import RandLesion, RandLesiond
from monai.data import DataLoader, Dataset, MetaTensor
from scipy.ndimage import distance_transform_edt
from server_kit import MARGIN_MM, make_ct, make_mask, make_model
from torchio_kit import stand_in

pytest_plugins = "cli_fixtures"
DOCS = Path(__file__).resolve().parents[1] / "docs/cohorts.md"
FINDING: dict[str, Any] = {
    "diameter_mm": {"uniform": [5.0, 8.0]},
    "place": {"inside": "liver"},
    "attributes": {"mean_hu": {"uniform": [-100, 50]}},
}
QUICK = {"parameters": {"steps": 2}}
OPTIONS = {**QUICK, "organ_names": NAMES}


@pytest.fixture(autouse=True)
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tiny_models))


def tensor(volume: Volume, dtype: type = np.uint8) -> MetaTensor:
    array = torch.from_numpy(volume.array.astype(dtype))
    return MetaTensor(array[None], affine=torch.from_numpy(volume.affine))


def between_hu() -> MetaTensor:
    """A CT as resampling leaves it."""
    ct = make_ct()
    return tensor(ct.with_array(ct.array + np.float32(0.3)), np.float32)


def case() -> dict[str, Any]:
    return {"image": between_hu(), "organs": tensor(organ_labels(make_ct()))}


def make(seed: int = 1, prob: float = 1.0, **options: Any) -> dict[Any, Any]:
    given = {"organs_key": "organs", **OPTIONS, **options}
    return RandLesiond("image", "tiny", FINDING, prob, **given).set_random_state(seed)(case())


# --- the promise ---


def test_outside_the_edit_region_no_bit_changes() -> None:
    before, made = between_hu(), make()
    after, label = made["image"], made["label"]
    assert after.dtype == before.dtype
    assert torch.equal(after.affine, before.affine)
    away_mm = distance_transform_edt(label[0].numpy() == 0, sampling=make_ct().spacing_mm)
    changed = (after[0] != before[0]).numpy()
    assert changed[label[0].numpy() > 0].mean() > 0.9
    assert away_mm[changed].max() <= MARGIN_MM
    assert after.numpy()[0][~changed].tobytes() == before.numpy()[0][~changed].tobytes()
    assert set(case()["organs"][label > 0].tolist()) == {LIVER}
    ball_mm3 = np.pi / 6 * np.array([5.0, 8.0]) ** 3
    assert 0.9 * ball_mm3[0] < label.sum() * make_ct().voxel_volume_mm3 < 1.1 * ball_mm3[1]


def test_whole_hu_stay_whole_and_keep_their_type() -> None:
    ct = make_ct()
    recipe = LesionRecipe.of("tiny", FINDING, **OPTIONS)
    organs = organ_labels(ct).array
    after, labels = put_lesions(ct.array, ct.affine, recipe, np.random.default_rng(0), organs)
    assert (after.dtype, labels.dtype) == (np.int16, np.uint8)
    assert (after != ct.array).any()
    assert np.array_equal(ct.array, make_ct().array)


def test_a_body_that_is_drawn_is_kept() -> None:
    drawn = tensor(make_mask())
    after, mask = RandLesion("tiny", FINDING, 1.0, **QUICK)(between_hu(), drawn=drawn)
    assert torch.equal(mask.as_tensor(), drawn.as_tensor())
    assert (after != between_hu()).any()


def test_labels_without_names_are_one_place() -> None:
    organs = tensor(organ_labels(make_ct())) > 0
    lesion = RandLesion("tiny", {**FINDING, "number": 2, "place": {"gap_mm": 1}}, 1.0, **QUICK)
    _, mask = lesion.set_random_state(2)(between_hu(), organs.to(torch.uint8))
    assert organs[mask > 0].all()
    assert set(mask.unique().tolist()) == {0, 1, 2}


def test_a_label_that_is_there_keeps_what_it_says() -> None:
    organs = case()["organs"]
    lesion = RandLesiond("image", "tiny", FINDING, 1.0, organs_key="organs", label=7, **OPTIONS)
    made = lesion({**case(), "label": organs})["label"]
    assert (made == 7).any()
    assert torch.equal(made[made != 7].as_tensor(), organs[made != 7].as_tensor())


# --- chance and seeds ---


def test_a_chance_of_0_changes_nothing() -> None:
    given = case()
    lesion = RandLesiond("image", "tiny", FINDING, 0.0, organs_key="organs", **OPTIONS)
    made = lesion(given)
    assert made["image"] is given["image"]
    assert torch.equal(made["image"].as_tensor(), between_hu().as_tensor())
    assert made["label"].shape == made["image"].shape
    assert not made["label"].any()


def test_a_chance_is_kept() -> None:
    lesion = RandLesion("tiny", FINDING, 0.3, **OPTIONS).set_random_state(0)
    done = []
    for _ in range(400):
        lesion.randomize()
        done.append(lesion._do_transform)
    assert 0.22 < np.mean(done) < 0.38


def test_a_seed_says_all() -> None:
    one, same, other = make(3), make(3), make(4)
    for key in ("image", "label"):
        assert torch.equal(one[key].as_tensor(), same[key].as_tensor())
    assert not torch.equal(one["label"].as_tensor(), other["label"].as_tensor())


def test_workers_with_the_same_seed_make_the_same() -> None:
    """Two at once, after the model was used here: what a fork brings along must not be asked."""
    lesion = RandLesiond("image", "tiny", FINDING, 1.0, organs_key="organs", **OPTIONS)
    here = lesion.set_random_state(3)(case())

    def batches() -> list[torch.Tensor]:
        torch.manual_seed(11)
        loader = DataLoader(Dataset([case(), case()], lesion), num_workers=2, batch_size=1)
        return [batch["image"].as_tensor() for batch in loader]

    first, second = batches()
    again = batches()
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert here["label"].any()


def test_a_process_loads_a_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path, "tiny")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path))
    loaded: list[str] = []
    load = making.load_model

    def count(installed: Any, device: str | None = None) -> Any:
        loaded.append(installed.card.name)
        return load(installed, device)

    monkeypatch.setattr(making, "load_model", count)
    make(1)
    make(2)
    assert loaded == ["tiny"]


# --- what is told ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "nothing"}, "no model is called 'nothing'"),
        ({"findings": {"diameter_mm": 200}}, "findings.0.diameter_mm: 200: give numbers from 2 to 120"),
        ({"findings": {**FINDING, "attributes": {"texture": "blue"}}}, "attributes.texture: 'blue'"),
        ({"parameters": {"step": 2}}, "step: unknown parameter"),
        ({"prob": 2}, "a probability of 2: give one from 0 to 1"),
        ({"keys": ["image", "other"]}, "name one CT"),
    ],
)
def test_what_no_ct_could_satisfy_is_refused_at_once(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        RandLesiond(**{"keys": "image", "model": "tiny", "findings": FINDING, **OPTIONS, **changes})


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"image": between_hu() / 1000}, NotACT, "before intensities are scaled"),
        ({"image": between_hu() + 2000}, NotACT, "no value is below 0"),
        ({"image": between_hu() * torch.nan}, DamagedFile, "NaN"),
        ({"image": between_hu()[0]}, NotACT, "one channel in front"),
        ({"image": between_hu().as_tensor()}, InvalidRequest, "give a MetaTensor"),
        ({"organs": case()["organs"][:, 1:]}, GeometryMismatch, "bring them onto one grid"),
        ({"organs": case()["organs"] * 0}, NotPlaced, "no voxel of it; allow_no_place=True"),
        ({"label": case()["organs"].repeat(2, 1, 1, 1)}, GeometryMismatch, "before labels become one-hot"),
    ],
)
def test_what_a_ct_lacks_is_told(change: dict[str, Any], error: type[LesionBrushError], said: str) -> None:
    lesion = RandLesiond("image", "tiny", FINDING, 1.0, organs_key="organs", **OPTIONS)
    with pytest.raises(error, match=said):
        lesion({**case(), **change})


def test_a_ct_in_which_nothing_fits_stays_where_that_is_allowed() -> None:
    lesion = RandLesion("tiny", {**FINDING, "diameter_mm": 60}, 1.0, allow_no_place=True, **OPTIONS)
    before = between_hu()
    after, mask = lesion(before, case()["organs"])
    assert torch.equal(after.as_tensor(), between_hu().as_tensor())
    assert not mask.any()


# --- TorchIO ---


@pytest.fixture
def torchio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stand_in(monkeypatch)
    import torchio

    yield torchio
    sys.modules.pop("lesionbrush.torchio", None)


def subject_of(torchio: Any) -> Any:
    ct = make_ct()
    organs = torch.from_numpy(organ_labels(ct).array)[None]
    image = torch.from_numpy(ct.array.astype(np.float32))[None]
    return torchio.Subject(
        ct=torchio.ScalarImage(tensor=image, affine=ct.affine),
        organs=torchio.LabelMap(tensor=organs, affine=ct.affine),
    )


def test_a_subject_of_torchio_gets_the_same_lesion_by_the_same_seed(torchio: Any) -> None:
    from lesionbrush.torchio import RandomLesion

    lesion = RandomLesion("tiny", FINDING, p=1.0, organs="organs", value=3, **OPTIONS)
    before = subject_of(torchio)

    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        return lesion(before)

    one, same, other = made(5), made(5), made(6)
    assert torch.equal(one["ct"].data, same["ct"].data)
    assert not torch.equal(one["ct"].data, other["ct"].data)
    assert set(one["label"].data.unique().tolist()) == {0, 3}
    mask = one["label"].data[0].numpy() > 0
    away_mm = distance_transform_edt(~mask, sampling=make_ct().spacing_mm)
    assert away_mm[(one["ct"].data != before["ct"].data)[0].numpy()].max() <= MARGIN_MM
    again = lesion(one)
    assert (again["label"].data == 3).sum() > mask.sum()


def test_torchio_without_a_lesion(torchio: Any) -> None:
    from lesionbrush.torchio import RandomLesion

    before = subject_of(torchio)
    after = RandomLesion("tiny", FINDING, p=0.0, organs="organs", **OPTIONS)(before)
    assert torch.equal(after["ct"].data, before["ct"].data)
    assert not after["label"].data.any()
    with pytest.raises(InvalidRequest, match="the subject has no 'lungs'; it has ct, organs"):
        RandomLesion("tiny", FINDING, p=1.0, organs="lungs", **OPTIONS)(before)


def test_without_torchio_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchio", None)
    monkeypatch.delitem(sys.modules, "lesionbrush.torchio", raising=False)
    with pytest.raises(ImportError, match="run pip install torchio"):
        import lesionbrush.torchio  # noqa: F401


# --- the example ---


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "models", "lung_lesion")
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    write_volume(make_ct(), tmp_path / "ct.nii.gz")
    write_volume(organ_labels(make_ct()), tmp_path / "lungs.nii.gz")
    section = DOCS.read_text(encoding="utf-8").partition("## In a training loop")[2]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    known: dict[str, Any] = {}
    exec(compile(example, "docs/cohorts.md", "exec"), known)
    assert known["batch"]["label"].any()
