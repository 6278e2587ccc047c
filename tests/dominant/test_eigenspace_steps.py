"""The solver in pieces: blocks of products, and products that come from outside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.solving import assert_orthonormal, assert_solution, perturbed

pytestmark = pytest.mark.usefixtures("strict")

K = zoo.K
NAMES = ("gapped", "cluster-across", "linear", "rank-2", "large-negative", "ring")


class Streamed:
    """A matrix as a sum over parts that a host holds; one pass a call."""

    def __init__(self, matrix, num_parts=3):
        rng = np.random.default_rng(0)
        parts = [rng.standard_normal(matrix.shape) for _ in range(num_parts - 1)]
        parts = [(part + part.T) / 2 for part in parts]
        self.parts = [*parts, matrix - sum(parts)]
        self.passes = self.products = 0

    def __call__(self, block):
        rows = zoo.to_rows(block)
        self.passes += 1
        self.products += int(np.sum(np.any(rows != 0, axis=1)))
        total = sum(rows @ part for part in self.parts)
        return zoo.from_rows(total, jax.tree.map(lambda b: b[0], block))


@functools.cache
def compiled(block_size, max_matvecs):
    steps = dominant.eigenspace_steps(
        K, tol=1e-3, max_matvecs=max_matvecs, block_size=block_size
    )
    return type(steps)(*map(jax.jit, steps))


def solve_outside(matrix, products, start=None, *, block_size, max_matvecs=900):
    """Drive the steps by a host loop."""
    steps = compiled(block_size, max_matvecs)
    state = steps.init(zoo.like(len(matrix), jnp.float32), start=start)
    while not state.done:
        state, block = steps.propose(state)
        state = steps.absorb(state, products(block))
    assert steps.propose._cache_size() == steps.absorb._cache_size() == 1
    return steps.finish(state)


@pytest.mark.parametrize(
    ("name", "block_size"),
    [*((name, 3) for name in NAMES)]
    + [(name, size) for name in ("gapped", "rank-2", "ring") for size in (1, K)],
)
def test_products_from_outside_give_the_eigenspace(name, block_size):
    matrix = zoo.matrix(name, zoo.LARGE)
    products = Streamed(matrix)
    found = solve_outside(matrix, products, block_size=block_size)
    assert_solution(found, zoo.reference(matrix.astype(np.float32)), 1e-3)
    assert products.products == int(found.num_matvecs)
    assert products.passes <= products.products


def test_steps_in_a_loop_are_top_eigenspace():
    """To rounding: two compilations of a sum may round differently."""
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32)
    like = zoo.like(len(matrix), matrix.dtype)
    matvec = zoo.matvec(matrix)

    @functools.partial(jax.jit, static_argnames="outside")
    def solve(outside):
        if not outside:
            return dominant.top_eigenspace(matvec, like, K)
        steps = dominant.eigenspace_steps(K)

        def step(state):
            state, block = steps.propose(state)
            return steps.absorb(state, jax.vmap(matvec)(block))

        state = jax.lax.while_loop(lambda s: ~s.done, step, steps.init(like))
        return steps.finish(state)

    inside, outside = solve(False), solve(True)
    assert int(inside.num_matvecs) == int(outside.num_matvecs)
    np.testing.assert_allclose(inside.eigenvalues, outside.eigenvalues, rtol=1e-5)
    assert_solution(outside, zoo.reference(matrix), 1e-3)


def test_a_warm_block_needs_few_passes():
    """K starts in one pass, their corrections in one or two, then the probe."""
    before = zoo.matrix("gapped", zoo.LARGE)
    after = perturbed(before, 1e-2 * zoo.reference(before).gap(K))
    start = solve_outside(before, Streamed(before), block_size=K)
    by_block, one_by_one = Streamed(after), Streamed(after)
    found = solve_outside(after, by_block, start, block_size=K)
    solve_outside(after, one_by_one, start, block_size=1)
    assert_solution(found, zoo.reference(after.astype(np.float32)), 1e-3)
    assert one_by_one.passes == one_by_one.products
    saved = by_block.products - by_block.passes
    assert saved >= K - 1
    assert by_block.passes < one_by_one.passes


@pytest.mark.parametrize("max_matvecs", [K, 2 * K + 3])
def test_blocks_keep_the_budget(max_matvecs):
    matrix = zoo.matrix("linear", zoo.LARGE)
    products = Streamed(matrix)
    found = solve_outside(matrix, products, block_size=3, max_matvecs=max_matvecs)
    assert products.products == int(found.num_matvecs) <= max_matvecs
    assert_orthonormal(found)


@jax.jit
def solve_in_blocks(matrix):
    like = zoo.like(len(matrix), matrix.dtype)
    return dominant.top_eigenspace(
        zoo.matvec(matrix), like, K, max_matvecs=300, block_size=K
    )


@pytest.mark.parametrize("name", NAMES)
def test_vmapped_blocks_inside_the_solver(name):
    matrix = jnp.asarray(zoo.matrix(name), jnp.float32)
    assert_solution(solve_in_blocks(matrix), zoo.reference(matrix), 1e-3)


def test_nonfinite_products_end_the_solve():
    matrix = zoo.matrix("gapped", zoo.LARGE)
    products = Streamed(matrix)

    def poisoned(block):
        block = products(block)
        if products.passes < 3:
            return block
        return jax.tree.map(lambda b: jnp.full_like(b, jnp.nan), block)

    found = solve_outside(matrix, poisoned, block_size=3)
    assert products.passes == 3
    assert np.any(np.isnan(found.eigenvalues))


def test_a_solve_holds_its_columns_once():
    """No copy of the columns in a branch, a product or a restart."""
    k, shape = 10, (160, 160)
    diagonal = jnp.linspace(0, 1, 160 * 160, dtype=jnp.float32).reshape(shape)

    def solve(diagonal):
        return dominant.top_eigenspace(lambda v: diagonal * v, diagonal, k)

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        compiled = jax.jit(solve).lower(diagonal).compile()
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    workspace = compiled.memory_analysis().temp_size_in_bytes / (4 * diagonal.size)
    assert workspace <= (2 * k + 2) + 6


@pytest.mark.parametrize("block_size", [0, K + 1])
def test_block_size_is_checked(block_size):
    with pytest.raises(ValueError, match="block_size must be between 1 and k = 4"):
        dominant.eigenspace_steps(K, block_size=block_size)
