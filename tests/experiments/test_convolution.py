"""The convolution by a multiplication of matrices, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.layers import convolve_by_matmul

RNG = np.random.default_rng(0)
NUMBERS = ("NHWC", "HWIO", "NHWC")


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 0), (2, 1))])
@pytest.mark.parametrize("height", [5, 6])
def test_it_is_the_convolution(strides, padding, height):
    inputs, kernel = normal(2, height, 7, 3), normal(3, 3, 3, 4)
    result = convolve_by_matmul(inputs, kernel, strides, padding)
    expected = jax.lax.conv_general_dilated(
        inputs, kernel, strides, padding, dimension_numbers=NUMBERS
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_its_products_with_the_hessian_are_the_same():
    inputs, kernel, direction = (
        normal(2, 5, 5, 2),
        normal(3, 3, 2, 3),
        normal(3, 3, 2, 3),
    )
    padding = ((1, 1), (1, 1))

    def product(convolve, **options):
        def loss(kernel):
            return jnp.sum(
                jnp.tanh(convolve(inputs, kernel, (2, 2), padding, **options))
            )

        return jax.jvp(jax.grad(loss), (kernel,), (direction,))[1]

    expected = product(jax.lax.conv_general_dilated, dimension_numbers=NUMBERS)
    result = product(convolve_by_matmul)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "option",
    [{"feature_group_count": 2}, {"lhs_dilation": (2, 1)}, {"rhs_dilation": (1, 2)}],
)
def test_what_it_does_not_know_is_refused(option):
    with pytest.raises(ValueError, match="no dilation and no groups"):
        convolve_by_matmul(
            normal(1, 5, 5, 2), normal(3, 3, 2, 2), (1, 1), ((1, 1), (1, 1)), **option
        )
