"""Curvature matrices against dense Hessians and Jacobians, and their identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import networks, zoo
from tests.dominant.networks import KINDS, ROUNDING, assert_matrix, problem_in

pytestmark = pytest.mark.usefixtures("strict")

kinds = pytest.mark.parametrize("kind", KINDS)
every_network = pytest.mark.parametrize("name", networks.NETWORKS)
networks_and_dtypes = pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float64") for name in networks.NETWORKS]
    + [("tanh-squared", "float32"), ("relu-softmax", "float32")],
    indirect=["dtype"],
)


def dense_matrix(curvature, params, data, *, jit=True):
    """The matrix of a curvature; params and data are arguments when jitted."""

    def columns(params, data, identity):
        return jax.vmap(curvature(params, data))(identity)

    n = ravel_pytree(params)[0].size
    columns = jax.jit(columns) if jit else columns
    return zoo.to_rows(columns(params, data, zoo.from_rows(np.eye(n), params))).T


@functools.cache
def matrix_of(kind, name, dtype, batch_size=None, num_examples=7):
    """The jitted matrix of a curvature of a network of the zoo, computed once."""
    problem, params, data = problem_in(name, dtype, num_examples)
    curvature = KINDS[kind](problem)
    if batch_size is not None:
        curvature = dominant.in_batches(curvature, batch_size)
    return dense_matrix(curvature, params, data)


@kinds
@networks_and_dtypes
def test_curvature_equals_the_dense_reference(name, kind, dtype):
    found = matrix_of(kind, name, dtype)
    references = networks.curvatures(name)
    # F is a difference of H and G, so its rounding is theirs
    norm = np.linalg.norm(references.gauss_newton, 2)
    norm = max(norm, np.linalg.norm(references.hessian, 2))
    if kind == "gradient_second_moment":
        norm = np.linalg.norm(references.gradient_second_moment, 2)
    assert_matrix(found, getattr(references, kind), dtype, norm)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in KINDS), ("hessian", "float64")],
    indirect=["dtype"],
)
def test_curvature_without_jit_equals_the_dense_reference(kind, dtype):
    problem, params, data = problem_in("tanh-squared", dtype)
    found = dense_matrix(KINDS[kind](problem), params, data, jit=False)
    references = networks.curvatures("tanh-squared")
    norm = np.linalg.norm(references.hessian, 2)
    assert_matrix(found, getattr(references, kind), dtype, norm)


@pytest.mark.parametrize(
    ("kind", "batch_size"),
    [*((kind, 3) for kind in KINDS), *(("hessian", size) for size in (1, 7, 50))],
)
@pytest.mark.usefixtures("x64")
def test_ragged_batches_are_weighted_exactly(kind, batch_size):
    dtype = jnp.dtype("float64")
    found = matrix_of(kind, "tanh-softmax", dtype, batch_size)
    references = networks.curvatures("tanh-softmax")
    norm = np.linalg.norm(references.hessian, 2)
    assert_matrix(found, getattr(references, kind), dtype, norm)


def test_batches_without_jit_are_weighted_exactly():
    dtype = jnp.float32
    problem, params, data = problem_in("relu-squared", dtype)
    curvature = dominant.in_batches(dominant.hessian(problem.loss_fn), 3)
    found = dense_matrix(curvature, params, data, jit=False)
    assert_matrix(found, networks.curvatures("relu-squared").hessian, dtype)


def test_the_equal_weight_mistake_would_be_seen():
    """Averaging the batch Hessians of 3, 3 and 1 examples is far from exact."""
    problem = networks.network("tanh-softmax")
    with jax.enable_x64(True):
        params, data = (
            zoo.cast(t, jnp.float64) for t in (problem.params, problem.data)
        )
        parts = [
            dense_matrix(
                dominant.hessian(problem.loss_fn),
                params,
                jax.tree.map(lambda x, s=s: x[s : s + 3], data),
            )
            for s in (0, 3, 6)
        ]
    exact = networks.curvatures("tanh-softmax").hessian
    error = np.linalg.norm(np.mean(parts, axis=0) - exact, 2)
    assert error > 0.01 * np.linalg.norm(exact, 2)


@networks_and_dtypes
def test_hessian_is_gauss_newton_plus_functional_hessian(name, dtype):
    h, g, f = (
        matrix_of(kind, name, dtype)
        for kind in ("hessian", "gauss_newton", "functional_hessian")
    )
    assert_matrix(g + f, h, dtype)


@kinds
@networks_and_dtypes
def test_curvature_is_symmetric(name, kind, dtype):
    found = matrix_of(kind, name, dtype)
    norm = np.linalg.norm(networks.curvatures(name).hessian, 2)
    assert_matrix(found, found.T, dtype, norm)


@pytest.mark.parametrize("kind", ["gauss_newton", "gradient_second_moment"])
@every_network
@pytest.mark.usefixtures("x64")
def test_gauss_newton_and_second_moment_are_semidefinite(name, kind):
    found = matrix_of(kind, name, jnp.dtype("float64"))
    eigenvalues = np.linalg.eigvalsh(found)
    eps = np.finfo(np.float64).eps
    assert eigenvalues[0] >= -ROUNDING * eps * eigenvalues[-1]


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("tanh-squared", 3 * 2),  # N C
        ("relu-squared", 3 * 2),
        ("tanh-softmax", 3 * (3 - 1)),  # N (C - 1)
        ("relu-softmax", 3 * (3 - 1)),
    ],
)
@pytest.mark.usefixtures("x64")
def test_rank_of_gauss_newton_is_bounded(name, rank):
    g = matrix_of("gauss_newton", name, jnp.dtype("float64"), num_examples=3)
    eigenvalues = np.linalg.eigvalsh(g)[::-1]
    eps = np.finfo(np.float64).eps
    assert len(eigenvalues) > rank
    assert eigenvalues[rank - 1] > 1e-6 * eigenvalues[0]
    assert np.all(np.abs(eigenvalues[rank:]) <= ROUNDING * eps * eigenvalues[0])


@pytest.mark.parametrize("name", ["softmax-regression", "linear-regression"])
def test_functional_hessian_vanishes_for_a_linear_model(name, dtype):
    found = matrix_of("functional_hessian", name, dtype)
    norm = np.linalg.norm(networks.curvatures(name).hessian, 2)
    assert_matrix(found, np.zeros_like(found), dtype, norm)


@pytest.mark.usefixtures("x64")
def test_functional_hessian_vanishes_at_zero_residual():
    problem, params, data = problem_in("tanh-squared", jnp.float64)
    data = {**data, "targets": problem.predict_fn(params, data)}
    f = dense_matrix(KINDS["functional_hessian"](problem), params, data)
    h = dense_matrix(KINDS["hessian"](problem), params, data)
    assert_matrix(f, np.zeros_like(f), jnp.float64, np.linalg.norm(h, 2))


@pytest.mark.parametrize("name", ["relu-squared", "relu-softmax"])
@pytest.mark.usefixtures("x64")
def test_functional_hessian_of_a_relu_net_has_no_trace(name):
    f = matrix_of("functional_hessian", name, jnp.dtype("float64"))
    h = matrix_of("hessian", name, jnp.dtype("float64"))
    assert np.linalg.norm(f) > 0.1 * np.linalg.norm(h)  # the trace is not trivially 0
    eps = np.finfo(np.float64).eps
    assert abs(np.trace(f)) <= ROUNDING * eps * np.linalg.norm(h)


@pytest.mark.usefixtures("x64")
def test_functional_hessian_of_a_tanh_net_has_a_trace():
    f = matrix_of("functional_hessian", "tanh-squared", jnp.dtype("float64"))
    assert abs(np.trace(f)) > 0.01 * np.linalg.norm(f)


@every_network
@pytest.mark.usefixtures("x64")
def test_last_linear_layer_has_no_functional_hessian(name):
    f = matrix_of("functional_hessian", name, jnp.dtype("float64"))
    last = sum(
        leaf.size for leaf in networks.network(name).params["layers"][-1].values()
    )
    norm = np.linalg.norm(networks.curvatures(name).hessian, 2)
    assert_matrix(f[-last:, -last:], np.zeros((last, last)), jnp.float64, norm)
