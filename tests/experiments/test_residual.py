"""The residual network and its two modes against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dominant
from experiments import losses, models
from tests.experiments import numpy_networks

MODEL = models.resnet8(2, 3, channels=(2, 3))
TRACES = []


@jax.jit
def apply_training(params, state, inputs):
    TRACES.append(inputs.shape)
    return MODEL.apply_training(params, state, inputs)


def examples(num_examples):
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.standard_normal((num_examples, 6, 6, 2)).astype(np.float32),
        "labels": rng.integers(0, 3, num_examples).astype(np.int32),
    }


@pytest.fixture(scope="module")
def variables():
    """Parameters and state that are nowhere at their initial zeros and ones."""
    return numpy_networks.random_params(MODEL)


def test_number_of_parameters():
    params, state = jax.eval_shape(models.resnet8().init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 75_386
    # A mean and a variance for each scale.
    norms = 16 + 2 * (16 + 32 + 64) + (16 + 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * norms


def test_evaluation_is_the_formula(variables):
    params, state = variables
    inputs = examples(4)["inputs"]
    expected, _ = numpy_networks.resnet(
        *map(numpy_networks.float64, variables), inputs, training=False
    )
    outputs = jax.jit(MODEL.apply)(params, state, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_training_is_the_formula_and_moves_the_state(variables):
    params, state = variables
    inputs = examples(4)["inputs"]
    expected, expected_state = numpy_networks.resnet(
        *map(numpy_networks.float64, variables), inputs, training=True
    )
    outputs, new_state = apply_training(params, state, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    jax.tree.map(
        lambda new, wanted: np.testing.assert_allclose(
            new, wanted, rtol=1e-4, atol=1e-5
        ),
        new_state,
        expected_state,
    )


def test_initial_parameters():
    model = models.resnet8(channels=(8, 64))
    params, state = jax.jit(model.init)(jax.random.key(0))
    for block in params["blocks"].values():
        assert not block["second_norm"]["scale"].any()
        assert (block["first_norm"]["scale"] == 1).all()
        assert "bias" not in block["first"]
    assert (params["blocks"]["1"]["shortcut_norm"]["scale"] == 1).all()
    kernel = params["blocks"]["1"]["second"]["kernel"]  # 36,864 normal numbers
    np.testing.assert_allclose(kernel.var(), 2 / (9 * 64), rtol=0.03)
    assert jnp.abs(params["last"]["kernel"]).max() <= 64**-0.5
    assert (state["first_norm"]["mean"] == 0).all()
    assert (state["first_norm"]["var"] == 1).all()


def test_lecun_init():
    model = models.resnet8(channels=(32,), init="lecun")
    params, _ = jax.jit(model.init)(jax.random.key(0))
    kernel = params["blocks"]["0"]["first"]["kernel"]  # 9,216 numbers
    np.testing.assert_allclose(kernel.var(), 1 / (9 * 32), rtol=0.05)
    assert not params["blocks"]["0"]["second_norm"]["scale"].any()


def test_a_numpy_state_is_not_written_to(variables):
    params, state = variables
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
    # As a constant of the traced function: flax would write a tracer into it.
    jax.eval_shape(
        lambda p: MODEL.apply_training(p, state, examples(2)["inputs"]), params
    )


def test_seeds_vmap_and_steps_compile_once():
    inputs = examples(4)["inputs"]
    TRACES.clear()
    keys = jax.random.split(jax.random.key(3), 2)
    params, state = jax.jit(jax.vmap(MODEL.init))(keys)
    together, states = jax.jit(jax.vmap(MODEL.apply_training, (0, 0, None)))(
        params, state, inputs
    )
    for seed in range(2):
        own_params, own_state = jax.tree.map(lambda x, i=seed: x[i], (params, state))
        outputs, new_state = apply_training(own_params, own_state, inputs)
        np.testing.assert_allclose(together[seed], outputs, rtol=1e-4, atol=1e-5)
        jax.tree.map(
            lambda whole, one, i=seed: np.testing.assert_allclose(
                whole[i], one, rtol=1e-4, atol=1e-5
            ),
            states,
            new_state,
        )
        apply_training(own_params, new_state, inputs)
    assert len(TRACES) <= 1
    assert not np.allclose(together[0], together[1])


def evaluation_loss(params, data):
    state, part = data
    outputs = MODEL.apply(params, state, part["inputs"])
    return losses.half_squared_error(outputs, part)


def training_loss(params, data):
    state, part = data
    outputs, _ = MODEL.apply_training(params, state, part["inputs"])
    return losses.half_squared_error(outputs, part)


def test_examples_are_coupled_in_training_only(variables):
    params, state = variables
    data = examples(6)
    halves = [jax.tree.map(lambda x, s=s: x[s::2], data) for s in (0, 1)]
    for loss_fn, exact in ((evaluation_loss, True), (training_loss, False)):
        loss = jax.jit(loss_fn)
        whole = loss(params, (state, data))
        mean = sum(loss(params, (state, half)) for half in halves) / 2
        assert abs(mean / whole - 1) < 1e-5 if exact else abs(mean / whole - 1) > 1e-2


def test_chunked_products_as_the_docstring_has_them(variables):
    params, state = variables

    def curvature(params, data):
        state, examples = data
        whole = dominant.hessian(lambda p, part: evaluation_loss(p, (state, part)))
        return dominant.in_batches(whole, 4)(params, examples)

    @jax.jit
    def products(params, data, v):
        whole = dominant.hvp(evaluation_loss, params, v, data)
        return whole, curvature(params, data)(v)

    v = numpy_networks.random_like(params, seed=1)
    whole, chunked = products(params, (state, examples(8)), v)
    largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(whole))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * largest),
        whole,
        chunked,
    )


def test_training_hessian_knows_the_scale_symmetry(variables):
    """f(c K) = f(K) for a kernel K before BatchNorm, its epsilon aside.

    So g(c K) = g(K) / c: in c at 1, K^T g = 0 and, within K's block, H K = -g.
    """
    params, state = variables
    data = (state, examples(6))
    v = jax.tree.map(jnp.zeros_like, params)
    kernel = params["blocks"]["1"]["first"]["kernel"]
    v["blocks"]["1"]["first"]["kernel"] = kernel

    @jax.jit
    def derivatives(params, v):
        return jax.jvp(lambda p: jax.grad(training_loss)(p, data), (params,), (v,))

    gradient, product = (
        np.asarray(tree["blocks"]["1"]["first"]["kernel"], np.float64)
        for tree in derivatives(params, v)
    )
    scale = np.linalg.norm(gradient)
    assert scale > 1e-3
    assert abs(np.vdot(kernel, gradient)) < 1e-3 * scale * np.linalg.norm(kernel)
    np.testing.assert_allclose(product, -gradient, atol=2e-3 * scale)


def test_padded_channels_have_no_gradient_until_last_scales_are_set():
    gradient_fn = jax.jit(jax.grad(training_loss))
    params, state = numpy_networks.random_params(MODEL)
    for block in params["blocks"].values():  # as they begin
        for name in ("second_norm", "shortcut_norm"):
            if name in block:
                block[name]["bias"] = np.zeros_like(block[name]["bias"])
    for scale, alive in ((0.0, [True, True, False]), (1.0, [True] * 3)):
        layer = params["blocks"]["1"]["second_norm"]
        layer["scale"] = np.full_like(layer["scale"], scale)
        gradient = gradient_fn(params, (state, examples(6)))
        bias = gradient["blocks"]["1"]["second_norm"]["bias"]
        assert (bias != 0).tolist() == alive


def test_other_state_is_refused():
    class Dropped(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(2, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    with pytest.raises(ValueError, match=r"batch statistics may be.*dropout\.rngs"):
        models.pure_stateful_model(lambda key: Dropped(nnx.Rngs(key)))


@pytest.mark.parametrize("channels", [(), (4, 2)])
def test_bad_channels_are_refused(channels):
    with pytest.raises(ValueError, match="must not decrease; got channels="):
        models.resnet8(channels=channels)
    with pytest.raises(ValueError, match="unknown init 'he'"):
        models.resnet8(init="he")
