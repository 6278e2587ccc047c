"""Measurements against dense linear algebra, at hand-made records."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from configs import defaults
from experiments import measurements, optimizers
from experiments.measurements import MEASUREMENTS, energy
from experiments.tasks import make_task
from tests.experiments.measured import K, make_case, parts, take


@pytest.fixture(scope="module")
def case():
    return make_case()


def test_losses_and_accuracies(case):
    record, setting, _ = case
    for name, data in (("full", setting.curvature_data), ("test", setting.test)):
        metrics, _ = take("losses" if name == "full" else "held_out", case)
        outputs = np.asarray(setting.task.predict_fn(record.params, data))
        errors = outputs - np.eye(10)[np.asarray(data["labels"])]
        expected = np.mean(np.sum(errors**2, axis=1)) / 2
        assert metrics[f"loss/{name}"] == pytest.approx(expected, rel=1e-5)
        hits = np.mean(np.argmax(outputs, axis=1) == np.asarray(data["labels"]))
        assert metrics[f"accuracy/{name}"] == pytest.approx(hits)


def test_alignments(case):
    metrics, _ = take("alignments", case)
    dense = case[2]
    for name, vector in (
        ("gradient", "gradient"),
        ("batch_gradient", "batch_gradient"),
        ("update", "updates"),
    ):
        v = dense[vector]
        expected = np.linalg.norm(dense["basis"] @ v) / np.linalg.norm(v)
        assert metrics[f"alignment/{name}"] == pytest.approx(expected, rel=1e-4)


def test_effective_rates(case):
    metrics, _ = take("effective_rates", case)
    dense = case[2]
    for name, part in parts(dense, dense["gradient"]).items():
        expected = -(dense["updates"] @ part) / (part @ part)
        assert metrics[f"effective_rate/{name}"] == pytest.approx(expected, rel=1e-3)
        ratio = (
            metrics[f"effective_rate/{name}_numerator"]
            / metrics[f"effective_rate/{name}_denominator"]
        )
        assert ratio == pytest.approx(expected, rel=1e-3)


def test_effective_rates_of_gradient_descent_are_its_learning_rate(case):
    record, setting, _ = case
    updates = optax.tree.scale(-0.3, record.gradient)
    metrics, _ = take("effective_rates", (record._replace(updates=updates), setting, 0))
    assert metrics["effective_rate/dom"] == pytest.approx(0.3, rel=1e-5)
    assert metrics["effective_rate/bulk"] == pytest.approx(0.3, rel=1e-4)


def test_a_gradient_without_a_part_has_no_rate_there(case):
    record, setting, _ = case
    inside = dominant.project(record.gradient, record.subspace)
    metrics, _ = take("effective_rates", (record._replace(gradient=inside), setting, 0))
    assert np.isfinite(metrics["effective_rate/dom"])
    assert np.isnan(metrics["effective_rate/bulk"])


def test_descent(case):
    metrics, _ = take("descent", case)
    dense = case[2]
    pieces = {**parts(dense, dense["updates"]), "all": dense["updates"]}
    first = {name: dense["gradient"] @ part for name, part in pieces.items()}
    second = {name: part @ dense["hessian"] @ part / 2 for name, part in pieces.items()}
    for name in pieces:
        assert metrics[f"descent/first_{name}"] == pytest.approx(first[name], rel=1e-3)
        assert metrics[f"descent/second_{name}"] == pytest.approx(
            second[name], rel=1e-3, abs=1e-9
        )
    total = first["all"] + second["all"]
    for name in ("dom", "bulk"):
        assert metrics[f"descent/ratio_{name}"] == pytest.approx(
            (first[name] + second[name]) / total, rel=1e-3
        )


def test_trace(case):
    metrics, _ = take("trace", case)
    dense = case[2]
    of_basis = np.trace(dense["basis"] @ dense["hessian"] @ dense["basis"].T)
    assert metrics["trace/dominant"] == pytest.approx(of_basis, rel=1e-4)
    exact = np.trace(dense["hessian"])
    error = metrics["trace/standard_error"]
    assert 0 < error < 0.5 * exact
    assert abs(metrics["trace/estimate"] - exact) < 4 * error
    assert metrics["trace/dominant_share"] == pytest.approx(
        of_basis / metrics["trace/estimate"], rel=1e-5
    )


def test_noise_is_the_batch_gradients_covariance(case):
    metrics, _ = take("noise", case)
    record, setting, dense = case
    flat, unravel = ravel_pytree(record.params)

    def losses(x):
        outputs = setting.task.predict_fn(unravel(x), setting.curvature_data)
        errors = outputs - jax.nn.one_hot(setting.curvature_data["labels"], 10)
        return 0.5 * jnp.sum(errors**2, axis=1)

    gradients = np.asarray(jax.jit(jax.jacobian(losses))(flat), np.float64)
    # Of the mean of B out of N draws without replacement (Cochran, 1977, theorem 2.2).
    num, size = 60, setting.config.batch_size
    covariance = np.cov(gradients.T) * (1 - size / num) / size
    along = np.einsum("ki,ij,kj->k", dense["basis"], covariance, dense["basis"])
    np.testing.assert_allclose(metrics["noise/along_basis"], along, rtol=1e-3)
    random = [
        ravel_pytree(optax.tree.random_like(key, record.params, jax.random.normal))[0]
        for key in jax.random.split(record.key, K)
    ]
    random = np.stack([v / np.linalg.norm(v) for v in random])
    along = np.einsum("ki,ij,kj->k", random, covariance, random)
    np.testing.assert_allclose(metrics["noise/along_random"], along, rtol=1e-3)


def test_exact_compares_the_basis_in_use_with_the_top_eigenvectors(case):
    record, setting, dense = case
    _, vectors = np.linalg.eigh(dense["hessian"])
    top = vectors[:, ::-1][:, :K]
    # A basis in use that is off: two of the top three, and some other direction.
    other = np.linalg.qr(np.c_[top, dense["batch_gradient"]])[0][:, K]
    basis = np.stack([top[:, 0], top[:, 1], 0.6 * top[:, 2] + 0.8 * other])
    _, unravel = ravel_pytree(record.params)
    tree = jax.vmap(unravel)(jnp.asarray(basis, jnp.float32))
    subspace = record.subspace._replace(basis=tree)
    off = record._replace(tracker=record.tracker._replace(subspace=subspace))
    metrics, _ = take("exact", (off, setting, dense))
    assert metrics["exact/angle"] == pytest.approx(np.arccos(0.6), abs=2e-3)
    assert metrics["exact/overlap"] == pytest.approx((2 + 0.36) / 3, abs=2e-3)
    assert 0 < metrics["exact/error_bound"] < 2e-2
    assert metrics["exact/matvecs"] >= K
    for name, vector in (("gradient", "gradient"), ("update", "updates")):
        v = dense[vector]
        expected = np.linalg.norm(top.T @ v) / np.linalg.norm(v)
        found = metrics[f"exact/alignment_{name}"]
        assert found == pytest.approx(expected, abs=2e-3)


def test_spectrum_is_the_top_2k_and_starts_from_its_memory(case):
    record, setting, dense = case
    memory = MEASUREMENTS["spectrum"].no_memory(record.params, setting)
    values = np.linalg.eigvalsh(dense["hessian"])[::-1]
    errors = []
    for call in range(4):
        metrics, memory = take("spectrum", case, memory)
        found = metrics["spectrum/eigenvalues"]
        assert 2 * K <= metrics["spectrum/matvecs"] <= 5 * K
        np.testing.assert_allclose(found[:K], values[:K], rtol=1e-2)
        # An eigenvalue lies within each residual.
        distances = np.min(np.abs(found[:, None] - values), axis=1)
        assert np.all(distances <= 1.01 * metrics["spectrum/residuals"] + 1e-5), call
        errors.append(np.max(np.abs(found - values[: 2 * K])))
    # Each call has gone on from the one before; those beyond k are a cluster.
    assert errors[-1] < 0.6 * errors[0]


def test_drift_is_the_angle_to_the_basis_before(case):
    record, setting, _ = case
    nothing = MEASUREMENTS["drift"].no_memory(record.params, setting)
    first, memory = take("drift", case, nothing)
    assert np.isnan(first["drift/angle"])
    same, _ = take("drift", case, memory)
    assert same["drift/angle"] == pytest.approx(0, abs=1e-3)
    assert same["drift/overlap"] == pytest.approx(1, abs=1e-5)
    metrics, _ = take("drift", case, turned(case)[0])
    assert metrics["drift/angle"] == pytest.approx(0.3, rel=1e-4)
    expected = (K - 1 + np.cos(0.3) ** 2) / K
    assert metrics["drift/overlap"] == pytest.approx(expected, rel=1e-5)


def turned(case, angle=0.3):
    """Return a basis whose last vector is turned to the outside, and its rows."""
    record, _, dense = case
    outside = np.linalg.qr(np.vstack([dense["basis"], dense["gradient"]]).T)[0][:, K]
    rows = dense["basis"].copy()
    rows[-1] = np.cos(angle) * rows[-1] + np.sin(angle) * outside
    _, unravel = ravel_pytree(record.params)
    trees = [unravel(jnp.asarray(row, jnp.float32)) for row in rows]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), rows


def test_bulk_sharpness_of_the_exact_basis_and_of_a_wrong_one(case):
    record, setting, dense = case
    config = setting.config.copy_and_resolve_references()
    config.optimizer.name = "sgd"
    setting = setting._replace(config=config)
    wrong, rows = turned(case)
    subspace = record.subspace._replace(basis=wrong)
    at_wrong = record._replace(tracker=record.tracker._replace(subspace=subspace))
    found = []
    for at, basis in ((record, dense["basis"]), (at_wrong, rows)):
        metrics, _ = take("bulk_sharpness", (at, setting, dense))
        outside = np.eye(basis.shape[1]) - basis.T @ basis
        largest = np.linalg.eigvalsh(outside @ dense["hessian"] @ outside)[-1]
        assert metrics["bulk_sharpness/largest"] == pytest.approx(largest, rel=1e-2)
        over = largest * config.optimizer.learning_rate / 2
        assert metrics["bulk_sharpness/over_edge"] == pytest.approx(over, rel=1e-2)
        found.append(largest)
    next_eigenvalue = np.linalg.eigvalsh(dense["hessian"])[-K - 1]
    assert found[0] == pytest.approx(next_eigenvalue, rel=1e-2)
    assert found[1] > 1.1 * next_eigenvalue


def test_effective_sharpness_of_adam(case):
    metrics, _ = take("effective_sharpness", case)
    dense = case[2]
    # After one step Adam's bias-corrected nu is the square of the gradient it saw.
    diagonal = np.abs(dense["batch_gradient"]) + 1e-8
    scaled = dense["hessian"] / np.sqrt(np.outer(diagonal, diagonal))
    largest = np.linalg.eigvalsh(scaled)[-1]
    assert metrics["effective_sharpness/largest"] == pytest.approx(largest, rel=1e-2)
    assert metrics["effective_sharpness/edge"] == pytest.approx(38 / 0.01, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "momentum", "edge"),
    [
        ("sgd", 0.0, 2.0),
        ("gd", 0.0, 2.0),
        ("heavy_ball", 0.9, 3.8),
        ("nesterov", 0.9, 3.8 / 2.8),
        ("adam", 0.0, np.nan),
    ],
)
def test_edges_are_where_a_quadratic_stops_to_converge(name, momentum, edge):
    """By running the optimizer on one coordinate, just below and just above."""
    config = defaults.get_config().optimizer
    with config.unlocked():
        config.name, config.momentum, config.learning_rate = name, momentum, 0.1
    found = measurements.training.stability_edge(config, jnp.float32(0.1))
    np.testing.assert_allclose(found, edge / 0.1, rtol=1e-5)
    if not np.isfinite(edge):
        return
    tx = optimizers.base_optimizer(config, 100)

    def run(curvature):
        def step(carry, _):
            x, state = carry
            updates, state = tx.update(curvature * x, state, x)
            return (x + updates, state), None

        x = jnp.float32(1.0)
        return jnp.abs(jax.lax.scan(step, (x, tx.init(x)), length=1000)[0][0])

    below, above = jax.jit(jax.vmap(run))(jnp.array([0.99, 1.01]) * float(found))
    assert below < 1e-3
    assert not above < 1e3  # infinite or NaN by now


def test_what_a_run_cannot_measure_is_refused(case):
    _, setting, _ = case
    config = defaults.get_config()
    config.measure.held_out = 1
    with pytest.raises(ValueError, match="needs a test set"):
        measurements.check(config, setting.task._replace(test=None))


MIXTURE = {
    "dataset": "gaussian_mixture",
    "model": "linear",
    "hidden_sizes": None,
    "num_components": 3,
    "dimension": 4,
    "loss": "cross_entropy",
}
TWO_CLASSES = {"classes": (0, 1), "num_train": 5}


def on_another_task(record, setting, fields):
    """The record and the setting with another task; what is not its own stays."""
    config = setting.config.copy_and_resolve_references()
    config.task.update(fields)
    task = make_task(config.task)
    record = record._replace(params=task.init(jax.random.key(0)))
    return record, setting._replace(
        config=config, task=task, train=task.train, test=task.test
    )


def test_the_docs_list_every_measurement_and_its_fields(case):
    table = Path("docs/measurements.md").read_text(encoding="utf-8").splitlines()
    record, setting, _ = case
    memories = {
        name: measurement.no_memory(record.params, setting)
        for name, measurement in MEASUREMENTS.items()
        if measurement.no_memory
    }
    others = {"components": MIXTURE, "canonical": TWO_CLASSES}
    for name, measurement in MEASUREMENTS.items():
        row = next(line for line in table if line.startswith(f"| `{name}`"))
        assert f"| {measurement.products} |" in row
        seen, its_setting = record, setting
        if name in others:
            seen, its_setting = on_another_task(record, setting, others[name])
        shapes, _ = jax.eval_shape(
            lambda record, m=measurement, s=its_setting, name=name: m.take(
                record, s, memories.get(name, ())
            ),
            seen,
        )
        for field in shapes:
            group, _, rest = field.partition("/")
            # blocks/BLOCK_MATRIX_SET_FIELD
            rest = re.sub(r"^.*_(test|train)_", "", rest) if name == "blocks" else rest
            stem = rest.removesuffix("_numerator").removesuffix("_denominator")
            stem = stem.removesuffix("_dom").removesuffix("_bulk").removesuffix("_all")
            for matrix in reversed(energy.MATRICES):
                stem = stem.removesuffix(f"_{matrix}")
            assert f"{group}/" in row, field
            assert stem in row, field
