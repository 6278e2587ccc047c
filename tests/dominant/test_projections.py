"""The optax contract of the projections: arithmetic, order, wrappers, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant

PARAMS = {"w": jnp.zeros((4, 2)), "b": [jnp.zeros(3), jnp.zeros(())]}
NUM_PARAMETERS = 12
K = 3


def tree(vector):
    """Lay a [12] vector out as PARAMS."""
    vector = jnp.asarray(vector, jnp.float32)
    return {"w": vector[:8].reshape(4, 2), "b": [vector[8:11], vector[11]]}


def flat(vector):
    """Undo `tree`, in float64."""
    parts = [vector["w"].ravel(), vector["b"][0], jnp.atleast_1d(vector["b"][1])]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


@pytest.fixture
def basis():
    """Orthonormal columns, [12, 3]."""
    matrix = np.random.default_rng(0).normal(size=(NUM_PARAMETERS, K))
    return np.linalg.qr(matrix)[0]


@pytest.fixture
def subspace(basis):
    rows = [tree(column) for column in basis.T]
    return dominant.Subspace(
        eigenvalues=jnp.arange(K, 0.0, -1),
        basis=jax.tree.map(lambda *rows: jnp.stack(rows), *rows),
        residuals=jnp.full(K, jnp.inf),
        next_eigenvalue=jnp.zeros(()),
        next_residual=jnp.full((), jnp.inf),
        num_matvecs=jnp.zeros((), jnp.int32),
    )


@pytest.fixture
def updates():
    return tree(np.random.default_rng(1).normal(size=NUM_PARAMETERS))


@pytest.mark.parametrize(("dom", "bulk"), [(1, 0), (0, 1), (0.3, 1.7), (-1, 2)])
def test_interpolation_weighs_both_parts(dom, bulk, basis, subspace, updates):
    tx = dominant.interpolate_project(dom, bulk)
    projected, _ = tx.update(updates, tx.init(PARAMS), subspace=subspace)
    u = flat(updates)
    inside = basis @ (basis.T @ u)
    expected = dom * inside + bulk * (u - inside)
    np.testing.assert_allclose(flat(projected), expected, atol=2e-6)


def test_equal_weights_of_one_change_nothing(subspace, updates):
    tx = dominant.interpolate_project(1, 1)
    projected, _ = tx.update(updates, tx.init(PARAMS), subspace=subspace)
    np.testing.assert_array_equal(flat(projected), flat(updates))


def test_weights_may_be_schedules(basis, subspace, updates):
    tx = dominant.interpolate_project(
        lambda step: 1.0 - step, optax.constant_schedule(2)
    )
    state = tx.init(PARAMS)
    u = flat(updates)
    inside = basis @ (basis.T @ u)
    for step in range(3):
        projected, state = tx.update(updates, state, subspace=subspace)
        expected = (1.0 - step) * inside + 2 * (u - inside)
        np.testing.assert_allclose(flat(projected), expected, atol=4e-6)


def test_bfloat16_updates_keep_their_dtype(basis, subspace, updates):
    narrow = jax.tree.map(lambda u: u.astype(jnp.bfloat16), updates)
    tx = dominant.bulk_project()
    projected, _ = tx.update(narrow, tx.init(PARAMS), subspace=subspace)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(projected))
    u = flat(narrow)
    expected = u - basis @ (basis.T @ u)
    eps = float(jnp.finfo(jnp.bfloat16).eps)
    np.testing.assert_allclose(flat(projected), expected, atol=2 * eps * abs(u).max())


# --- after_alignment ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chi", "expected"), [(1.0, 29), (0.99, 31), (0.97, 37), (0.96, 44)]
)
def test_switch_comes_when_the_moving_average_passes(chi, expected, basis, subspace):
    """At a constant chi, at update ceil(log(1 - 0.95 / chi) / log 0.9)."""
    assert expected == int(np.ceil(np.log(1 - 0.95 / chi) / np.log(0.9)))
    outside = np.linalg.svd(basis.T)[2][-1]
    gradient = tree(chi * basis[:, 0] + np.sqrt(1 - chi**2) * outside)
    tx = dominant.after_alignment(optax.scale(0.0))
    state = tx.init(PARAMS)

    def step(state, _):
        projected, state = tx.update(
            gradient, state, subspace=subspace, gradient=gradient
        )
        return state, (state.engaged, optax.tree.norm(projected))

    _, (engaged, norms) = jax.jit(lambda s: jax.lax.scan(step, s, length=60))(state)
    # Updates are numbered from 1; e_0 = 0.
    np.testing.assert_array_equal(engaged, np.arange(1, 61) >= expected)
    # From that very update on the inner transformation acts.
    np.testing.assert_array_equal(norms[expected - 1 :], 0)
    np.testing.assert_allclose(norms[: expected - 1], 1, rtol=1e-5)


def test_switch_is_one_way_and_waits_for_min_steps(basis, subspace):
    aligned = tree(basis[:, 0])
    outside = tree(np.linalg.svd(basis.T)[2][-1])
    tx = dominant.after_alignment(
        dominant.dom_project(), threshold=0.5, decay=0.0, min_steps=3
    )
    state = tx.init(PARAMS)
    history = []
    for gradient in [aligned, aligned, outside, aligned, outside, outside]:
        _, state = tx.update(aligned, state, subspace=subspace, gradient=gradient)
        history.append(bool(state.engaged))
    assert history == [False, False, False, True, True, True]
    assert int(state.inner_state.num_updates) == 3


def test_a_negative_threshold_leaves_the_switch_to_min_steps(basis, subspace):
    outside = tree(np.linalg.svd(basis.T)[2][-1])
    tx = dominant.after_alignment(
        dominant.dom_project(), threshold=-1.0, decay=0.9, min_steps=3
    )
    state = tx.init(PARAMS)
    norms = []
    for _ in range(4):
        updates, state = tx.update(outside, state, subspace=subspace, gradient=outside)
        norms.append(float(optax.tree.norm(updates)))
    np.testing.assert_allclose(norms, [1, 1, 0, 0], atol=1e-6)


def test_switch_is_decided_for_each_member_of_a_vmap(basis, subspace):
    outside = np.linalg.svd(basis.T)[2][-1]
    angles = np.array([0.0, 0.2, 1.2])
    gradients = [tree(np.cos(a) * basis[:, 0] + np.sin(a) * outside) for a in angles]
    gradients = jax.tree.map(lambda *g: jnp.stack(g), *gradients)
    tx = dominant.after_alignment(dominant.bulk_project())

    @jax.vmap
    def train(gradient):
        def step(state, _):
            projected, state = tx.update(
                gradient, state, subspace=subspace, gradient=gradient
            )
            return state, optax.tree.norm(projected)

        return jax.lax.scan(step, tx.init(PARAMS), length=60)

    states, norms = train(gradients)
    np.testing.assert_array_equal(states.engaged, [True, True, False])
    np.testing.assert_allclose(norms[:, -1], [0, np.sin(0.2), 1], atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.0}, {"decay": 1.0}, {"decay": -0.1}, {"min_steps": -1}]
)
def test_impossible_switch_rules_are_refused(wrong):
    with pytest.raises(ValueError, match="after_alignment needs"):
        dominant.after_alignment(dominant.bulk_project(), **wrong)


# --- errors ---------------------------------------------------------------------------


def test_missing_subspace_names_the_wrapper_and_the_right_order(updates):
    tx = dominant.bulk_project()
    with pytest.raises(ValueError, match="track_subspace") as error:
        tx.update(updates, tx.init(PARAMS))
    assert "gradient_transformation(), bulk_project()" in str(error.value)


def test_missing_gradient_is_named(subspace, updates):
    tx = dominant.after_alignment(dominant.bulk_project())
    with pytest.raises(ValueError, match="`gradient`"):
        tx.update(updates, tx.init(PARAMS), subspace=subspace)


def test_foreign_updates_are_refused(subspace, updates):
    tx = dominant.bulk_project()
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="structure"):
        tx.update({"w": updates["w"]}, state, subspace=subspace)
    with pytest.raises(ValueError, match=r"\['w'\].*\(2, 4\)"):
        tx.update({**updates, "w": updates["w"].T}, state, subspace=subspace)


@pytest.mark.parametrize("wrapper", ["masked", "partition"])
def test_masking_a_projection_names_the_remedy(wrapper, subspace, updates):
    mask = {"w": True, "b": [False, False]}
    if wrapper == "masked":
        tx = optax.masked(dominant.bulk_project(), mask)
    else:
        labels = {"w": "a", "b": ["b", "b"]}
        tx = optax.partition(
            {"a": dominant.bulk_project(), "b": optax.set_to_zero()}, labels
        )
    with pytest.raises(ValueError, match="restrict"):
        tx.update(updates, tx.init(PARAMS), PARAMS, subspace=subspace)


@pytest.mark.parametrize("wrapper", ["masked", "partition"])
def test_masking_the_base_optimizer_works(wrapper, basis, subspace, updates):
    if wrapper == "masked":
        base = optax.masked(optax.scale(3.0), {"w": True, "b": [False, False]})
    else:
        labels = {"w": "a", "b": ["b", "b"]}
        base = optax.partition({"a": optax.scale(3.0), "b": optax.identity()}, labels)
    tx = optax.chain(base, dominant.bulk_project())
    projected, _ = tx.update(updates, tx.init(PARAMS), PARAMS, subspace=subspace)
    u = flat(updates) * np.repeat([3.0, 1.0], [8, 4])
    np.testing.assert_allclose(flat(projected), u - basis @ (basis.T @ u), atol=4e-6)


# --- optax wrappers that need no tracker ----------------------------------------------


def test_sam_in_a_chain_with_the_adapter(basis, subspace):
    """Bulk-SAM with opaque mode: base SGD on the gradient at the perturbed point."""
    matrix = np.diag(np.arange(1.0, NUM_PARAMETERS + 1))
    rho, learning_rate = 0.05, 0.1

    def grad_fn(params, _):
        return tree(jnp.asarray(matrix, jnp.float32) @ jnp.asarray(flat_jax(params)))

    sam = optax.contrib.sam(
        optax.sgd(learning_rate),
        optax.chain(optax.contrib.normalize(), optax.sgd(rho)),
        opaque_mode=True,
    )
    bare = optax.chain(sam, dominant.bulk_project())
    params = tree(np.linspace(-1, 1, NUM_PARAMETERS))
    gradient = grad_fn(params, 0)
    with pytest.raises(TypeError):
        bare.update(
            gradient, bare.init(params), params, subspace=subspace, grad_fn=grad_fn
        )
    tx = optax.chain(
        dominant.with_extra_args_only(sam, ["grad_fn"]), dominant.bulk_project()
    )
    step, _ = tx.update(
        gradient, tx.init(params), params, subspace=subspace, grad_fn=grad_fn
    )
    theta = flat(params)
    g = matrix @ theta
    g_sam = matrix @ (theta + rho * g / np.linalg.norm(g))
    expected = -learning_rate * (g_sam - basis @ (basis.T @ g_sam))
    np.testing.assert_allclose(flat(step), expected, rtol=1e-5, atol=1e-5)


def flat_jax(params):
    parts = [params["w"].ravel(), params["b"][0], params["b"][1][None]]
    return jnp.concatenate(parts)
