"""match_outline: an estimate that is dense where it should grow, and lung where it is carved."""

from __future__ import annotations

import torch
from lesionbrush.diffusion import schedules
from lesionbrush.diffusion.guidance import SHAPED_ABOVE_RATIO, Outline, match_outline

SCHEDULE = schedules.cosine(1000)
LUNG, LEVEL = -0.85, 0.1
NOISY = 600


def line() -> torch.Tensor:
    """Two items of 10 voxels: lesion (0 to 3), lung (4 to 7), bone (8, 9)."""
    values = torch.tensor([LEVEL] * 4 + [LUNG] * 4 + [0.9] * 2)
    return torch.stack((values, values - 0.2))[:, None, None, None]


def at(*places: int) -> torch.Tensor:
    weights = torch.zeros(2, 1, 1, 1, 10)
    weights[..., list(places)] = 1
    return weights


def wish(dense: torch.Tensor, carved: torch.Tensor, body: torch.Tensor | None = None) -> Outline:
    """Covered is what is dense, and what is neither dense nor carved."""
    covered = torch.where(dense > 0, dense, 1 - (carved > 0).float())
    return Outline(at(0, 1, 2) if body is None else body, covered, dense, carved, LUNG)


def moved(outline: Outline, t: int = NOISY) -> torch.Tensor:
    return match_outline(lambda x, t: x, outline, SCHEDULE)(line(), t)


def test_it_grows_at_each_lesions_own_level_and_leaves_denser_tissue() -> None:
    found = moved(wish(at(4, 8), at()))
    torch.testing.assert_close(found[:, 0, 0, 0, 4], torch.tensor([LEVEL, LEVEL - 0.2]))
    torch.testing.assert_close(found[..., 8], line()[..., 8])


def test_half_covered_is_half_way() -> None:
    found = moved(wish(0.5 * at(5), at()))
    torch.testing.assert_close(found[0, 0, 0, 0, 5], torch.tensor((LEVEL + LUNG) / 2))


def test_to_hold_twice_changes_nothing_more() -> None:
    """A soft border that has its shape already is not softened again."""
    asked = Outline(at(0), 0.5 * at(3, 4) + at(0, 1, 2), 0.5 * at(4), 0.5 * at(3), LUNG)
    once = moved(asked)
    torch.testing.assert_close(once[0, 0, 0, 0, 3:5], torch.full((2,), (LEVEL + LUNG) / 2))
    torch.testing.assert_close(match_outline(lambda x, t: once, asked, SCHEDULE)(once, NOISY), once)


def test_what_is_carved_is_no_denser_than_lung() -> None:
    found = moved(wish(at(), at(3, 7)))
    torch.testing.assert_close(found[0, 0, 0, 0, 3], torch.tensor(LUNG))
    torch.testing.assert_close(found[..., 7], line()[..., 7].clamp(max=LUNG))


def test_nothing_else_moves() -> None:
    found = moved(wish(at(4), at(3)))
    torch.testing.assert_close(found[..., [0, 1, 2, 5, 6, 7, 8, 9]], line()[..., [0, 1, 2, 5, 6, 7, 8, 9]])


def test_the_last_steps_are_the_networks() -> None:
    calm = int((SCHEDULE.alphas_bar.rsqrt() ** 2 - 1 < SHAPED_ABOVE_RATIO**2).sum()) - 1
    assert torch.equal(moved(wish(at(4), at(3), at(0)), calm), line())
    assert not torch.equal(moved(wish(at(4), at(3), at(0)), calm + 1), line())
