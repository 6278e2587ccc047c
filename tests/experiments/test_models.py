"""Networks against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import models


def num_parameters(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((784, 200, 200, 10), 199_210),
        ((3, 2), 3 * 2 + 2),
        ((5, 4, 3), 5 * 4 + 4 + 4 * 3 + 3),
    ],
)
def test_number_of_parameters(sizes, expected):
    params = jax.eval_shape(models.mlp(sizes).init, jax.random.key(0))
    assert num_parameters(params) == expected


def test_apply_is_the_formula():
    model = models.mlp((6, 5, 4, 3), "tanh")
    params = model.init(jax.random.key(1))
    inputs = np.random.default_rng(0).normal(size=(7, 2, 3, 1)).astype(np.float32)
    (w0, b0), (w1, b1), (w2, b2) = (
        (params["layers"][i]["kernel"], params["layers"][i]["bias"]) for i in "012"
    )
    hidden = np.tanh(np.tanh(inputs.reshape(7, 6) @ w0 + b0) @ w1 + b1)
    np.testing.assert_allclose(
        model.apply(params, inputs), hidden @ w2 + b2, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("elu", [np.expm1(-2.0), 0.0, 3.0]),
        ("hard_tanh", [-1.0, 0.0, 1.0]),
        ("identity", [-2.0, 0.0, 3.0]),
        ("relu", [0.0, 0.0, 3.0]),
        ("silu", [-2.0 / (1 + np.exp(2.0)), 0.0, 3.0 / (1 + np.exp(-3.0))]),
        ("softplus", np.log1p(np.exp([-2.0, 0.0, 3.0]))),
        ("tanh", np.tanh([-2.0, 0.0, 3.0])),
    ],
)
def test_activations(name, expected):
    values = models.ACTIVATIONS[name](jnp.array([-2.0, 0.0, 3.0]))
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_pytorch_init_is_uniform_in_one_over_root_fan_in():
    params = models.mlp((784, 200, 10), init="pytorch").init(jax.random.key(0))
    for layer, fan_in in (("0", 784), ("1", 200)):
        for leaf in params["layers"][layer].values():
            assert jnp.abs(leaf).max() <= fan_in**-0.5
    kernel = params["layers"]["0"]["kernel"]
    # Of 156,800 values: the largest is near the bound, and the variance near
    # 1/(3 fan_in), with a relative standard error of 0.23 %.
    assert jnp.abs(kernel).max() > 0.999 * 784**-0.5
    np.testing.assert_allclose(kernel.var(), 1 / (3 * 784), rtol=0.01)
    assert jnp.abs(params["layers"]["0"]["bias"]).max() > 0.9 * 784**-0.5


def test_lecun_init_has_variance_one_over_fan_in_and_no_bias():
    params = models.mlp((784, 200, 10), init="lecun").init(jax.random.key(0))
    kernel, bias = params["layers"]["0"]["kernel"], params["layers"]["0"]["bias"]
    np.testing.assert_allclose(kernel.var(), 1 / 784, rtol=0.02)
    assert not bias.any()


def test_layers_do_not_share_random_numbers():
    params = models.mlp((3, 3, 3)).init(jax.random.key(0))
    first, second = params["layers"]["0"], params["layers"]["1"]
    assert not np.allclose(first["kernel"], second["kernel"])
    assert not np.allclose(first["bias"], first["kernel"][0])


def test_init_is_a_pure_function_of_the_key():
    init = models.mlp((4, 3, 2)).init
    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(init))(keys)
    for index, key in enumerate(keys):
        jax.tree.map(
            lambda whole, one, i=index: np.testing.assert_array_equal(whole[i], one),
            together,
            init(key),
        )
    weights = together["layers"]["0"]["kernel"]
    assert not np.allclose(weights[0], weights[1])


def test_hessian_vector_product_is_the_slope_of_the_gradient():
    model = models.mlp((3, 4, 2))
    params = model.init(jax.random.key(0))
    direction = model.init(jax.random.key(2))
    inputs = jax.random.normal(jax.random.key(1), (5, 3))

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: jnp.sum(model.apply(p, inputs) ** 2))(params)

    def along(step):
        return jax.tree.map(lambda p, d: p + step * d, params, direction)

    _, product = jax.jvp(gradient, (params,), (direction,))
    step = 1e-2
    jax.tree.map(
        lambda h, up, down: np.testing.assert_allclose(
            h, (up - down) / (2 * step), rtol=1e-2, atol=1e-2
        ),
        product,
        gradient(along(step)),
        gradient(along(-step)),
    )


def test_split_agrees_with_the_module_and_has_string_keys():
    module = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(4, 2, rngs=nnx.Rngs(1))
    )
    inputs = jnp.arange(6.0).reshape(2, 3)
    apply, params = models.split(module)
    np.testing.assert_array_equal(apply(params, inputs), module(inputs))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    assert not np.allclose(apply(doubled, inputs), module(inputs))
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    assert {type(key.key) for path in paths for key in path} == {str}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nnx.BatchNorm(3, rngs=nnx.Rngs(0)), "mean"),
        (nnx.Dropout(0.5, rngs=nnx.Rngs(0)), "rngs"),
    ],
    ids=["batch-norm", "dropout"],
)
def test_split_refuses_other_state_than_parameters(module, name):
    with pytest.raises(ValueError, match=name):
        models.split(module)


def test_own_modules_become_models():
    model = models.pure_model(lambda key: nnx.Linear(3, 2, rngs=nnx.Rngs(key)))
    params = model.init(jax.random.key(0))
    inputs = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(
        model.apply(params, inputs),
        inputs @ np.asarray(params["kernel"]) + np.asarray(params["bias"]),
        rtol=1e-6,
    )
    with pytest.raises(ValueError, match="only parameters may be state"):
        models.pure_model(lambda key: nnx.BatchNorm(3, rngs=nnx.Rngs(key)))


def test_one_compilation_serves_all_seeds():
    model, traces = models.mlp((3, 4, 2)), 0

    @jax.jit
    def outputs(params, inputs):
        nonlocal traces
        traces += 1
        return model.apply(params, inputs)

    init = jax.jit(model.init)
    for seed in range(3):
        outputs(init(jax.random.key(seed)), np.ones((2, 3), np.float32))
    assert traces == 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"'swish'; known ones: elu, .*, tanh"):
        models.mlp((2, 1), activation="swish")
    with pytest.raises(ValueError, match="'xavier'; known ones: lecun, pytorch"):
        models.mlp((2, 1), init="xavier")
    with pytest.raises(ValueError, match=r"sizes=\(2,\)"):
        models.mlp((2,))
