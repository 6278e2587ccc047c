"""The check of products: what must pass, what must not, and what it then says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import losses, models
from experiments.curvature_check import CurvatureError, check_products
from tests.experiments import numpy_networks

RNG = np.random.default_rng(0)
IMAGES = {
    "inputs": RNG.standard_normal((4, 8, 8, 1)).astype(np.float32),
    "labels": np.arange(4) % 3,
}
IDS = RNG.integers(0, 11, (4, 6))
SENTENCES = {
    "inputs": {"ids": IDS, "mask": np.arange(6) < np.array([[6], [4], [1], [0]])},
    "labels": np.arange(4) % 3,
}
TEXT = {"inputs": IDS[:, :-1], "labels": IDS[:, 1:]}

NETWORKS = {
    "mlp": (models.mlp((64, 16, 3)), IMAGES),
    "cnn": (models.cnn((8, 8, 1), 3, channels=(4, 4)), IMAGES),
    "transformer": (
        models.transformer_classifier(
            3, vocab_size=11, width=8, num_layers=1, num_heads=2, num_hidden=16
        ),
        SENTENCES,
    ),
    "gpt": (models.gpt(11, max_length=5, width=8, num_layers=1, num_heads=2), TEXT),
}


def loss_of(apply):
    def loss_fn(params, data):
        return losses.cross_entropy(apply(params, data["inputs"]), data)

    return loss_fn


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_pass(name):
    model, data = NETWORKS[name]
    params = numpy_networks.random_params(model)
    assert check_products(loss_of(model.apply), params, data) < 1e-5


def test_residual_network_passes_in_training():
    model = models.resnet8(1, 3, channels=(2,))
    params, state = numpy_networks.random_params(model)

    def loss_fn(params, data):
        outputs, _ = model.apply_training(params, data["state"], data["inputs"])
        return losses.cross_entropy(outputs, data)

    assert check_products(loss_fn, params, {**IMAGES, "state": state}) < 1e-5


PARAMS = {"a": jnp.array([0.3, -1.2, 2.0]), "b": {"c": jnp.array([[0.7, 0.1]])}}
DATA = jnp.array([1.0, 2.0, 3.0])


def smooth_loss(params, data):
    return jnp.sum(jnp.sin(params["a"] * data)) * jnp.sum(jnp.exp(params["b"]["c"]))


def test_the_ratio_is_that_of_a_known_error():
    # H of sum(a^2)/2 is 1; a rule that makes it 1.25 is off by 0.25/1.25 = 20 %.
    @jax.custom_jvp
    def slope(x):
        return x

    slope.defjvp(lambda primals, tangents: (primals[0], 1.25 * tangents[0]))

    @jax.custom_jvp
    def half_square(x):
        return x**2 / 2

    half_square.defjvp(
        lambda primals, tangents: (
            primals[0] ** 2 / 2,
            slope(primals[0]) * tangents[0],
        )
    )

    def loss_fn(params, data):
        return sum(jnp.sum(half_square(leaf)) for leaf in jax.tree.leaves(params))

    ratio = check_products(loss_fn, PARAMS, DATA, rtol=0.3)
    np.testing.assert_allclose(ratio, 0.2, rtol=0.01)
    with pytest.raises(CurvatureError, match=r"differs by 0\.2 .*; 0\.02 is accepted"):
        check_products(loss_fn, PARAMS, DATA)


def test_a_wrong_second_derivative_is_found_where_it_is():
    @jax.custom_jvp
    def wrong_sin(x):
        return jnp.sin(x)

    @wrong_sin.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        # The first derivative is right, its own derivative is cut.
        return jnp.sin(x), jax.lax.stop_gradient(jnp.cos(x)) * t

    def loss_fn(params, data):
        return jnp.sum(wrong_sin(params["a"] * data)) + jnp.sum(
            jnp.exp(params["b"]["c"])
        )

    np.testing.assert_allclose(
        jax.grad(loss_fn)(PARAMS, DATA)["a"], jnp.cos(PARAMS["a"] * DATA) * DATA
    )
    with pytest.raises(CurvatureError, match=r"squared error is at \['a'\]") as error:
        check_products(loss_fn, PARAMS, DATA)
    assert "jax.custom_jvp" in str(error.value)


def fused_attention():
    """A kernel with a gradient whose backward pass is a kernel as well."""

    @jax.custom_vjp
    def backward_kernel(x, cotangent):
        return jnp.cos(x) * cotangent

    backward_kernel.defvjp(
        lambda x, cotangent: (jnp.cos(x) * cotangent, (x, cotangent)),
        lambda kept, t: (-jnp.sin(kept[0]) * kept[1] * t, jnp.cos(kept[0]) * t),
    )

    @jax.custom_vjp
    def kernel(x):
        return jnp.sin(x)

    kernel.defvjp(
        lambda x: (jnp.sin(x), x), lambda x, cotangent: (backward_kernel(x, cotangent),)
    )
    return kernel


def test_a_kernel_without_forward_mode_is_named_with_the_fix():
    kernel = fused_attention()

    def loss_fn(params, data):
        return jnp.sum(kernel(params["a"] * data)) + jnp.sum(params["b"]["c"] ** 2)

    assert jnp.isfinite(loss_fn(PARAMS, DATA))
    jax.grad(loss_fn)(PARAMS, DATA)  # the gradient is there
    with pytest.raises(CurvatureError, match="cannot be computed: TypeError") as error:
        check_products(loss_fn, PARAMS, DATA)
    for part in ("fused kernel", "custom_vjp", 'implementation="xla"'):
        assert part in str(error.value)
    assert isinstance(error.value.__cause__, TypeError)


def test_products_that_are_not_finite_are_named():
    def loss_fn(params, data):
        # The distance of a point to itself.
        return smooth_loss(params, data) + jnp.linalg.norm(params["d"] - params["d"])

    with pytest.raises(CurvatureError, match=r"not finite at \['d'\]"):
        check_products(loss_fn, {**PARAMS, "d": jnp.array([0.5, 1.0])}, DATA)


def test_no_curvature_and_no_loss_pass():
    def linear_loss(params, data):
        return jnp.sum(params["a"] * data) + jnp.sum(params["b"]["c"])

    assert check_products(linear_loss, PARAMS, DATA) < 0.01
    assert check_products(lambda params, data: jnp.float32(0), PARAMS, DATA) == 0


def test_leaves_of_zeros_and_of_integers():
    def loss_fn(params, data):
        shifted = {**params, "a": params["a"] + params["zeros"] * params["count"]}
        return smooth_loss(shifted, data)

    params = {**PARAMS, "zeros": jnp.zeros(3), "count": jnp.array(2)}
    assert check_products(loss_fn, params, DATA) < 1e-3

    @jax.custom_jvp
    def wrong_cube(x):
        return x**3 + x**2

    @wrong_cube.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        slope = jax.lax.stop_gradient(3 * x**2 + 2 * x)
        return x**3 + x**2, slope * t

    # It shows at zero, too.
    with pytest.raises(CurvatureError, match="zeros"):
        check_products(
            lambda p, d: 100 * jnp.sum(wrong_cube(p["zeros"])) + loss_fn(p, d),
            params,
            DATA,
        )


def test_float64_is_sharper():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), PARAMS)
        assert check_products(smooth_loss, params, DATA) < 1e-8


def test_the_key_draws_the_direction():
    ratios = {
        check_products(smooth_loss, PARAMS, DATA, key=jax.random.key(seed))
        for seed in (0, 0, 1)
    }
    assert len(ratios) == 2
