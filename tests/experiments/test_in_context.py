"""In-context regression: prompts, linear attention by Gram matrices, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs import defaults
from experiments import losses, models
from experiments.data import load
from experiments.data.prompts import log_gammas, random_relu_features
from experiments.tasks import make_task

D, N = 3, 7


def prompts(count=6, covariates="gaussian", dimension=D, context=N, name="prompts"):
    splits = load(
        name,
        num_train=count,
        dimension=dimension,
        context=context,
        covariates=covariates,
        num_test=1,
    )
    return splits.train


def random_params(matrices, num_layers=3, scale=0.3):
    size = D if matrices == "blocks" else D + 1
    keys = jax.random.split(jax.random.key(0))
    shape = (num_layers, size, size)
    return {
        name: scale * jax.random.normal(key, shape)
        for name, key in zip("PQ", keys, strict=True)
    }


def direct(params, inputs, attention):
    """The definition, in float64: Z <- Z + attention, prompt by prompt."""
    outputs = []
    for x, y, query in zip(inputs["x"], inputs["y"], inputs["query"], strict=True):
        z = np.zeros((D + 1, N + 1))
        z[:D, :N], z[:D, N], z[D, :N] = x.T, query, y
        for p, q in zip(params["P"], params["Q"], strict=True):
            p_full, q_full = np.zeros((D + 1, D + 1)), np.zeros((D + 1, D + 1))
            size = len(p)
            p_full[:size, :size], q_full[:size, :size] = p, q
            if size == D:
                p_full[D, D] = 1
            z = z + attention(z, p_full, q_full)
        outputs.append(-z[D, N])
    return np.array(outputs)


def linear(z, p, q):
    mask = np.diag([1.0] * N + [0.0])
    return p @ z @ mask @ (z.T @ q @ z) / N


def softmax(z, p, q):
    scores = np.exp(z[:, :N].T @ q @ z)
    return p @ z[:, :N] @ (scores / scores.sum(axis=0))


@pytest.mark.parametrize("matrices", ["blocks", "full"])
@pytest.mark.parametrize(
    ("make", "attention"),
    [(models.linear_transformer, linear), (models.softmax_transformer, softmax)],
)
def test_models_are_the_definition(matrices, make, attention):
    model = make(D, matrices=matrices)
    inputs, params = prompts()["inputs"], random_params(matrices)
    shapes = jax.tree.map(jnp.shape, model.init(jax.random.key(0)))
    assert shapes == jax.tree.map(jnp.shape, params)
    found = jax.jit(model.apply)(params, inputs)
    assert found.shape == (6, 1)
    expected = direct(params, inputs, attention)
    np.testing.assert_allclose(found[:, 0], expected, rtol=2e-4, atol=1e-5)


def test_initial_entries():
    model = models.linear_transformer(40, num_layers=4)
    params = model.init(jax.random.key(1))
    assert not np.array_equal(params["P"], params["Q"])
    for leaf in params.values():
        np.testing.assert_allclose(np.std(leaf), 0.05, rtol=0.05)
        np.testing.assert_allclose(np.mean(leaf), 0, atol=0.003)


def test_with_zero_blocks_the_loss_is_the_squared_norm():
    """P = Q = 0 in blocks predicts 0: E <w, x>^2 = E |x|^2."""
    data = prompts(20_000)
    model = models.linear_transformer(D)
    outputs = model.apply(random_params("blocks", scale=0.0), data["inputs"])
    np.testing.assert_array_equal(outputs, 0)
    loss = losses.squared_error(outputs, data)
    np.testing.assert_allclose(loss, D, rtol=0.05)


def test_layers_do_gradient_descent():
    """P = e e^T, Q = -a diag(I, 0): a step of size a on the prompt's squared error."""
    steps = [0.3, 0.1, 0.2]
    params = {
        "P": jnp.tile(jnp.zeros((D + 1, D + 1)).at[D, D].set(1), (3, 1, 1)),
        "Q": jnp.stack([-a * jnp.diag(jnp.array([1.0] * D + [0.0])) for a in steps]),
    }
    data = prompts()
    model = models.linear_transformer(D, matrices="full")
    found = model.apply(params, data["inputs"])[:, 0]
    inputs = data["inputs"]
    expected = []
    for x, y, query in zip(inputs["x"], inputs["y"], inputs["query"], strict=True):
        w = np.zeros(D)
        for a in steps:
            w = w + a * x.T @ (y - x @ w) / N
        expected.append(w @ query)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("covariates", "squared", "fourth", "least", "rtol"),
    [
        # |x|^2 of 5 dimensions: its mean and its mean square, and the least loss.
        ("gaussian", 5, 35, 30 / 26, 0.04),
        ("sphere", 1, 1, 1 / 6, 0.04),
        ("gamma", 1, 11, 0.72973, 0.1),
    ],
)
def test_the_best_single_layer(covariates, squared, fourth, least, rtol):
    """P = 0, Q = -a I: a = s^2 / c, at a loss of d s^2 (1 - s^4 / c).

    s^2 = E|x|^2 / d and c = ((n - 1) s^4 + E|x|^4 / d) / n.
    """
    d, n = 5, 20
    data = prompts(40_000, covariates, dimension=d, context=n)
    model = models.linear_transformer(d, num_layers=1)

    def loss(a):
        params = {"P": jnp.zeros((1, d, d)), "Q": -a * jnp.eye(d)[None]}
        return losses.squared_error(model.apply(params, data["inputs"]), data)

    s2 = squared / d
    c = ((n - 1) * s2**2 + fourth / d) / n
    expected = d * s2 * (1 - s2**2 / c)
    np.testing.assert_allclose(expected, least, rtol=1e-4)
    best = s2 / c
    np.testing.assert_allclose(loss(best), expected, rtol=rtol)
    assert loss(best) < min(loss(0.8 * best), loss(1.2 * best))


