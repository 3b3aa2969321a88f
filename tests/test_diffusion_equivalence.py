"""Samplers against other implementations: MONAI's schedulers, and DPM-Solver++(2M) in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lesionbrush.diffusion import denoisers, schedules
from lesionbrush.diffusion.samplers import ddim, ddpm, dpm_solver_pp_2m
from lesionbrush.diffusion.schedules import timesteps
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(x: torch.Tensor, t: int) -> torch.Tensor:
    """Any smooth function will do where two implementations are compared."""
    return 0.6 * torch.tanh(x + 0.01 * t) + 0.1 * x.roll(1, -1)


WRAP = {
    "epsilon": lambda schedule: denoisers.from_eps(network, schedule),
    "sample": lambda schedule: denoisers.from_x0(network),
    "v_prediction": lambda schedule: denoisers.from_v(network, schedule),
}


@pytest.mark.parametrize("prediction", WRAP)
@pytest.mark.parametrize(("name", "monai_name"), [("linear", "linear_beta"), ("cosine", "cosine")])
def test_ddpm_equals_monai_step_by_step(prediction, name, monai_name):
    """MONAI's posterior knows neighbours t, t - 1 only, so every timestep is visited. Its noise comes from
    an equal generator, drawn in the same order. Its tables are float32: hence the tolerance, and the start at
    t = 40, as dividing by the tiny alpha of the noisiest level would only compare how float32 rounds."""
    schedule = schedules.SCHEDULES[name](50)
    monai = DDPMScheduler(
        num_train_timesteps=50, schedule=monai_name, clip_sample=False, prediction_type=prediction
    )
    x = torch.randn(2, 1, 4, 5, 6, generator=seeded())
    ours = ddpm(WRAP[prediction](schedule), x, schedule, list(range(40, -1, -1)), generator=seeded(3))
    generator = seeded(3)
    for t in range(40, -1, -1):
        x, _ = monai.step(network(x, t), t, x, generator=generator)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prediction", WRAP)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_equals_monai_over_a_strided_trajectory(prediction, eta):
    """Two conventions differ. MONAI steps from t to t - T // steps whatever its own timesteps are (99, 88,
    ... 0 for ten steps, but strides of 10): the trailing list 99, 89, ... 9 suits both. And when x_0 is
    clipped, MONAI keeps the network's noise where we derive it from the clipped x_0: here nothing is."""
    schedule = schedules.linear(100)
    monai = DDIMScheduler(100, schedule="linear_beta", clip_sample=False, prediction_type=prediction)
    monai.set_timesteps(10)
    x = torch.randn(2, 1, 4, 5, 6, generator=seeded())
    visited = timesteps(schedule, 10, "trailing")
    ours = ddim(WRAP[prediction](schedule), x, schedule, visited, generator=seeded(3), eta=eta)
    generator = seeded(3)
    for t in visited.tolist():
        x, _ = monai.step(network(x, t), t, x, eta=eta, generator=generator)
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spacing", ["log_snr", "uniform", "trailing"])
def test_dpm_solver_equals_an_independent_implementation(spacing):
    """Lu et al. 2022, Algorithm 2, written in numpy from the paper: their indices i, r_i, D_i, lambda."""
    schedule = schedules.cosine(200)
    visited = timesteps(schedule, 9, spacing).tolist()
    bar = schedule.alphas_bar.numpy()
    alpha, sigma = np.sqrt(bar)[visited], np.sqrt(1 - bar)[visited]
    lam = np.log(alpha) - np.log(sigma)
    start = torch.randn(1, 1, 7, generator=seeded(), dtype=torch.float64)

    def predict(x, i):
        return network(torch.from_numpy(x), visited[i]).numpy()

    x = start.numpy()
    buffer = [predict(x, 0)]
    x = sigma[1] / sigma[0] * x - alpha[1] * (np.exp(-(lam[1] - lam[0])) - 1) * buffer[0]
    for i in range(2, 9):
        buffer.append(predict(x, i - 1))
        h_i, h_before = lam[i] - lam[i - 1], lam[i - 1] - lam[i - 2]
        r = h_before / h_i
        D = (1 + 1 / (2 * r)) * buffer[-1] - 1 / (2 * r) * buffer[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (np.exp(-h_i) - 1) * D
    clean = predict(x, 8)

    ours = dpm_solver_pp_2m(denoisers.from_x0(network), start, schedule, visited)
    torch.testing.assert_close(ours, torch.from_numpy(clean), rtol=1e-10, atol=1e-12)


def test_the_first_step_of_dpm_solver_is_ddim():
    x, schedule = torch.randn(1, 1, 8, generator=seeded(), dtype=torch.float64), schedules.cosine(100)
    first = []
    for sampler in (ddim, dpm_solver_pp_2m):
        keep = [lambda x, t, step: first.append(x) or x]
        sampler(denoisers.from_x0(network), x, schedule, [90, 40], after_step=keep)
    torch.testing.assert_close(first[0], first[2])
