"""Critics say no to what is the same and yes to planted faults; copies of training nodules are found."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_kit import ball
from lesionbrush.core.boxes import centre
from lesionbrush.evaluation.classifiers import Boosted, Linear, out_of_fold
from lesionbrush.evaluation.control import correlate_ranks
from lesionbrush.evaluation.critics import blur, flat, mottle
from lesionbrush.evaluation.features import feature_names, features
from lesionbrush.evaluation.network import CNN, TrainingPlan, fit, network_features, tensor_of
from lesionbrush.evaluation.patches import Patch
from lesionbrush.evaluation.statistics import auc
from lesionbrush.evaluation.variety import likeness_of, nearest, rms

SHAPE = (20, 26, 26)
CENTRE = (10, 13, 13)


def nodule(seed: int) -> Patch:
    """A noisy ball of random size in noisy lung."""
    rng = np.random.default_rng(seed)
    inside = ball(SHAPE, CENTRE, rng.uniform(4, 7))
    hu = np.where(inside, rng.normal(20, 40), -850) + rng.normal(0, 25, SHAPE)
    return Patch(hu.astype(np.float32), inside, np.ones(SHAPE, bool))


NODULES = [nodule(seed) for seed in range(40)]
PATIENTS = [f"{k // 2}" for k in range(40)] * 2
LABELS = np.repeat([0, 1], 40)


def rows(patches: list[Patch]) -> np.ndarray:
    return np.array([features(patch) for patch in patches])


def test_every_feature_has_a_name() -> None:
    assert features(NODULES[0]).shape == (len(feature_names()),)
    assert np.isfinite(features(NODULES[0])).mean() > 0.9


@pytest.mark.parametrize("critic", [Linear, Boosted])
def test_a_critic_sees_a_planted_blur_and_nothing_in_more_of_the_same(critic: type) -> None:
    real = rows(NODULES)
    faulty, others = rows([blur(p, 1.0) for p in NODULES]), rows([nodule(100 + k) for k in range(40)])
    seen, same = (
        auc(out_of_fold(critic, np.concatenate((real, fakes)), LABELS, PATIENTS), LABELS)
        for fakes in (faulty, others)
    )
    assert seen > 0.95
    assert 0.25 < same < 0.75


def test_no_critic_is_trained_on_its_own_patient() -> None:
    """The label is the patient's alone: who has not seen the patient cannot know it."""

    class Memory(Linear):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Memory:
            self.known = set(X[:, 0])
            return self

        def decision(self, X: np.ndarray) -> np.ndarray:
            return np.array([float(x in self.known) for x in X[:, 0]])

    X = np.array(PATIENTS, dtype=float)[:, None]
    assert (out_of_fold(Memory, X, LABELS, PATIENTS) == 0.5).all()


def test_one_patient_alone_cannot_be_judged() -> None:
    assert (out_of_fold(Linear, rows(NODULES[:4]), np.arange(4) % 2, ["a"] * 4) == 0.5).all()


def test_planted_faults_change_the_lesion_alone() -> None:
    patch = NODULES[0]
    for faulty in (flat(patch), mottle(patch)):
        assert (faulty.hu == patch.hu)[~patch.inside].all()
        assert (faulty.hu != patch.hu)[patch.inside].mean() > 0.9
    assert flat(patch).hu[patch.inside].std() < 1e-3


def test_the_small_network_learns_a_fault_and_is_the_same_each_time() -> None:
    X = tensor_of(NODULES[:16] + [blur(p, 1.0) for p in NODULES[:16]])
    y = np.repeat([0, 1], 16)
    critic = CNN(TrainingPlan(least_steps=20, epochs=1, batch=16)).fit(X, y)
    assert auc(critic.decision(X), y) > 0.9
    again = CNN(TrainingPlan(least_steps=20, epochs=1, batch=16)).fit(X, y)
    assert np.allclose(critic.decision(X), again.decision(X))
    with pytest.raises(ValueError, match="fitted"):
        CNN().decision(X)


def test_features_of_a_network_that_learned_scores_with_gaps() -> None:
    X = tensor_of(NODULES[:8])
    targets = np.column_stack((np.linspace(-1, 1, 8), np.full(8, np.nan)))
    assert network_features(fit(X, targets, TrainingPlan(epochs=1, least_steps=2, batch=4)), X).shape == (
        8,
        128,
    )


def test_a_copy_is_found_however_it_is_turned() -> None:
    library = [nodule(seed) for seed in range(50, 60)]
    original = library[3]
    turned = [
        np.flip(array, (0, 2)).swapaxes(1, 2) for array in (original.hu, original.inside, original.known)
    ]
    found = nearest([Patch(*turned), nodule(7)], library)
    assert found.index[0] == 3
    assert found.distance_hu[0] < 12  # an even cube cannot be centred on an odd mask: half a voxel stays
    assert found.distance_hu[1] > found.distance_hu[0]


def test_distances_of_two_variants() -> None:
    patch = NODULES[0]
    brighter = Patch(patch.hu + 30, patch.inside, patch.known)
    assert rms(patch, brighter) == pytest.approx(30, rel=1e-4)
    assert likeness_of(patch, patch) == pytest.approx(1)
    assert likeness_of(patch, NODULES[1]) < 0.95


def test_a_cube_is_cut_and_filled_around_the_middle() -> None:
    cube = centre(np.ones((2, 6, 4)), 4, 0.0)
    assert cube.sum() == 2 * 4 * 4
    assert cube[1:3].all()


def test_an_attribute_is_followed_or_not() -> None:
    asked = np.array([0.0, 0.5, 1.0])
    assert correlate_ranks(asked, asked * 2) == 1
    assert correlate_ranks(asked, -asked) == -1
    assert correlate_ranks(asked, np.ones(3)) == 0
    assert correlate_ranks(asked[:2], np.array([3.0, 1.0])) == -1
    assert np.isnan(correlate_ranks(asked, np.array([1.0, np.nan, 2.0])))
