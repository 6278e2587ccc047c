"""Curvature products against dense Hessians, Jacobians and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import networks, zoo

pytestmark = pytest.mark.usefixtures("strict")

ROUNDING = 30  # multiples of eps * norm allowed for a product through a network

KINDS = {
    "hessian": lambda p: dominant.hessian(p.loss_fn),
    "gauss_newton": lambda p: dominant.gauss_newton(p.predict_fn, p.output_loss_fn),
    "functional_hessian": lambda p: dominant.functional_hessian(
        p.predict_fn, p.output_loss_fn
    ),
    "gradient_second_moment": lambda p: dominant.gradient_second_moment(p.loss_fn),
}
kinds = pytest.mark.parametrize("kind", KINDS)
every_network = pytest.mark.parametrize("name", networks.NETWORKS)
networks_and_dtypes = pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float64") for name in networks.NETWORKS]
    + [("tanh-squared", "float32"), ("relu-softmax", "float32")],
    indirect=["dtype"],
)


def problem_in(name, dtype, num_examples=7):
    problem = networks.network(name, num_examples)
    return problem, zoo.cast(problem.params, dtype), zoo.cast(problem.data, dtype)


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


def assert_matrix(found, expected, dtype, norm=None):
    norm = np.linalg.norm(expected, 2) if norm is None else norm
    error = np.max(np.abs(found - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * norm


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


@kinds
def test_curvature_without_jit_equals_the_dense_reference(kind, dtype):
    problem, params, data = problem_in("tanh-squared", dtype)
    found = dense_matrix(KINDS[kind](problem), params, data, jit=False)
    references = networks.curvatures("tanh-squared")
    norm = np.linalg.norm(references.hessian, 2)
    assert_matrix(found, getattr(references, kind), dtype, norm)


@kinds
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
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


# --- one Hessian-vector product ---


def random_direction(params, seed=0):
    n = ravel_pytree(params)[0].size
    return zoo.to_tree(np.random.default_rng(seed).standard_normal(n), params)


@pytest.mark.parametrize(
    ("name", "jit"),
    [(name, True) for name in networks.NETWORKS] + [("tanh-softmax", False)],
)
def test_hvp_equals_the_dense_product(name, jit, dtype):
    problem, params, data = problem_in(name, dtype)
    v = random_direction(params)

    def product(params, v, data):
        return dominant.hvp(problem.loss_fn, params, v, data)

    found = (jax.jit(product) if jit else product)(params, v, data)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
    hessian = networks.curvatures(name).hessian
    scale = np.linalg.norm(hessian, 2) * np.linalg.norm(zoo.to_vector(v))
    error = np.max(np.abs(zoo.to_vector(found) - hessian @ zoo.to_vector(v)))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


@pytest.mark.parametrize("name", ["tanh-squared", "tanh-softmax"])
@pytest.mark.usefixtures("x64")
def test_hvp_equals_reverse_over_reverse_and_finite_differences(name):
    problem, params, data = problem_in(name, jnp.float64)
    v = random_direction(params)
    found = zoo.to_vector(dominant.hvp(problem.loss_fn, params, v, data))
    gradient = jax.grad(problem.loss_fn)

    def slope(params):
        g = gradient(params, data)
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, g, v)))

    h = np.cbrt(np.finfo(np.float64).eps)  # balances the h^2 and the eps / h error
    ahead, behind = (
        zoo.to_vector(
            gradient(jax.tree.map(lambda p, d, s=s: p + s * d, params, v), data)
        )
        for s in (h, -h)
    )
    scale = np.linalg.norm(found)
    eps = np.finfo(np.float64).eps
    reverse = zoo.to_vector(jax.grad(slope)(params))
    assert np.linalg.norm(found - reverse) <= ROUNDING * eps * scale
    difference = (ahead - behind) / (2 * h)
    assert np.linalg.norm(found - difference) <= 1000 * h**2 * scale


def test_products_may_be_vmapped_over_parameters(dtype):
    problem, params, data = problem_in("tanh-squared", dtype)
    v = random_direction(params)
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), params)

    def product(params):
        return dominant.hessian(problem.loss_fn)(params, data)(v)

    together = zoo.to_rows(jax.vmap(product)(many))
    for i, row in enumerate(together):
        alone = zoo.to_vector(product(jax.tree.map(lambda p, i=i: p[i], many)))
        error = np.linalg.norm(row - alone)
        assert error <= ROUNDING * jnp.finfo(dtype).eps * np.linalg.norm(alone)


# --- trees with leaves that are not differentiated ---


def with_counter(problem):
    """The same loss on params that carry an integer leaf, first in the tree."""

    def loss_fn(params, data):
        return problem.loss_fn(params["net"], data)

    def predict_fn(params, data):
        return problem.predict_fn(params["net"], data)

    return problem._replace(loss_fn=loss_fn, predict_fn=predict_fn)


@kinds
@pytest.mark.parametrize("batch_size", [None, 2], ids=["whole", "batches"])
def test_integer_leaves_have_no_curvature(kind, batch_size, dtype):
    problem, net, data = problem_in("tanh-squared", dtype)
    params = {"count": jnp.asarray([3, 4, 5], jnp.int32), "net": net}
    curvature = KINDS[kind](with_counter(problem))
    if batch_size is not None:
        curvature = dominant.in_batches(curvature, batch_size)
    v = {"count": None, "net": random_direction(net)}
    found = jax.jit(lambda p, v, d: curvature(p, d)(v))(params, v, data)
    assert found["count"] is None
    references = networks.curvatures("tanh-squared")
    expected = getattr(references, kind) @ zoo.to_vector(v)
    scale = np.linalg.norm(references.hessian, 2) * np.linalg.norm(zoo.to_vector(v))
    error = np.max(np.abs(zoo.to_vector(found) - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


def test_hvp_has_none_at_integer_leaves(dtype):
    problem, net, data = problem_in("tanh-squared", dtype)
    params = {"count": jnp.asarray(3, jnp.int32), "net": net}
    v = {"count": None, "net": random_direction(net)}
    found = dominant.hvp(with_counter(problem).loss_fn, params, v, data)
    assert found["count"] is None
    expected = networks.curvatures("tanh-squared").hessian @ zoo.to_vector(v)
    scale = np.linalg.norm(expected)
    error = np.max(np.abs(zoo.to_vector(found) - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


# --- bad input ---


def apply(curvature, params, data, v):
    return curvature(params, data)(v)


@kinds
def test_vector_of_another_structure_is_refused(kind):
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    with pytest.raises(ValueError, match="extra"):
        apply(KINDS[kind](problem), params, data, {**params, "extra": jnp.ones(2)})


@kinds
def test_vector_with_a_leaf_of_another_shape_is_refused(kind):
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    v = jax.tree.map(lambda p: jnp.ones((*p.shape, 1), p.dtype), params)
    with pytest.raises(ValueError, match=r"kernel|bias|shape"):
        apply(KINDS[kind](problem), params, data, v)


def test_hvp_refuses_a_vector_of_another_structure():
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    with pytest.raises(ValueError, match="layers"):
        dominant.hvp(problem.loss_fn, params, params["layers"], data)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(batch_size):
    problem, params, data = problem_in("tanh-squared", jnp.float32)

    def use():
        curvature = dominant.in_batches(dominant.hessian(problem.loss_fn), batch_size)
        return apply(curvature, params, data, params)

    with pytest.raises(ValueError, match="batch_size"):
        use()
