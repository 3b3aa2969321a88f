"""Our own reader: a small network that names the organ in a crop, trained on real slices within minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.inpainting.crops import CropFrame, SliceCrop
from lesionbrush.evaluation.inpainting.reader import AT_ONCE, ReadCrops
from lesionbrush.evaluation.inpainting.results import ReaderFacts
from lesionbrush.montage import LUNG, SOFT
from lesionbrush.systems.palette.fills import FILLS, Fill, fill_number
from lesionbrush.systems.palette.pack import KnownCT

SIDE, FEATURES, SEED = 96, 16, 0
STEPS, BATCH, LEARNING_RATE = 400, 24, 2e-3
SLICES_A_CT, LEAST_MM2 = 40, 100.0
SHIFT, TURN, ZOOM, LIGHT, NOISE = 0.15, 0.2, 1.2, 0.08, 0.05
NAMED: tuple[Fill, ...] = tuple(fill for fill in FILLS if fill != "healthy")


@dataclass(frozen=True, eq=False)
class NamedCrop:
    """A real crop, and the organ or tumour in the middle of it."""

    crop: SliceCrop
    fill: Fill


def named_crops(cts: Sequence[KnownCT], side: int = SIDE) -> Iterator[NamedCrop]:
    """Of every organ of every CT, slices spread over it."""
    for ct in cts:
        for fill in NAMED:
            inside = ct.labels == fill_number(fill)
            areas = np.count_nonzero(inside, axis=(1, 2)) * float(np.prod(ct.spacing_mm[1:]))
            there = np.flatnonzero(areas >= LEAST_MM2)
            few = np.linspace(0, len(there) - 1, min(len(there), SLICES_A_CT)).round().astype(int)
            for z in there[few]:
                frame = CropFrame.around(inside[z], ct.spacing_mm[1:])
                hu = frame.cut(ct.hu[z], ct.spacing_mm[1:], side)
                yield NamedCrop(SliceCrop(hu, LUNG if fill == "lung" else SOFT), fill)


class OrganNet(nn.Module):
    """Four convolutions with stride 2, mean and maximum of each channel, 16 features, a class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((2, 16), (16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.squeeze = nn.Linear(128, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, S, S) to features (B, 16) and logits (B, K)."""
        body = self.body(x)
        features = self.squeeze(torch.cat((body.mean(dim=(2, 3)), body.amax(dim=(2, 3))), dim=1))
        return features, self.head(features.relu())


class OrganReader:
    """A trained `OrganNet`. Its features are in units of their own spread over what it was trained on."""

    name, side = "organ classifier, trained here", SIDE

    def __init__(self, network: OrganNet, classes: Sequence[Fill], seen: Tensor) -> None:
        self.network, self.classes = network.eval(), tuple(classes)
        features = self._ask(seen)[0]
        self.middle, self.spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-3)

    @torch.inference_mode()
    def _ask(self, images: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self.network(part) for part in images.split(AT_ONCE)]
        features, logits = (torch.cat(column).double() for column in zip(*parts, strict=True))
        return features, logits

    def read(self, crops: Sequence[SliceCrop]) -> ReadCrops:
        features, logits = self._ask(_images(crops))
        units = (features - self.middle) / self.spread
        return ReadCrops(units.numpy(), logits.softmax(dim=1).numpy())

    def named_right(self, crops: Sequence[NamedCrop]) -> dict[Fill, float]:
        """Of real crops, for each class that occurs: the share that it names right."""
        known = [one for one in crops if one.fill in self.classes]
        said = self.read([one.crop for one in known]).chances.argmax(axis=1) if known else []
        right: dict[Fill, list[bool]] = {}
        for one, k in zip(known, said, strict=True):
            right.setdefault(one.fill, []).append(self.classes[k] == one.fill)
        return {fill: round(float(np.mean(found)), 3) for fill, found in right.items()}


def own_reader(seen: Sequence[KnownCT], held_out: Sequence[KnownCT]) -> tuple[OrganReader, ReaderFacts]:
    """Trained on real slices of the patients that were trained on; held-out ones say how good it is."""
    reader = train_reader(list(named_crops(seen)), torch.Generator().manual_seed(SEED))
    unseen = list(named_crops(held_out))
    right = reader.named_right(unseen)
    facts = ReaderFacts(
        name=reader.name,
        features=FEATURES,
        classes=len(reader.classes),
        accuracy=round(float(np.mean(list(right.values()))), 3) if right else None,
        named_right=right,
        accuracy_n=sum(one.fill in right for one in unseen),
    )
    return reader, facts


def train_reader(crops: Sequence[NamedCrop], rng: torch.Generator, steps: int = STEPS) -> OrganReader:
    """Every class as often as another. rng: of all that is random. InvalidRequest for fewer than two."""
    classes = [fill for fill in NAMED if any(one.fill == fill for one in crops)]
    if len(classes) < 2:
        raise InvalidRequest(
            f"the training patients show {', '.join(classes) or 'no organ'}: a reader needs two organs; "
            "point --data at all of the training data, or give one with --reader"
        )
    images = _images([one.crop for one in crops])
    names = torch.tensor([classes.index(one.fill) for one in crops])
    members = [torch.nonzero(names == k).flatten() for k in range(len(classes))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=rng)))
        network = OrganNet(len(classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tqdm(range(steps), desc="reader", unit="step"):
        rows = torch.stack([_one_of(members[k], rng) for k in _draw(len(classes), BATCH, rng).tolist()])
        logits = network(_vary(images[rows], rng))[1]
        loss = F.cross_entropy(logits, names[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return OrganReader(network, classes, images)


def _draw(high: int, count: int, rng: torch.Generator) -> Tensor:
    return torch.randint(high, (count,), generator=rng)


def _one_of(members: Tensor, rng: torch.Generator) -> Tensor:
    return members[_draw(len(members), 1, rng)[0]]


def _vary(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each moved, turned, zoomed, lighter or darker by a little, with a little noise. Not mirrored: the side
    tells the liver from the spleen."""
    y, x, turn, zoom, light = (2 * torch.rand(5, len(images), generator=rng) - 1).unbind()
    angle, scale = TURN * turn, ZOOM**zoom
    rows = torch.stack((scale * angle.cos(), -angle.sin(), SHIFT * x), dim=1)
    columns = torch.stack((angle.sin(), scale * angle.cos(), SHIFT * y), dim=1)
    places = F.affine_grid(torch.stack((rows, columns), dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    return moved + LIGHT * light[:, None, None, None] + NOISE * torch.randn(moved.shape, generator=rng)


def _images(crops: Sequence[SliceCrop]) -> Tensor:
    """(N, 2, S, S) float32 from -1 to 1: each crop in the windows of soft tissue and of the lung, whatever it
    shows, so that the window does not tell the organ."""
    both = [[window.to_grey(crop.hu) for window in (SOFT, LUNG)] for crop in crops]
    return torch.from_numpy(np.array(both)).float() / 127.5 - 1
