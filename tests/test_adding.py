"""Published weights are added whole and checked, or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import time
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest
import torch
from adding_kit import SMALL, URL, Answer, Web, ignore, order
from bundle_kit import SCHEMA_COPY, parser_of
from lesionbrush.bundles.configs import LICENSE, README
from lesionbrush.core.registry import METADATA, WEIGHTS, find_model
from lesionbrush.errors import DamagedFile, InvalidRequest, StorageFull, WeightsError
from lesionbrush.published import adding, download
from lesionbrush.published.adding import add, read_weights
from lesionbrush.published.catalogue import find_known
from lesionbrush.published.download import HttpsOnly, check_url, plain_url
from lesionbrush.published.models import (
    PUBLISHED,
    find_published,
    list_published,
)
from lesionbrush.systems.lung_ddpm.card import LungDDPMCard
from lesionbrush.systems.lung_ddpm.network import from_published
from lesionbrush.systems.med_unet import MedUNet
from monai.bundle import verify_metadata
from published_kit import TINY, checkpoint, random_tensors, save
from safetensors.torch import load_file, save_file

pytest_plugins = "adding_fixtures"


class TestAdded:
    def test_from_a_file(self, weights: Path, root: Path) -> None:
        model = add(order(weights), ignore, root)
        network = MedUNet(SMALL)
        network.load_state_dict(load_file(model.weights), strict=True)
        wanted = from_published(random_tensors(TINY), SMALL)
        assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())
        assert [path.name for path in root.iterdir()] == ["lung_ddpm_published"]

    def test_the_card_says_where_from_and_under_which_terms(self, weights: Path, root: Path) -> None:
        card = add(order(weights), ignore, root).card
        assert find_published("lung_ddpm_published", root).card == card
        assert card.origin.source == "tiny.pt"
        assert card.origin.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert card.origin.size_bytes == weights.stat().st_size
        assert not card.origin.sha256_expected
        assert card.license_accepted == "unstated"

    def test_from_an_address(self, weights: Path, root: Path) -> None:
        content, told = weights.read_bytes(), []
        web = Web(Answer(content, len(content)))
        model = add(order(f"{URL}?token=secret"), lambda *now: told.append(now), root, web)
        assert model.card.origin.source == URL
        assert "secret" not in (model.folder / PUBLISHED).read_text()
        assert told[-1] == (len(content), len(content))
        assert sorted(path.name for path in model.folder.rglob("*") if path.is_file()) == [
            "LICENSE",
            "README.md",
            "inference.json",
            "metadata.json",
            "model.safetensors",
            "published.json",
        ]

    def test_with_the_expected_hash_and_size(self, weights: Path, root: Path) -> None:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        facts = {"sha256": digest, "size_bytes": weights.stat().st_size}
        assert add(order(weights, **facts), ignore, root).card.origin.sha256_expected

    def test_it_is_an_infer_task(self, weights: Path, root: Path) -> None:
        add(order(weights), ignore, root)
        card = find_model("lung_ddpm_published", root).card
        section = LungDDPMCard.of(card)
        assert (card.system, section.scaling, section.timesteps) == ("lung_ddpm", "columns", 250)
        assert card.weights_license == "unstated"
        assert [model.card.model.name for model in list_published(root)] == ["lung_ddpm_published"]

    def test_it_is_a_monai_bundle(self, weights: Path, root: Path) -> None:
        folder = add(order(weights), ignore, root).folder
        verify_metadata(str(folder / METADATA), filepath=SCHEMA_COPY)
        network = parser_of(folder).get_parsed_content("network").state_dict()
        assert all(torch.equal(value, network[name]) for name, value in load_file(folder / WEIGHTS).items())
        assert "Weights: unstated." in (folder / LICENSE).read_text()
        readme = (folder / README).read_text()
        assert "python -m monai.bundle run" in readme
        assert find_known("lung_ddpm_published").page in readme


class TestTerms:
    @pytest.mark.parametrize("accepted", [None, "", "MIT", "Unstated"])
    def test_have_to_be_accepted_word_for_word(self, weights: Path, root: Path, accepted: str | None) -> None:
        with pytest.raises(InvalidRequest, match=r"licence of these weights is 'unstated'.*--accept-licence"):
            add(order(weights, license_accepted=accepted), ignore, root)
        assert not root.exists()

    def test_nothing_is_fetched_before(self, root: Path) -> None:
        web = Web(Answer(b""))
        with pytest.raises(InvalidRequest):
            add(order(URL, license_accepted=None), ignore, root, web)
        assert web.asked == []

    def test_what_cannot_run_is_refused_with_the_reason(self, weights: Path, root: Path) -> None:
        other = find_known("lefusion_lidc")
        with pytest.raises(InvalidRequest, match="'lefusion_lidc' cannot be added yet: its network"):
            add(order(weights, known=other, license_accepted="Apache-2.0"), ignore, root)

    def test_what_is_there_is_not_replaced(self, weights: Path, root: Path) -> None:
        before = add(order(weights), ignore, root).weights.stat().st_mtime_ns
        with pytest.raises(InvalidRequest, match="is there already"):
            add(order(weights), ignore, root)
        assert find_published("lung_ddpm_published", root).weights.stat().st_mtime_ns == before


class TestFileRefused:
    """Each leaves the models folder as it was."""

    @pytest.fixture(autouse=True)
    def nothing_stays(self, root: Path):
        yield
        assert list(root.iterdir()) == []

    def test_another_hash(self, weights: Path, root: Path) -> None:
        with pytest.raises(DamagedFile, match=f"SHA-256 .* expected is {'a' * 64}"):
            add(order(weights, sha256="a" * 64), ignore, root)

    def test_another_size(self, weights: Path, root: Path) -> None:
        with pytest.raises(DamagedFile, match=r"has \d+ bytes, expected are 7"):
            add(order(weights, size_bytes=7), ignore, root)

    def test_no_file(self, tmp_path: Path, root: Path) -> None:
        with pytest.raises(InvalidRequest, match="no file"):
            add(order(tmp_path / "nothing.pt"), ignore, root)

    def test_a_web_page(self, tmp_path: Path, root: Path) -> None:
        page = tmp_path / "page.pt"
        page.write_bytes(b"\n<!DOCTYPE html><html>virus scan warning</html>")
        with pytest.raises(DamagedFile, match="web page, not weights"):
            add(order(page), ignore, root)

    @pytest.mark.parametrize(
        "content", [b"", b"weights", b"\x89PNG\r\n", b"\x05" + bytes(7) + b"{" + b"x" * 20]
    )
    def test_no_weights(self, tmp_path: Path, root: Path, content: bytes) -> None:
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(DamagedFile, match=r"neither a PyTorch file|cannot be read as safetensors"):
            add(order(tmp_path / "x.pt"), ignore, root)

    @pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
    def test_half_a_file(self, weights: Path, tmp_path: Path, root: Path, keep: float) -> None:
        content = weights.read_bytes()
        (tmp_path / "x.pt").write_bytes(content[: int(keep * len(content))])
        with pytest.raises(DamagedFile, match="cannot be read as PyTorch weights"):
            add(order(tmp_path / "x.pt"), ignore, root)

    @pytest.mark.parametrize("legacy", [True, False])
    def test_code_in_a_pickle_is_not_run(self, tmp_path: Path, root: Path, legacy: bool) -> None:
        trace = tmp_path / "ran"
        if legacy:
            (tmp_path / "x.pt").write_bytes(pickle.dumps(Runs(trace)))
        else:
            torch.save({"ema": Runs(trace)}, tmp_path / "x.pt")
        with pytest.raises((WeightsError, DamagedFile)):
            add(order(tmp_path / "x.pt"), ignore, root)
        assert not trace.exists()

    def test_another_network(self, tmp_path: Path, root: Path) -> None:
        tensors = random_tensors(TINY)
        tensors["time_embed.0.weight"] = torch.zeros(128, 33)
        file = save(checkpoint(tensors), tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=r"time_embed\.0\.weight is 128x33 instead of 128x32"):
            add(order(file), ignore, root)

    def test_nan(self, tmp_path: Path, root: Path) -> None:
        tensors = random_tensors(TINY)
        tensors["out.2.bias"].fill_(float("nan"))
        with pytest.raises(WeightsError, match=r"NaN or infinity, first out\.2\.conv\.bias"):
            add(order(save(checkpoint(tensors), tmp_path / "x.pt")), ignore, root)

    def test_a_full_disk(self, weights: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(adding, "sync_file", full)
        with pytest.raises(StorageFull, match="nothing was added"):
            add(order(weights), ignore, root)


class Runs:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)


def test_safetensors_are_read_as_they_are(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert torch.equal(read_weights(tmp_path / "x.safetensors")["a"], torch.ones(2))


def test_what_a_killed_run_left_goes_after_a_day(weights: Path, root: Path) -> None:
    old, new = root / ".adding-old", root / ".adding-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    day_before = time.time() - 25 * 3600
    os.utime(old, (day_before, day_before))
    add(order(weights), ignore, root)
    assert not old.exists()
    assert new.exists()


class TestDownload:
    @pytest.mark.parametrize(
        "url",
        ["http://a.example/x", "ftp://a.example/x", "file:///etc/passwd", "https:///x", "https://a:b/x"],
    )
    def test_only_https(self, root: Path, url: str) -> None:
        with pytest.raises(InvalidRequest, match="only fetched from https"):
            add(order(url), ignore, root, Web(Answer(b"")))
        assert list(root.iterdir()) == []

    def test_a_redirection_away_from_https_is_refused(self) -> None:
        redirect = HttpsOnly().redirect_request
        with pytest.raises(InvalidRequest, match="https"):
            redirect(Request(URL), io.BytesIO(), 302, "", Message(), "http://a.example/x")
        followed = redirect(Request(URL), io.BytesIO(), 302, "", Message(), "https://a.example/x")
        assert followed is not None
        assert followed.full_url == "https://a.example/x"

    def test_secrets_are_cut_off(self) -> None:
        assert plain_url("https://me:pw@a.example:8443/x/y?token=1#z") == "https://a.example:8443/x/y"
        check_url("https://a.example:8443/x")

    @pytest.mark.parametrize(
        ("answer", "error", "text"),
        [
            (HTTPError(URL, 404, "Not Found", Message(), None), InvalidRequest, "answers 404"),
            (URLError("no route"), InvalidRequest, "could not be fetched: no route"),
            (TimeoutError("timed out"), InvalidRequest, "could not be fetched: timed out"),
            (IncompleteRead(b"a"), DamagedFile, "broke off"),
            (Answer(b"short", 500), DamagedFile, "ended after 5 of 500 bytes"),
            (Answer(b"x", download.LIMIT_BYTES + 1), InvalidRequest, "are not taken"),
        ],
    )
    def test_faults(self, root: Path, answer: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            add(order(URL), ignore, root, Web(answer))
        assert list(root.iterdir()) == []

    def test_a_file_that_never_ends(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "LIMIT_BYTES", 10)
        with pytest.raises(InvalidRequest, match="more than 10 bytes"):
            add(order(URL), ignore, root, Web(Answer(b"x" * 11)))

    def test_a_disk_too_small(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "LIMIT_BYTES", 1 << 62)
        with pytest.raises(StorageFull, match="not that many free"):
            add(order(URL), ignore, root, Web(Answer(b"x", 1 << 61)))
