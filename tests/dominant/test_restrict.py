"""Blocks of a curvature, alone and composed: matrix, domain, eigenspace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.layers import BLOCKS, HESSIAN, NETWORK, PROBLEM, SIZES, given, layer
from tests.dominant.networks import ROUNDING, assert_matrix

pytestmark = pytest.mark.usefixtures("strict")


def dense_block(curvature, params, data):
    block = dominant.domain(curvature, params)
    size = sum(leaf.size for leaf in jax.tree.leaves(block))

    @jax.jit
    def columns(params, data, identity):
        return jax.vmap(curvature(params, data))(identity)

    return zoo.to_rows(columns(params, data, zoo.from_rows(np.eye(size), block))).T


# --- the matrix -----------------------------------------------------------------------


def is_kernel(path, leaf):
    return leaf.ndim == 2


def second_kernel(path, leaf):
    return path[1].idx == 1 and leaf.ndim == 2


def scales(params):
    size = zoo.to_vector(params).size
    p = np.random.default_rng(0).permutation(np.geomspace(0.1, 10, size))
    return zoo.to_tree(p, params)


COMPOSITIONS = {
    "restrict": lambda c, s, p: dominant.restrict(c, s),
    "restrict(in_batches)": lambda c, s, p: dominant.restrict(
        dominant.in_batches(c, 3), s
    ),
    "in_batches(restrict)": lambda c, s, p: dominant.in_batches(
        dominant.restrict(c, s), 3
    ),
    "restrict(preconditioned)": lambda c, s, p: dominant.restrict(
        dominant.preconditioned(c, p), s
    ),
    "preconditioned(restrict)": lambda c, s, p: dominant.preconditioned(
        dominant.restrict(c, s), p
    ),
    "all three": lambda c, s, p: dominant.in_batches(
        dominant.preconditioned(dominant.restrict(c, s), p), 3
    ),
}


def indices(select):
    """The rows of the dense matrix that belong to the selected leaves."""
    marks = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, select(path, leaf)), PROBLEM.params
    )
    return np.flatnonzero(zoo.to_vector(marks))


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.usefixtures("x64")
def test_compositions_equal_the_block_of_the_dense_matrix(name):
    select = is_kernel  # from both layers, and not all of either
    params, data = given(jnp.float64)
    diagonal = scales(params)
    curvature = COMPOSITIONS[name](HESSIAN, select, diagonal)
    expected = networks.curvatures(NETWORK).hessian
    if "precond" in name or name == "all three":
        root = np.sqrt(zoo.to_vector(diagonal))
        expected = expected / root[:, None] / root[None, :]
    rows = indices(select)
    assert 0 < len(rows) < len(expected)
    found = dense_block(curvature, params, data)
    assert_matrix(found, expected[np.ix_(rows, rows)], jnp.float64)


def test_block_in_both_precisions_and_without_jit(dtype):
    params, data = given(dtype)
    curvature = dominant.restrict(HESSIAN, layer(1))
    expected = networks.curvatures(NETWORK).hessian[BLOCKS[1], BLOCKS[1]]
    assert_matrix(dense_block(curvature, params, data), expected, dtype)
    v = jax.tree.map(jnp.ones_like, dominant.domain(curvature, params))
    product = curvature(params, data)(v)
    assert jax.tree.structure(product) == jax.tree.structure(v)
    error = zoo.to_vector(product) - expected @ np.ones(SIZES[1])
    norm = np.linalg.norm(expected, 2) * np.sqrt(SIZES[1])
    assert np.max(np.abs(error)) <= ROUNDING * jnp.finfo(dtype).eps * norm


def test_narrow_params_take_wide_vectors():
    params = zoo.cast(PROBLEM.params, jnp.bfloat16)
    data = zoo.cast(PROBLEM.data, jnp.bfloat16)
    curvature = dominant.restrict(HESSIAN, layer(0))
    v = jax.tree.map(
        lambda x: jnp.ones(x.shape, jnp.float32), dominant.domain(curvature, params)
    )
    product = curvature(params, data)(v)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(product))
    expected = networks.curvatures(NETWORK).hessian[BLOCKS[0], BLOCKS[0]]
    bound = 30 * 2**-8 * np.linalg.norm(expected, 2) * np.sqrt(SIZES[0])
    assert np.linalg.norm(zoo.to_vector(product) - expected.sum(axis=1)) <= bound


@pytest.mark.usefixtures("x64")
def test_a_block_of_a_block_is_what_both_select():
    params, data = given(jnp.float64)
    nested = dominant.restrict(dominant.restrict(HESSIAN, is_kernel), layer(1))
    rows = indices(second_kernel)
    expected = networks.curvatures(NETWORK).hessian[np.ix_(rows, rows)]
    assert_matrix(dense_block(nested, params, data), expected, jnp.float64)


def with_counter(curvature_of):
    """The network's Hessian on params that carry an integer leaf, first in the tree."""
    return curvature_of(lambda params, data: PROBLEM.loss_fn(params["net"], data))


def test_integer_leaves_stay_out_whatever_is_selected():
    net, data = given(jnp.float32)
    params = {"count": jnp.asarray([3, 4], jnp.int32), "net": net}
    asked = []

    def select(path, leaf):
        asked.append(jax.tree_util.keystr(path))
        return True

    curvature = dominant.restrict(with_counter(dominant.hessian), select)
    block = dominant.domain(curvature, params)
    assert block["count"] is None
    assert jax.tree.structure(block["net"]) == jax.tree.structure(net)
    assert "['count']" not in asked
    assert "['net']['layers'][0]['kernel']" in asked
    found = curvature(params, data)(jax.tree.map(jnp.ones_like, block))
    expected = networks.curvatures(NETWORK).hessian.sum(axis=1)
    np.testing.assert_allclose(zoo.to_vector(found), expected, atol=2e-5)


