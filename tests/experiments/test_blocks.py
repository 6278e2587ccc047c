"""Blocks of mixtures' classifiers and of networks, against explicit matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from configs import defaults
from experiments import measurements, optimizers, records, train
from experiments.measurements import Record, Setting, blocks, density
from experiments.passes import scores_and_gradient
from experiments.tasks import make_task
from tests.experiments.runs import tiny_config

DIMENSION, RIDGE = 7, 0.1


def mixture_config(dataset, model):
    config = defaults.get_config()
    config.task.dataset, config.task.model = dataset, model
    config.task.loss = "cross_entropy"
    config.task.dimension, config.task.snr = DIMENSION, 4.0
    config.task.num_train, config.task.num_test = 40, 30
    config.task.ridge = RIDGE
    config.task.fresh = True
    if dataset == "gaussian_mixture":
        config.task.num_components = 3
        config.task.means = "general"
    if model == "two_layer":
        config.task.num_hidden = 4
    config.blocks.num_more = 1
    return config


def record_of(config):
    """A record at a random state, and its setting; only what `blocks` reads is real."""
    task = make_task(config.task)
    params = task.init(jax.random.key(1))
    (loss, scores), gradient = scores_and_gradient(task, params, task.train)
    nothing = dict.fromkeys(
        set(Record._fields) - {"params", "loss", "gradient", "scores"}
    )
    record = Record(
        params=params, loss=loss, gradient=gradient, scores=scores, **nothing
    )
    curvature = optimizers.hessian(config, task)
    return record, Setting(config, task, curvature, task.train, task.train, task.test)


def measure(config):
    record, setting = record_of(config)
    take = jax.jit(lambda record: blocks.blocks(record._replace(step=None), setting))
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), take(record))
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), record.params)
    return found, params, setting


def logistic_blocks(x, data):
    """H_cc = E[p_c (1 - p_c) Y Y^T] and Gamma_cc = E[(y_c - p_c)^2 Y Y^T]."""
    inputs, labels = (np.asarray(data[name]) for name in ("inputs", "labels"))
    scores = np.exp(inputs @ x.T)
    p = scores / scores.sum(axis=1, keepdims=True)
    y = np.eye(len(x))[labels]
    hessian = np.einsum("nc,ni,nj->cij", p * (1 - p), inputs, inputs)
    moment = np.einsum("nc,ni,nj->cij", (y - p) ** 2, inputs, inputs)
    return hessian / len(inputs), moment / len(inputs)


def top(matrix, num):
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:num], vectors[:, ::-1][:, :num].T


@pytest.mark.parametrize("dense", [True, False])
def test_class_blocks_of_logistic_regression(dense, monkeypatch):
    monkeypatch.setattr(blocks, "LARGEST_DENSE", 128 if dense else 2)
    monkeypatch.setattr(blocks, "_TOL", 1e-5)
    found, params, setting = measure(mixture_config("gaussian_mixture", "linear"))
    x, k = params["classes"], 3
    means = setting.task.mixture.means
    gradient = np.asarray(record_of(setting.config)[0].gradient["classes"])
    for split, data in (("test", setting.test), ("train", setting.train)):
        spaces = []
        for matrix, of_classes in zip(
            ("hessian", "second_moment"), logistic_blocks(x, data), strict=True
        ):
            name = f"blocks/classes_{matrix}_{split}"
            for c, block in enumerate(of_classes):
                values, vectors = top(block, k + 2)
                np.testing.assert_allclose(
                    found[f"{name}_eigenvalues"][c], values[: k + 1], rtol=1e-4
                )
                if dense:
                    np.testing.assert_allclose(
                        found[f"{name}_next_eigenvalue"][c], values[-1], rtol=1e-4
                    )
                for key, v, num in (
                    ("alignment", x[c], k),
                    ("alignment_first", x[c], 1),
                    ("alignment_gradient", gradient[c], k),
                ):
                    expected = np.linalg.norm(vectors[:num] @ v) / np.linalg.norm(v)
                    np.testing.assert_allclose(
                        found[f"{name}_{key}"][c], expected, atol=2e-3
                    )
            values, vectors = top(of_classes[0], k + 1)
            units = means / np.linalg.norm(means, axis=1, keepdims=True)
            np.testing.assert_allclose(
                found[f"{name}_with_means"], (vectors @ units.T) ** 2, atol=2e-3
            )
            # The means are in the first three coordinates.
            in_span = (vectors[:, :k] ** 2).sum(axis=1)
            np.testing.assert_allclose(found[f"{name}_in_span"][0], in_span, atol=2e-3)
            assert found[f"{name}_residual"].max() < 1e-4
            spaces.append([top(block, k)[1] for block in of_classes])
        overlap = [np.sum((a @ b.T) ** 2) / k for a, b in zip(*spaces, strict=True)]
        np.testing.assert_allclose(
            found[f"blocks/classes_{split}_overlap"], overlap, atol=2e-3
        )


def test_blocks_of_two_layers():
    config = mixture_config("xor_mixture", "two_layer")
    found, params, setting = measure(config)
    w, v = params["hidden"], params["output"]
    inputs = np.asarray(setting.test["inputs"], np.float64)
    hidden = np.maximum(inputs @ w.T, 0)
    p = 1 / (1 + np.exp(-hidden @ v))
    weights = p * (1 - p) / len(p)
    of_output = np.einsum("n,ni,nj->ij", weights, hidden, hidden)
    values = top(of_output, 4)[0]
    np.testing.assert_allclose(
        found["blocks/output_hessian_test_eigenvalues"], values, rtol=1e-4, atol=1e-6
    )
    # Four directions of four: alignment says nothing, and there is no fifth.
    alignment = found["blocks/output_hessian_test_alignment"]
    np.testing.assert_allclose(alignment, 1, rtol=1e-5)
    assert np.isnan(found["blocks/output_hessian_test_next_eigenvalue"])
    active = inputs @ w[1] > 0
    of_neuron = np.einsum("n,ni,nj->ij", weights * active * v[1] ** 2, inputs, inputs)
    values, vectors = top(of_neuron, 3)
    np.testing.assert_allclose(
        found["blocks/hidden_hessian_test_eigenvalues"][1], values, rtol=1e-4
    )
    expected = np.linalg.norm(vectors[:2] @ w[1]) / np.linalg.norm(w[1])
    np.testing.assert_allclose(
        found["blocks/hidden_hessian_test_alignment"][1], expected, atol=1e-3
    )


def test_margins_at_the_means():
    config = mixture_config("gaussian_mixture", "linear")
    record, setting = record_of(config)
    margins = blocks.components(record, setting)["components/margin"]
    x, means = np.asarray(record.params["classes"]), setting.task.mixture.means
    scores = means @ x.T
    expected = [s[a] - np.delete(s, a).max() for a, s in enumerate(scores)]
    np.testing.assert_allclose(margins, expected, rtol=1e-4, atol=1e-6)


def test_layers_of_a_network_are_its_blocks():
    config = tiny_config()
    task = make_task(config.task)
    assert list(task.blocks) == ["layers.0", "layers.1"]
    params = task.init(jax.random.key(0))
    for i, block in enumerate(task.blocks.values()):
        chosen = jax.tree_util.tree_map_with_path(block.select, params)
        assert all(jax.tree.leaves(chosen["layers"][str(i)]))
        assert not any(jax.tree.leaves(chosen["layers"][str(1 - i)]))


def test_a_run_draws_fresh_examples_and_measures_blocks(tmp_path):
    config = mixture_config("gaussian_mixture", "linear")
    config.batch_size, config.steps, config.log_every = 1, 20, 5
    config.checkpoint_every = 20
    config.seeds = 2
    config.task.num_train = 1
    config.subspace.k, config.subspace.refresh_every = 1, 1000
    config.switch.step = 1
    config.modes = ("plain",)
    config.measure.spectrum = 0
    config.measure.blocks = config.measure.components = 1
    config.report_window = 5
    train.run(config, tmp_path)
    lines = records.read_metrics(tmp_path)
    assert {line["seed"] for line in lines} == {0, 1}
    eigenvalues = [line["blocks/classes_hessian_test_eigenvalues"] for line in lines]
    assert np.shape(eigenvalues) == (len(lines), 3, 4)
    assert np.shape(lines[0]["components/margin"]) == (3,)
    # The training set has one example, and no step sees it.
    assert all(line["loss/batch"] != line["loss/full"] for line in lines)
    # Each member measures its own parameters.
    task = make_task(config.task)
    for seed in (0, 1):
        rows = task.init(jax.random.key(seed))["classes"]
        (line,) = (
            line
            for line in lines
            if line["branch"] == "warmup" and line["seed"] == seed
        )
        found = line["blocks/classes_hessian_test_norm"]
        np.testing.assert_allclose(found, np.linalg.norm(rows, axis=1), rtol=1e-5)


def test_a_layer_of_a_network_by_the_dense_matrices():
    config = tiny_config()
    config.task.num_train, config.task.hidden_sizes = 20, (1,)
    config.blocks.names, config.blocks.splits = ("layers.0",), ("train",)
    record, setting = record_of(config)
    k = config.subspace.k
    take = jax.jit(lambda record: blocks.blocks(record, setting))
    found = take(record._replace(**{name: None for name in ("step", "key")}))
    flat, unravel = ravel_pytree(record.params)
    size = optax.tree.size(record.params["layers"]["0"])
    loss = setting.task.loss_fn
    hessian = jax.hessian(lambda x: loss(unravel(x), setting.train))(flat)

    def one(x, example):
        return loss(unravel(x), jax.tree.map(lambda leaf: leaf[None], example))

    rows = jax.vmap(jax.grad(one), (None, 0))(flat, setting.train)
    matrices = {"hessian": hessian, "second_moment": rows.T @ rows / len(rows)}
    theta = np.asarray(flat)[:size]
    gradient = np.asarray(ravel_pytree(record.gradient)[0])[:size]
    for matrix, whole in matrices.items():
        values, vectors = top(np.asarray(whole, np.float64)[:size, :size], k)
        name = f"blocks/layers.0_{matrix}_train"
        np.testing.assert_allclose(found[f"{name}_eigenvalues"][:k], values, rtol=1e-3)
        for key, v in (("alignment", theta), ("alignment_gradient", gradient)):
            expected = np.linalg.norm(vectors @ v) / np.linalg.norm(v)
            np.testing.assert_allclose(found[f"{name}_{key}"], expected, atol=2e-3)


def test_a_block_that_is_zero_has_no_alignment():
    record, setting = record_of(mixture_config("xor_mixture", "two_layer"))
    params = jax.tree.map(jnp.zeros_like, record.params)
    found = blocks.blocks(record._replace(params=params), setting)
    for key in ("alignment", "alignment_first", "residual"):
        number = found[f"blocks/output_hessian_test_{key}"]
        assert np.isfinite(number), key


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ("rows",)}, "unknown block 'rows'; known ones: layers.0"),
        ({"matrices": ("fisher",)}, "known ones: hessian, second_moment"),
        ({"splits": ("validation",)}, "known ones: test, train"),
        ({"num_more": -1}, "num_more must be at least 0, got -1"),
    ],
)
def test_what_there_is_not(fields, message):
    config = tiny_config()
    config.measure.blocks = 1
    config.blocks.update(fields)
    with pytest.raises(ValueError, match=message):
        measurements.check(config, make_task(config.task))
    config = tiny_config()
    config.measure.components = 1
    with pytest.raises(ValueError, match="of a mixture's components"):
        measurements.check(config, make_task(config.task))


def test_a_ridge_is_in_the_loss_and_not_in_the_blocks():
    config = mixture_config("gaussian_mixture", "linear")
    record, setting = record_of(config)
    with_ridge = setting.task.loss_fn(record.params, setting.train)
    without = setting.task.data_loss_fn(record.params, setting.train)
    square = np.sum(np.asarray(record.params["classes"]) ** 2)
    np.testing.assert_allclose(with_ridge - without, RIDGE / 2 * square, rtol=1e-4)
    assert jnp.isfinite(without)


@pytest.mark.parametrize("model", ["linear", "two_layer"])
def test_the_density_of_the_first_block(model, monkeypatch):
    """With all Lanczos steps, the probes' randomness is the only error."""
    dataset = "gaussian_mixture" if model == "linear" else "xor_mixture"
    config = mixture_config(dataset, model)
    probes = 200
    monkeypatch.setattr(density, "PROBES", probes)
    record, setting = record_of(config)
    name, row = next(iter(setting.task.blocks)), 0

    def of_row(theta):
        params = {**record.params, name: record.params[name].at[row].set(theta)}
        return setting.task.data_loss_fn(params, setting.test)

    dense = jax.hessian(of_row)(record.params[name][row])
    values = np.linalg.eigvalsh(np.asarray(dense, np.float64))
    take = jax.jit(lambda key: density.block_density(record._replace(key=key), setting))
    metrics = take(jax.random.key(0))
    c = float(metrics["block_density/linear_below"])
    assert c == pytest.approx(1e-3 * np.max(np.abs(values)), rel=1e-3)
    x = np.arcsinh(np.asarray(metrics["block_density/grid"], np.float64) / c)
    found = np.asarray(metrics["block_density/over_x"])
    assert np.trapezoid(found, x) == pytest.approx(1, abs=1e-3)
    kernels = np.exp(-(((x[:, None] - np.arcsinh(values / c)) / 0.25) ** 2) / 2)
    kernels /= 0.25 * np.sqrt(2 * np.pi)
    deviation = np.sqrt(2 * np.var(kernels, axis=1) / (DIMENSION + 2) / probes)
    error = np.abs(found - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation + 1e-2)
