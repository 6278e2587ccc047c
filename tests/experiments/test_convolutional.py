"""The convolutional networks against NumPy, published counts and exact facts."""

import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import losses, models
from tests.experiments import numpy_networks

NARROW = (4, 8, 16, 16, 32, 32, 32, 32)


def num_parameters(model):
    params = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (models.cnn(), 30_634),
        (models.vgg11(), 9_750_922),
        # 4-8-16-16-32-32-32-32, then 32-32-32-10.
        (
            models.vgg11(width=1 / 16),
            sum(9 * i * o + o for i, o in itertools.pairwise((3, *NARROW)))
            + 2 * (32 * 32 + 32)
            + (32 * 10 + 10),
        ),
        (
            models.cnn((8, 12, 1), 3, channels=(2, 5)),
            (9 * 2 + 2) + (9 * 2 * 5 + 5) + (2 * 3 * 5 * 3 + 3),
        ),
    ],
    ids=["cnn", "vgg11", "narrow vgg11", "small cnn"],
)
def test_number_of_parameters(model, expected):
    assert num_parameters(model) == expected


@pytest.mark.parametrize(
    ("activation", "formula"), [("relu", numpy_networks.relu), ("tanh", np.tanh)]
)
def test_cnn_is_the_formula(activation, formula):
    model = models.cnn((9, 6, 2), 3, channels=(4, 3), activation=activation)
    params, inputs = numpy_networks.random_params(model), images(5, 9, 6, 2)
    expected = numpy_networks.conv_net(numpy_networks.float64(params), inputs, formula)
    outputs = jax.jit(model.apply)(params, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_vgg11_is_the_formula():
    model = models.vgg11((32, 33, 1), 4, width=1 / 32)
    params, inputs = numpy_networks.random_params(model), images(2, 32, 33, 1)
    assert [len(stage) for stage in params["stages"].values()] == [1, 1, 2, 2, 2]
    expected = numpy_networks.conv_net(
        numpy_networks.float64(params), inputs, numpy_networks.relu
    )
    outputs = jax.jit(model.apply)(params, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_pytorch_init_of_convolutions():
    params = jax.jit(models.cnn().init)(jax.random.key(0))
    layers = [params["stages"][i]["0"] for i in "01"] + [params["layers"]["0"]]
    for layer, fan_in in zip(layers, (27, 288, 2048), strict=True):
        for leaf in layer.values():
            assert 0.8 * fan_in**-0.5 < jnp.abs(leaf).max() <= fan_in**-0.5
    # Of 9,216 values uniform in ±b: the variance is b²/3 within 0.9 % (one sigma).
    np.testing.assert_allclose(layers[1]["kernel"].var(), 1 / (3 * 288), rtol=0.04)


def test_vgg11_init_is_normal_in_the_number_of_outputs():
    model = models.vgg11(width=1 / 4)
    params = jax.jit(model.init)(jax.random.key(0))
    for stage, channels in zip("01234", (16, 32, 64, 128, 128), strict=True):
        for layer in params["stages"][stage].values():
            assert not layer["bias"].any()
            size, variance = layer["kernel"].size, 2 / (9 * channels)
            # A sample variance of n normal numbers has the relative error √(2/n).
            error = layer["kernel"].var() / variance - 1
            assert abs(error) < 4 * np.sqrt(2 / size)
    kernel = params["stages"]["4"]["1"]["kernel"]
    fourth_moment = jnp.mean(kernel**4) / jnp.mean(kernel**2) ** 2
    np.testing.assert_allclose(fourth_moment, 3, rtol=0.05)  # uniform has 1.8
    assert jnp.abs(params["layers"]["0"]["kernel"]).max() > 0.99 * 128**-0.5
    assert jnp.abs(params["layers"]["0"]["kernel"]).max() <= 128**-0.5


def test_lecun_init_of_convolutions():
    model = models.cnn((4, 4, 64), channels=(64,), init="lecun")
    layer = jax.jit(model.init)(jax.random.key(0))["stages"]["0"]["0"]
    np.testing.assert_allclose(layer["kernel"].var(), 1 / (9 * 64), rtol=0.04)
    assert not layer["bias"].any()
    # Truncated at two standard deviations, so narrower than a normal distribution.
    fourth_moment = (layer["kernel"] ** 4).mean() / layer["kernel"].var() ** 2
    assert 1.9 < fourth_moment < 2.6


def functional_hessian_blocks(activation):
    """Return F in blocks by layer, of a CNN with 61 parameters."""
    model = models.cnn((4, 4, 1), 3, channels=(2, 2), activation=activation)
    params = numpy_networks.random_params(model, seed=1)
    data = {"inputs": images(6, 4, 4, 1), "labels": np.arange(6) % 3}

    def predict_fn(params, data):
        return model.apply(params, data["inputs"])

    curvature = dominant.functional_hessian(predict_fn, losses.half_squared_error)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def column(params, data, unit):
        return jax.flatten_util.ravel_pytree(curvature(params, data)(unflatten(unit)))[
            0
        ]

    columns = jax.jit(jax.vmap(column, (None, None, 0)))
    matrix = np.asarray(columns(params, data, jnp.eye(flat.size)))
    # The leaves are sorted by name: bias, then kernel, first "layers", then "stages".
    sizes = [3 + 2 * 3, 2 + 9 * 2, 2 + 9 * 2 * 2]
    assert sum(sizes) == flat.size
    ends = np.cumsum([0, *sizes])
    spans = list(itertools.starmap(slice, itertools.pairwise(ends)))
    return [[matrix[rows, columns] for columns in spans] for rows in spans]


def test_relu_network_has_no_functional_hessian_within_a_layer():
    blocks = functional_hessian_blocks("relu")
    across = max(np.abs(blocks[i][j]).max() for i, j in [(0, 1), (0, 2), (1, 2)])
    for index in range(3):
        assert np.abs(blocks[index][index]).max() < 1e-6 * across


def test_other_networks_have_one_except_in_the_last_layer():
    blocks = functional_hessian_blocks("tanh")
    last, first, second = (blocks[i][i] for i in range(3))
    assert np.abs(last).max() < 1e-6 * np.abs(second).max()
    for block in (first, second):
        assert abs(np.trace(block)) > 1e-3 * np.abs(block).sum()


@pytest.mark.parametrize("size", [(2, 8, 1), (8, 8), (3, 3, 1)])
def test_images_too_small_are_refused(size):
    with pytest.raises(ValueError, match=r"at least 4 for 2 max-pools; got \("):
        models.cnn(size)
    with pytest.raises(ValueError, match="at least 32 for 5 max-pools"):
        models.vgg11((28, 28, 1))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown activation 'swish'; known ones: elu"):
        models.cnn(activation="swish")
    for make in (models.cnn, models.vgg11):
        with pytest.raises(
            ValueError, match="unknown init 'he'; known ones: lecun, py"
        ):
            make(init="he")