# --- the domain -----------------------------------------------------------------------


def test_domain_of_each_curvature():
    params, _ = given(jnp.float32)
    whole = dominant.domain(HESSIAN, params)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    expected = {"layers": (None, params["layers"][1])}
    cut = {
        "layers": (
            jax.tree.map(lambda _: None, params["layers"][0]),
            params["layers"][1],
        )
    }
    for name, compose in COMPOSITIONS.items():
        curvature = compose(HESSIAN, layer(1), scales(params))
        block = dominant.domain(curvature, params)
        assert jax.tree.structure(block) == jax.tree.structure(cut), name
        assert jax.tree.leaves(block) == jax.tree.leaves(expected), name


def test_a_wrapper_keeps_the_domain_with_functools_wraps():
    params, data = given(jnp.float32)
    inner = dominant.restrict(HESSIAN, layer(1))

    @functools.wraps(inner)
    def kept(params, data):
        return inner(params, data)

    def lost(params, data):
        return inner(params, data)

    block = dominant.domain(kept, params)
    assert jax.tree.structure(block) == jax.tree.structure(
        dominant.domain(inner, params)
    )
    kept(params, data)(block)
    tx = dominant.track_subspace(optax.sgd(0.1), lost, 2, refresh=dominant.every(1))
    state = tx.init(params)
    with pytest.raises(ValueError, match=r"the block, `domain\(curvature, params\)`"):
        tx.update(params, state, params, curvature_data=data)


@pytest.mark.parametrize("use", ["domain", "product", "init"])
def test_selecting_nothing_is_refused(use):
    params, data = given(jnp.float32)
    curvature = dominant.restrict(HESSIAN, lambda path, leaf: False)
    uses = {
        "domain": lambda: dominant.domain(curvature, params),
        "product": lambda: curvature(params, data),
        "init": lambda: dominant.track_subspace(
            optax.sgd(0.1), curvature, 1, refresh=dominant.every(1)
        ).init(params),
    }
    with pytest.raises(ValueError, match=r"at least one.*\['layers'\]\[0\]\['bias'\]"):
        uses[use]()


# --- one eigenspace -------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, SIZES[1]])
@pytest.mark.usefixtures("x64")
def test_top_eigenspace_is_that_of_the_block(k):
    params, data = given(jnp.float64)
    curvature = dominant.restrict(HESSIAN, layer(1))

    @jax.jit
    def solve(params, data):
        like = dominant.domain(curvature, params)
        return dominant.top_eigenspace(curvature(params, data), like, k, tol=1e-9)

    found = solve(params, data)
    reference = zoo.reference(
        networks.curvatures(NETWORK).hessian[BLOCKS[1], BLOCKS[1]]
    )
    np.testing.assert_allclose(
        found.eigenvalues, reference.eigenvalues[:k], atol=1e-8 * reference.norm
    )
    assert jax.tree.leaves(found.basis["layers"][0]) == []
    if k == 2:
        assert zoo.largest_sine(zoo.to_rows(found.basis), reference.vectors[:k]) < 1e-6
        assert dominant.error_bound(found) < 1e-6


def test_k_is_held_against_the_size_of_the_block():
    params, data = given(jnp.float32)
    curvature = dominant.restrict(HESSIAN, layer(1))
    k = SIZES[1] + 1
    assert k <= sum(SIZES)
    with pytest.raises(ValueError, match=rf"\({SIZES[1]}\), got {k}"):
        dominant.top_eigenspace(
            curvature(params, data), dominant.domain(curvature, params), k
        )
    tx = dominant.track_subspace(
        optax.sgd(0.1), curvature, k, refresh=dominant.every(1)
    )
    state = tx.init(params)
    with pytest.raises(ValueError, match=rf"\({SIZES[1]}\), got {k}"):
        tx.update(params, state, params, curvature_data=data)


def test_whole_params_as_like_are_refused_with_the_remedy():
    params, data = given(jnp.float32)
    matvec = dominant.restrict(HESSIAN, layer(1))(params, data)
    with pytest.raises(ValueError, match=r"`domain\(curvature, params\)`"):
        dominant.top_eigenspace(matvec, params, 2)


@pytest.mark.usefixtures("x64")
def test_geometry_of_a_block():
    params, _ = given(jnp.float64)
    curvature = dominant.restrict(HESSIAN, layer(1))
    rows = zoo.random_rows(2, SIZES[1], seed=4)
    found = zoo.subspace(rows, dominant.domain(curvature, params))
    v = np.random.default_rng(5).standard_normal(sum(SIZES))
    tree = zoo.to_tree(v, params)
    inside = np.concatenate([np.zeros(SIZES[0]), rows.T @ (rows @ v[BLOCKS[1]])])
    np.testing.assert_allclose(zoo.to_vector(dominant.project(tree, found)), inside)
    np.testing.assert_allclose(
        zoo.to_vector(dominant.reject(tree, found)), v - inside, atol=1e-15
    )
    # Leaves left out count as bulk.
    weigh = dominant.interpolate_project(2.0, 0.5)
    weighed, _ = weigh.update(tree, weigh.init(params), subspace=found)
    expected = 0.5 * (v - inside) + 2 * inside
    np.testing.assert_allclose(zoo.to_vector(weighed), expected, atol=1e-15)
    length = np.linalg.norm(inside)
    whole = dominant.alignment(tree, found)
    np.testing.assert_allclose(whole, length / np.linalg.norm(v))
    block = dominant.alignment(dominant.domain(curvature, tree), found)
    np.testing.assert_allclose(block, length / np.linalg.norm(v[BLOCKS[1]]))
