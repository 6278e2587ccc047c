"""Fixtures for the tests of the library's numerics."""

import jax
import jax.numpy as jnp
import pytest

from tests.dominant.tracked import Counter


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run a test in both precisions; x64 is on for float64 only."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def x64():
    """Run a test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict():
    """Make implicit dtype promotion an error."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def counter():
    """A curvature that counts the products executed with it."""
    return Counter()


@pytest.fixture
def unoptimized():
    """Compile each operation as it is written, for what holds to the last bit.

    An optimized program may round x - y * z once, or divide by a reciprocal.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