def test_the_gradient_at_zero_blocks():
    """2 s^4 I of each Q, and 0 of each P."""
    data = prompts(40_000)
    model = models.linear_transformer(D)

    def loss(params):
        return losses.squared_error(model.apply(params, data["inputs"]), data)

    gradient = jax.grad(loss)(random_params("blocks", scale=0.0))
    expected = np.broadcast_to(2 * np.eye(D), gradient["Q"].shape)
    np.testing.assert_allclose(gradient["Q"], expected, atol=0.15)
    np.testing.assert_array_equal(gradient["P"], 0)


@pytest.mark.parametrize("a", [0.1, 0.9])
def test_gamma_variables_are_distributed_as_scipys(a):
    drawn = jax.vmap(lambda key: log_gammas(key, a, (20_000,)))(
        jax.random.split(jax.random.key(0), 2)
    )
    for logs in np.asarray(drawn, np.float64):
        assert stats.kstest(logs, lambda x: stats.gamma(a).cdf(np.exp(x))).pvalue > 0.01
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("covariates", "mean", "variance"),
    [("gaussian", 5, 10), ("sphere", 1, 0), ("gamma", 1, 10)],
)
def test_covariates_have_their_norms(covariates, mean, variance):
    data = prompts(20_000, covariates, dimension=5, context=20)
    squares = np.sum(data["inputs"]["x"].astype(np.float64) ** 2, axis=-1)
    assert np.isfinite(squares).all()
    np.testing.assert_allclose(squares.mean(), mean, rtol=0.03)
    np.testing.assert_allclose(squares.var(), variance, rtol=0.1, atol=1e-6)
    labels = np.einsum("bid,bd->b", data["inputs"]["x"][:, :1], np.ones((20_000, 5)))
    assert abs(labels.mean()) < 0.1


def test_labels_are_linear_in_the_query():
    data = prompts()
    inputs = data["inputs"]
    for x, y, query, label in zip(
        inputs["x"], inputs["y"], inputs["query"], data["labels"], strict=True
    ):
        w = np.linalg.lstsq(x, y, rcond=None)[0]
        np.testing.assert_allclose(w @ query, label[0], rtol=1e-3, atol=1e-4)


def test_the_task_draws_fresh_prompts():
    config = defaults.get_config()
    config.task.dataset, config.task.model = "prompts", "linear_transformer"
    config.task.loss = "squared_error"
    config.task.num_train, config.task.dimension, config.task.context = 10, D, N
    config.task.num_layers = 2
    config.task.fresh = True
    task = make_task(config.task)
    assert task.num_train == 10
    one, other = (task.sample(jax.random.key(i), 4) for i in (0, 1))
    assert one["labels"].shape == (4, 1)
    assert not np.array_equal(one["labels"], other["labels"])
    params = task.init(jax.random.key(0))
    assert params["P"].shape == (2, D, D)
    assert np.isfinite(task.loss_fn(params, one))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"covariates": "cauchy"}, "known ones: gamma, gaussian, sphere"),
        ({"context": 0}, "at least 1"),
        ({"matrices": "diagonal"}, "known ones: blocks, full"),
        ({"model": "mlp"}, "mlp.*got the data set 'prompts'"),
    ],
)
def test_what_cannot_be(fields, message):
    config = defaults.get_config()
    config.task.dataset, config.task.model = "prompts", "linear_transformer"
    config.task.update(fields)
    with pytest.raises(ValueError, match=message):
        make_task(config.task)


def test_labels_of_nonlinear_prompts():
    """Linear in features that are no linear function of x, and of the same size."""
    data = prompts(4000, name="nonlinear_prompts", dimension=5)
    inputs = data["inputs"]
    features = random_relu_features(5)
    of_pairs, of_query = (np.asarray(features(inputs[key])) for key in ("x", "query"))
    assert 2 < np.mean(np.sum(of_query**2, axis=-1)) < 8
    for i in range(5):
        w = np.linalg.lstsq(of_pairs[i], inputs["y"][i], rcond=None)[0]
        np.testing.assert_allclose(of_query[i] @ w, data["labels"][i, 0], rtol=1e-2)
        _, residual, *_ = np.linalg.lstsq(inputs["x"][i], inputs["y"][i], rcond=None)
        assert residual > 1e-3


def test_an_mlp_on_the_covariates():
    """It is the transformer without one, on the MLP's outputs."""
    inputs = prompts()["inputs"]
    model = models.linear_transformer(D, num_hidden=4)
    params = model.init(jax.random.key(2))
    mlp = params["mlp"]
    assert {name: leaf.shape for name, leaf in mlp.items()} == {
        "W": (D, 4),
        "b": (4,),
        "W'": (4, D),
        "b'": (D,),
    }
    params = {**params, **random_params("blocks")}

    def of(x):
        hidden = np.maximum(np.asarray(x) @ np.asarray(mlp["W"]) + mlp["b"], 0)
        return hidden @ np.asarray(mlp["W'"]) + mlp["b'"]

    given = {**inputs, "x": of(inputs["x"]), "query": of(inputs["query"])}
    expected = models.linear_transformer(D).apply(random_params("blocks"), given)
    found = model.apply(params, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
