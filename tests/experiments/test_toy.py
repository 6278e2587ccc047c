"""The toy quadratic's runs, against loops in NumPy and enumeration of the signs."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import dominant
from configs.tiny_subspaces import toy_gaussian, toy_quadratic
from experiments import records, toy, toy_steps, toy_theory
from experiments.json_values import flatten
from tests.experiments.toy_runs import lines_of, small_config

LR = 5e-4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with every branch: its folder and its status."""
    workdir = tmp_path_factory.mktemp("toy") / "run"
    return workdir, toy.run(small_config(), workdir, ["the", "command"])


# --- steps ----------------------------------------------------------------------------


def numpy_path(signs, start, weights):
    """theta_0, theta_1, ... of one seed, [steps + 1, 2]."""
    path = [np.array(start, float)]
    for sign in signs:
        x, y = path[-1]
        gradient = np.array([1000 * x + 100 * sign * y, y + 100 * sign * x])
        path.append(path[-1] - LR * np.array(weights) * gradient)
    return np.array(path)


@pytest.mark.parametrize(
    ("mode", "weights"), [("plain", (1, 1)), ("dom", (1, 0)), ("bulk", (0, 1))]
)
def test_seeds_take_the_steps_of_a_loop(monkeypatch, mode, weights):
    """All 64 sign sequences of 6 steps: every path, and the means over them."""
    config = small_config()
    config.seeds, config.num_paths, config.steps, config.start = 64, 64, 6, (0.02, 1.0)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=6)))

    def draw(key, shape):
        # The step's number, back from its key.
        keys = jax.vmap(
            lambda t: jax.random.key_data(jax.random.fold_in(jax.random.key(0), t))
        )
        same = (keys(np.arange(7)) == jax.random.key_data(key)).all(axis=1)
        return np.concatenate([signs, np.ones((64, 1))], axis=1) @ same

    monkeypatch.setitem(
        toy_steps.NOISES, "sign", toy_steps.NOISES["sign"]._replace(draw=draw)
    )
    metrics = toy_steps.trajectories(config, mode, config.start)
    paths = np.stack([numpy_path(row, config.start, weights) for row in signs], axis=1)
    x, y = paths[..., 0], paths[..., 1]  # [steps + 1, seeds]
    np.testing.assert_allclose(metrics["toy/path_x"], x, atol=1e-6)
    np.testing.assert_allclose(metrics["toy/path_y"], y, rtol=1e-6)
    norms = np.hypot(1000 * x, y)
    energies = norms**2
    ratio = (1e6 * x**2).mean(1) / energies.mean(1)
    off = 1e6 * x**2 - ratio[:, None] * energies
    chi = 1000 * np.abs(x) / norms
    expected = {
        "toy/x2": (x**2).mean(1),
        "toy/y2": (y**2).mean(1),
        "toy/xy": (x * y).mean(1),
        "toy/chi": chi.mean(1),
        "toy/chi_error": chi.std(1) / 8,
        "toy/x2_error": (x**2).std(1) / 8,
        "loss/full": (500 * x**2 + y**2 / 2).mean(1),
        "toy/energy_ratio": ratio,
        "toy/energy_ratio_error": np.sqrt((off**2).mean(1)) / 8 / energies.mean(1),
        "toy/y_min": y.min(1),
        "toy/y_max": y.max(1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            metrics[name], values, rtol=2e-4, atol=1e-6, err_msg=name
        )


def test_bulk_decays_exactly_in_float64():
    config = toy_quadratic.get_config()
    config.seeds = 8
    with jax.enable_x64(True):
        metrics = toy_steps.trajectories(config, "bulk", (0.0, 1.0))
    exact = (1 - LR) ** np.arange(4001)
    assert metrics["toy/y_min"].dtype == np.float64
    np.testing.assert_allclose(metrics["toy/y_min"], exact, rtol=1e-10)
    np.testing.assert_allclose(metrics["toy/y_max"], exact, rtol=1e-10)
    # Frozen up to rounding.
    assert np.max(metrics["toy/x2"]) < 1e-30


def test_the_subspace_is_the_top_eigenspace_of_the_loss():
    quadratic = toy_gaussian.get_config().quadratic
    with quadratic.unlocked():
        quadratic.num_dominant, quadratic.num_bulk = 2, 3
    diagonal = toy_steps.eigenvalues(quadratic)
    np.testing.assert_array_equal(diagonal, [1000, 1000, 1, 1, 1])
    hessian = jax.hessian(toy_steps.full_loss)(np.ones(5, np.float32), diagonal)
    values, vectors = np.linalg.eigh(np.asarray(hessian))
    subspace = toy_steps.exact_subspace(quadratic)
    np.testing.assert_allclose(subspace.eigenvalues, values[:-3:-1])
    assert subspace.next_eigenvalue == pytest.approx(values[2])
    projector = vectors[:, -2:] @ vectors[:, -2:].T
    np.testing.assert_allclose(subspace.basis.T @ subspace.basis, projector, atol=1e-6)
    assert dominant.error_bound(subspace) < 1e-5


def test_isotropic_noise_aligns_as_the_closed_form_says():
    """Item 2 of the reference: energy .963, mean chi .960, in 12 dimensions."""
    config = small_config(toy_gaussian.get_config)
    config.quadratic.update(
        {"dominant": 20.0, "bulk": 0.5, "num_dominant": 3, "num_bulk": 9}
    )
    config.learning_rate, config.start = 0.05, (0.0, 0.0)
    config.seeds, config.steps = 2048, 300
    metrics = toy_steps.trajectories(config, "plain", config.start)
    ratio = toy_theory.noise_energy_ratio(0.05, 3, 12, 20.0, 0.5)
    error = metrics["toy/energy_ratio_error"][-1]
    assert abs(metrics["toy/energy_ratio"][-1] - ratio) < 4 * error
    assert metrics["toy/chi"][-1] == pytest.approx(0.960, abs=2e-3)
    for name, value, count in (("toy/x2", 20.0, 3), ("toy/y2", 0.5, 9)):
        variance = count * toy_theory.stationary_variance(value, 0.05, 100.0)
        assert abs(metrics[name][-1] - variance) < 4 * metrics[f"{name}_error"][-1]
    assert abs(metrics["toy/xy"][-1]) < 4 * metrics["toy/xy_error"][-1]


# --- runs -----------------------------------------------------------------------------


def test_a_run_leaves_its_records(finished):
    workdir, status = finished
    branches = ["plain", "dom", "bulk", "gd", "gd_displaced"]
    assert status["status"] == "finished"
    assert status["branches"] == {
        name: {"status": "finished", "step": 120} for name in branches
    }
    assert status["switch_step"] == 0
    assert records.read_status(workdir) == status
    assert records.read_config(workdir)["seeds"] == 4096
    assert records.read_provenance(workdir)[0]["argv"] == ["the", "command"]
    for name in branches:
        steps = [line["step"] for line in lines_of(workdir, name)]
        assert steps == sorted({0, 1, 2, 3, *range(0, 121, 4)})


def test_moments_follow_the_recursion(finished):
    workdir, _ = finished
    for mode, weights in (("plain", (1, 1)), ("dom", (1, 0))):
        step = toy_theory.linear_step((1000, 1), weights, LR, coupling=100.0)
        moments = toy_theory.second_moments(step, (0, 1), 120)
        for line in lines_of(workdir, mode):
            exact = moments[line["step"]]
            for name, value in (("toy/x2", exact[0, 0]), ("toy/xy", exact[0, 1])):
                error = 4.5 * line[f"{name}_error"] + 1e-6 * value
                assert abs(line[name] - value) <= error
            assert line["toy/y2"] == pytest.approx(exact[1, 1], rel=2e-2)


def test_dom_keeps_y_to_the_last_bit_and_bulk_keeps_x(finished):
    workdir, _ = finished
    for line in lines_of(workdir, "dom"):
        assert line["toy/y_min"] == line["toy/y_max"] == 1.0
    for line in lines_of(workdir, "bulk"):
        assert line["toy/y_min"] == pytest.approx((1 - LR) ** line["step"], rel=1e-5)
        assert line["toy/x2"] < 1e-12


def test_gradient_descent_loses_its_alignment(finished):
    workdir, _ = finished
    for line in lines_of(workdir, "gd_displaced"):
        step = line["step"]
        x, y = 0.1 * 0.5**step, (1 - LR) ** step
        assert line["toy/chi"] == pytest.approx(1000 * x / np.hypot(1000 * x, y))
        assert line["toy/path_x"] == [pytest.approx(x)]
    assert {line["toy/chi"] for line in lines_of(workdir, "gd")} == {0.0}


def test_branches_meet_the_same_draws(finished):
    """The first step across is the same for SGD and Dom-SGD, seed by seed."""
    workdir, _ = finished
    plain, dom = (lines_of(workdir, name)[1]["toy/path_x"] for name in ("plain", "dom"))
    assert plain == dom
    assert np.abs(plain) == pytest.approx(0.05)


def test_a_finished_run_is_left_alone_and_an_interrupted_one_starts_again(
    finished, tmp_path, monkeypatch
):
    workdir, status = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    assert toy.run(small_config(), workdir) == status
    assert (workdir / "metrics.jsonl").read_bytes() == before

    config = small_config()
    config.seeds, config.steps = 16, 5
    take = toy.trajectories

    def fail(config, mode, start):
        if mode == "bulk":
            raise KeyboardInterrupt
        return take(config, mode, start)

    with monkeypatch.context() as patch:
        patch.setattr(toy, "trajectories", fail)
        with pytest.raises(KeyboardInterrupt):
            toy.run(config, tmp_path / "run")
    assert records.read_status(tmp_path / "run")["status"] == "interrupted"
    assert toy.run(config, tmp_path / "run")["status"] == "finished"
    seen = [(m["branch"], m["step"]) for m in records.read_metrics(tmp_path / "run")]
    assert len(seen) == len(set(seen)) == 5 * 6


def test_divergence_is_said(tmp_path):
    config = small_config()
    config.seeds, config.learning_rate, config.modes = 4, 0.1, ("gd",)
    status = toy.run(config, tmp_path / "run")
    assert status["status"] == "diverged"
    # |x| grows by a factor of 99 a step, until 500 x^2 leaves float32.
    step = next(t for t in range(99) if 500 * (0.1 * 99.0**t) ** 2 > 3.4e38)
    assert status["branches"]["gd_displaced"] == {"status": "diverged", "step": step}
    assert lines_of(tmp_path / "run", "gd_displaced")[-1]["step"] == step


# --- configs and command --------------------------------------------------------------


@pytest.mark.parametrize("module", [toy_quadratic, toy_gaussian])
def test_configs_are_locked_survive_json_and_can_be_run(module):
    config = module.get_config()
    assert config.is_locked
    toy.check(config)
    assert json.loads(json.dumps(config.to_dict()))["seeds"] == 16_384
    assert "python -m experiments.toy --config=" in module.__doc__


def test_each_field_is_read():
    source = "".join(
        Path(f"experiments/{name}.py").read_text()
        for name in ("toy", "toy_steps", "at_once")
    )
    fields = set(flatten(toy_quadratic.get_config().to_dict())) - {"title"}
    for field in fields:
        last = field.rsplit(".", 1)[-1]
        assert f".{last}" in source or f'"{last}"' in source, field


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": {"name": "cauchy"}}, "known ones: gaussian, sign"),
        ({"modes": ("plain", "sgd")}, "known ones: bulk, dom, gd, plain"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"quadratic": {"num_bulk": 2}}, r"num_bulk must be .* got 2"),
        ({"quadratic": {"dominant": 1.0}}, r"must exceed quadratic\.bulk = 1\.0"),
    ],
)
def test_impossible_configs_are_refused_before_anything_is_written(
    tmp_path, change, message
):
    config = toy_quadratic.get_config()
    config.update(change)
    with pytest.raises(ValueError, match=message):
        toy.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "experiments.toy"]
    command += [
        "--config=configs/tiny_subspaces/toy_gaussian.py",
        f"--workdir={tmp_path}/run",
    ]
    command += ["--config.seeds=4", "--config.steps=3", "--config.modes=('plain',)"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "status: finished" in result.stdout
    assert records.read_metrics(tmp_path / "run")[-1]["step"] == 3
