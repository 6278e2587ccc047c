"""Traces and Frobenius norms, in and out of a subspace, against dense matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo

pytestmark = pytest.mark.usefixtures("strict")

NUM_KEYS, NUM_PROBES = 200, 20
PROBLEMS = ("gapped", "large-negative", "plus-minus", "rank-6", "geometric")


def products_of(matrix):
    """Those of a matrix and of its square."""
    product = zoo.matvec(matrix)
    return lambda v: {"M": product(v), "M2": product(product(v))}


@jax.jit
def over_keys(matrix, subspace, seeds):
    """Energies of one matrix and its square, once for each seed."""
    like = zoo.like(matrix.shape[0], matrix.dtype)

    def one(seed):
        return dominant.energies(
            products_of(matrix),
            like,
            key=jax.random.key(seed),
            num_probes=NUM_PROBES,
            subspace=subspace,
        )

    return jax.vmap(one)(seeds)


def sample_variance(matrix):
    """Of v^T A v for random signs v: 2 (|A|_F^2 - sum_i A_ii^2)."""
    return 2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2))


def parts(matrix, rows):
    """The trace and the squared norm of P M, and those of M, by their definitions."""
    inside = rows.T @ rows @ matrix
    return np.trace(inside), np.sum(inside**2), np.trace(matrix), np.sum(matrix**2)


@functools.cache
def case(name, eigenvectors):
    matrix = zoo.matrix(name)
    rows = zoo.random_rows(zoo.K, len(matrix), seed=5)
    if eigenvectors:
        rows = np.linalg.eigh(matrix)[1].T[::-1][: zoo.K]
    with jax.enable_x64(True):
        subspace = zoo.subspace(rows, zoo.like(len(matrix)))
        found = over_keys(jnp.asarray(matrix), subspace, jnp.arange(NUM_KEYS))
    return matrix, rows, jax.tree.map(np.asarray, found)


each_case = [
    pytest.mark.parametrize("name", PROBLEMS),
    pytest.mark.parametrize("eigenvectors", [True, False], ids=["top", "random"]),
]


def in_each_case(test):
    return functools.reduce(lambda f, mark: mark(f), each_case, test)


@in_each_case
def test_the_parts_inside_a_subspace_are_exact(name, eigenvectors):
    matrix, rows, found = case(name, eigenvectors)
    for power, of_matrix in ((matrix, found["M"]), (matrix @ matrix, found["M2"])):
        trace, square, *_ = parts(power, rows)
        scale = np.linalg.norm(power)
        np.testing.assert_allclose(of_matrix.trace_inside, trace, atol=1e-12 * scale)
        np.testing.assert_allclose(of_matrix.frobenius_inside, square, rtol=1e-11)


@in_each_case
def test_estimates_are_unbiased_and_their_errors_honest(name, eigenvectors):
    """Over many keys: means, spread, stated errors, and how often 2 of them suffice."""
    matrix, rows, found = case(name, eigenvectors)
    *_, trace, square = parts(matrix, rows)
    outside = np.eye(len(matrix)) - rows.T @ rows
    for estimate, truth, rest in (
        (found["M"].trace, trace, outside @ matrix @ outside),
        (found["M"].frobenius, square, outside @ matrix @ matrix @ outside),
    ):
        variance = sample_variance(rest) / NUM_PROBES
        floor = 1e-12 * np.sum(matrix**2)  # the rest of rank-6 may be nothing
        errors = estimate.value - truth
        assert abs(np.mean(errors)) <= 4 * (variance / NUM_KEYS) ** 0.5 + floor
        if variance**0.5 <= floor:
            continue
        # A sample's excess kurtosis is at most about 12, chi-squared's with 1 degree.
        kurtosis = 12 / NUM_PROBES
        spread = ((kurtosis + 2) / NUM_KEYS) ** 0.5
        assert np.mean(errors**2) == pytest.approx(variance, rel=4 * spread)
        stated = np.mean(estimate.standard_error**2)
        spread = ((kurtosis + 2 / (NUM_PROBES - 1)) / NUM_KEYS) ** 0.5
        assert stated == pytest.approx(variance, rel=4 * spread)
        covered = np.mean(np.abs(errors) <= 2 * estimate.standard_error)
        # Student's t with 19 degrees of freedom: 0.94, with a deviation of 0.017.
        assert 0.86 < covered < 0.995


@pytest.mark.parametrize("name", ["gapped", "geometric"])
def test_shares_and_their_errors(name):
    """The error of a share is the spread of the share itself, over many keys."""
    matrix, rows, found = case(name, True)
    inside, square_inside, trace, square = parts(matrix, rows)
    for share, truth in (
        (found["M"].trace_share, inside / trace),
        (found["M"].frobenius_share, square_inside / square),
    ):
        errors = share.value - truth
        stated = np.mean(share.standard_error**2) ** 0.5
        assert np.std(errors) == pytest.approx(stated, rel=0.25)
        covered = np.mean(np.abs(errors) <= 2 * share.standard_error)
        assert 0.86 < covered < 0.995


def test_the_square_of_a_norm_is_the_trace_of_the_square():
    """With the same probes, sample by sample."""
    *_, found = case("plus-minus", True)
    np.testing.assert_allclose(
        found["M"].frobenius_inside, found["M2"].trace_inside, rtol=1e-10
    )
    # |M w|^2 = w^T M^2 w.
    np.testing.assert_allclose(
        found["M"].frobenius.value, found["M2"].trace.value, rtol=1e-10
    )


def estimates(matrix, seed, subspace=None, num_probes=NUM_PROBES):
    arguments = (zoo.matvec(matrix), zoo.like(matrix.shape[0], matrix.dtype))
    options = {"key": jax.random.key(seed), "num_probes": num_probes}
    return (
        dominant.trace_estimate(*arguments, **options, subspace=subspace),
        dominant.frobenius_estimate(*arguments, **options, subspace=subspace),
    )


def test_estimates_without_a_subspace(dtype):
    matrix = zoo.matrix("gapped")
    trace, frobenius = jax.jit(estimates)(jnp.asarray(matrix, dtype), 0)
    for found, truth, power in (
        (trace, np.trace(matrix), matrix),
        (frobenius, np.sum(matrix**2), matrix @ matrix),
    ):
        assert found.value.dtype == dtype
        deviation = (sample_variance(power) / NUM_PROBES) ** 0.5
        assert abs(found.value - truth) <= 4 * deviation
        assert found.standard_error == pytest.approx(deviation, rel=0.7)


@pytest.mark.parametrize("name", ["gapped", "large-negative"])
def test_alone_and_together_they_are_the_same(name, x64):
    matrix, rows, found = case(name, True)
    subspace = zoo.subspace(rows, zoo.like(len(matrix)))
    alone = jax.jit(estimates)(jnp.asarray(matrix), 3, subspace)
    for one, together in zip(
        alone, (found["M"].trace, found["M"].frobenius), strict=True
    ):
        np.testing.assert_allclose(one.value, together.value[3], rtol=1e-12)
        np.testing.assert_allclose(
            one.standard_error, together.standard_error[3], rtol=1e-9
        )


def test_what_is_diagonal_or_wholly_inside_has_no_error(x64):
    """Signs see a diagonal exactly, as Gaussian probes would not."""
    n = zoo.SMALL
    diagonal = np.linspace(-1, 3, n)
    for found, truth in zip(
        jax.jit(estimates)(jnp.diag(jnp.asarray(diagonal)), 0),
        (np.sum(diagonal), np.sum(diagonal**2)),
        strict=True,
    ):
        assert found.value == pytest.approx(truth, rel=1e-12)
        assert found.standard_error < 1e-12
    matrix = zoo.matrix("gapped")
    everything = zoo.subspace(zoo.random_rows(n, n, seed=0), zoo.like(n))
    for found, truth in zip(
        jax.jit(estimates)(jnp.asarray(matrix), 0, everything),
        (np.trace(matrix), np.sum(matrix**2)),
        strict=True,
    ):
        assert found.value == pytest.approx(truth, rel=1e-12)
        assert found.standard_error < 1e-12


def test_each_product_is_taken_once(counter):
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}
    data = jnp.arange(8.0)
    subspace = zoo.subspace(zoo.random_rows(3, 8, seed=0), params)

    @jax.jit
    def measure(params, data):
        matvec = counter(params, data)
        return dominant.energies(
            lambda v: {"M": matvec(v)},
            params,
            key=jax.random.key(0),
            num_probes=5,
            subspace=subspace,
        )

    jax.block_until_ready(measure(params, data))
    assert counter.read() == 3 + 5


def test_leaves_without_a_basis_are_outside(x64):
    """The space of one layer's block, in the whole matrix and in the block alone."""
    _, params, data = networks.problem_in("tanh-squared", jnp.float64)
    problem = networks.network("tanh-squared")
    whole = dominant.hessian(problem.loss_fn)
    block = dominant.restrict(whole, lambda path, leaf: path[1].idx == 1)
    like = dominant.domain(block, params)
    size = sum(leaf.size for leaf in jax.tree.leaves(like))
    rows = zoo.random_rows(2, size, seed=1)
    subspace = zoo.subspace(rows, like)

    @functools.partial(jax.jit, static_argnums=2)
    def measure(params, data, curvature):
        matvec = curvature(params, data)
        return dominant.energies(
            lambda v: {"M": matvec(v)},
            dominant.domain(curvature, params),
            key=jax.random.key(0),
            num_probes=400,
            subspace=subspace,
        )["M"]

    dense = networks.curvatures("tanh-squared").hessian
    padded = np.pad(rows, ((0, 0), (len(dense) - size, 0)))
    for curvature, matrix, basis in (
        (whole, dense, padded),
        (block, dense[-size:, -size:], rows),
    ):
        found = measure(params, data, curvature)
        inside, square_inside, trace, square = parts(matrix, basis)
        assert found.trace_inside == pytest.approx(inside, rel=1e-10)
        assert found.frobenius_inside == pytest.approx(square_inside, rel=1e-10)
        assert abs(found.trace.value - trace) <= 4 * found.trace.standard_error
        assert abs(found.frobenius.value - square) <= 4 * found.frobenius.standard_error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_probes": 1}, "at least 2, for a standard error, got 1"),
        ({"like": {"w": jnp.zeros(4)}}, "does not fit the subspace at .*w"),
        ({"like": {"v": jnp.zeros(3)}}, "does not fit the subspace: got structure"),
    ],
    ids=["one probe", "shape", "structure"],
)
def test_impossible_arguments_are_refused(change, message):
    like = {"w": jnp.zeros(3, jnp.float32)}
    options = {
        "like": like,
        "key": jax.random.key(0),
        "num_probes": 2,
        "subspace": zoo.subspace(np.eye(3)[:1], like),
    }
    with pytest.raises(ValueError, match=message):
        dominant.trace_estimate(lambda v: v, **{**options, **change})
