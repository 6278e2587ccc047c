"""Measurements that take curvature products of their own.

Symbols as in `training`; H is the Hessian at theta of the training loss, on those
examples that the config gives to the curvature.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

import dominant
from experiments import optimizers
from experiments.measurements.record import Metrics, Record, Setting

NUM_PROBES = 10
"""Random vectors of a trace estimate."""

_SPECTRUM_TOL = 5e-2
_EFFECTIVE_TOL = 1e-2


def spectrum(record: Record, setting: Setting, earlier: Any) -> tuple[Metrics, Any]:
    """The top 2k eigenvalues of H, and their residuals |H u - lambda u|.

    For a figure, not for a projection: to a relative residual of 5 %, at most 5 k
    products, no certificate. Starts from the basis of the spectrum before (`earlier`).
    An eigenvalue of H lies within each residual.
    """
    k = setting.config.subspace.k
    top = top_ritz_pairs(
        setting.curvature(record.params, setting.curvature_data),
        dominant.domain(setting.curvature, record.params),
        _dimension(setting, record.params),
        start=record.subspace._replace(basis=earlier),
        tol=_SPECTRUM_TOL,
        max_matvecs=5 * k,
    )
    metrics = {
        "spectrum/eigenvalues": top.eigenvalues,
        "spectrum/residuals": top.residuals,
        "spectrum/matvecs": top.num_matvecs,
    }
    return metrics, top.basis


def top_ritz_pairs(
    matvec: dominant.Matvec,
    like: Any,
    k: int,
    *,
    tol: float,
    max_matvecs: int,
    start: dominant.Subspace | None = None,
) -> dominant.Subspace:
    """Return what `dominant.top_eigenspace` does, without products for a certificate.

    Nothing tells whether a larger eigenvalue was missed.
    """
    steps = dominant.eigenspace_steps(k, tol=tol, max_matvecs=max_matvecs)

    def step(state: Any) -> Any:
        state, block = steps.propose(state)
        product = matvec(jax.tree.map(lambda b: b[0], block))
        return steps.absorb(state, jax.tree.map(lambda p: p[None], product))

    state = steps.init(like, start=start)
    state = jax.lax.while_loop(lambda s: ~(s.done | s.probing), step, state)
    return steps.finish(state)


def no_spectrum(params: Any, setting: Setting) -> Any:
    """Return what `spectrum` starts from the first time: a basis of zeros."""
    size = _dimension(setting, params)

    def zeros(p: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(p.dtype, jnp.float32)
        return jnp.zeros((size, *p.shape), dtype)

    return jax.tree.map(zeros, dominant.domain(setting.curvature, params))


def exact(record: Record, setting: Setting) -> Metrics:
    """How the tracked basis compares with the top eigenspace of H, solved for here.

    H is that of all training examples, whatever the basis is of. The largest principal
    angle (radians) and the overlap |U^T V|_F^2 / k, and chi_k of g and of Delta by the
    solved basis V, to a relative residual of 1e-3. Starts from the tracked one.
    """
    tracked = record.tracker.subspace
    hessian = optimizers.hessian(setting.config, setting.task, setting.task.num_train)
    solved = dominant.top_eigenspace(
        hessian(record.params, setting.train),
        dominant.domain(hessian, record.params),
        setting.config.subspace.k,
        start=tracked,
    )
    return {
        "exact/angle": dominant.principal_angles(tracked, solved)[0],
        "exact/overlap": dominant.overlap(tracked, solved),
        "exact/alignment_gradient": dominant.alignment(record.gradient, solved),
        "exact/alignment_update": dominant.alignment(record.updates, solved),
        "exact/error_bound": dominant.error_bound(solved),
        "exact/matvecs": solved.num_matvecs,
    }


def _dimension(setting: Setting, params: Any) -> int:
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return min(2 * setting.config.subspace.k, num_parameters)


def descent(record: Record, setting: Setting) -> Metrics:
    """What the two parts of Delta do to the loss, to second order, and their shares.

    With S the dominant or the bulk part of the update: first = <g, S Delta>, second =
    (S Delta)^T H (S Delta) / 2, and the projected descent ratio
    rho_S = (first + second) / (the same of Delta): the part's share of the predicted
    change of L. rho_dom + rho_bulk = 1 where P_k commutes with H. Two products.
    """
    matvec = setting.curvature(record.params, setting.curvature_data)
    dom = dominant.project(record.updates, record.subspace)
    bulk = optax.tree.sub(record.updates, dom)
    product_of_dom, product_of_bulk = matvec(dom), matvec(bulk)
    whole = optax.tree.add(product_of_dom, product_of_bulk)
    parts = {
        "dom": (dom, product_of_dom),
        "bulk": (bulk, product_of_bulk),
        "all": (record.updates, whole),
    }
    metrics: Metrics = {}
    for name, (part, product) in parts.items():
        metrics[f"descent/first_{name}"] = optax.tree.vdot(record.gradient, part)
        metrics[f"descent/second_{name}"] = 0.5 * optax.tree.vdot(part, product)
    total = metrics["descent/first_all"] + metrics["descent/second_all"]
    for name in ("dom", "bulk"):
        change = metrics[f"descent/first_{name}"] + metrics[f"descent/second_{name}"]
        metrics[f"descent/ratio_{name}"] = change / jnp.where(total == 0, 1, total)
    return metrics


def trace(record: Record, setting: Setting) -> Metrics:
    """Return tr H with its standard error, and tr(P_k H) / tr H.

    The dominant part is exact, sum_i u_i^T H u_i; the rest is Hutchinson's estimate
    with Rademacher vectors v: the mean of w^T H w, w = (I - P_k) v (Meyer et al. 2021,
    arXiv:2010.09649, Hutch++). k + 10 products.
    """
    matvec = setting.curvature(record.params, setting.curvature_data)
    found = dominant.energies(
        lambda v: {"hessian": matvec(v)},
        dominant.domain(setting.curvature, record.params),
        key=record.key,
        num_probes=NUM_PROBES,
        subspace=record.subspace,
    )["hessian"]
    return {
        "trace/estimate": found.trace.value,
        "trace/standard_error": found.trace.standard_error,
        "trace/dominant": found.trace_inside,
        "trace/dominant_share": found.trace_share.value,
    }


def noise(record: Record, setting: Setting) -> Metrics:
    """v^T Cov(g_B) v of the mini-batch gradient, along the basis and k random v.

    Of batches of B out of N examples without replacement: Cov(g_B) = (N - B) / (N - 1)
    / B times the covariance of the examples' gradients g_i, and v^T Cov(g_i) v is the
    variance of <g_i, v>, a derivative of each example's loss along v. Of batches of
    fresh examples the factor is 1 / B. Random v are uniform on the sphere. 2 k
    derivatives, each about half a product.
    """
    data = setting.curvature_data
    count = jax.tree.leaves(data)[0].shape[0]
    size = min(setting.config.batch_size, count)
    factor = (count - size) / max(count - 1, 1) / size
    if setting.task.sample is not None:
        factor = 1 / setting.config.batch_size

    def losses(params: Any) -> jax.Array:
        def loss(example: Any) -> jax.Array:
            return setting.task.loss_fn(
                params, jax.tree.map(lambda x: x[None], example)
            )

        return jax.vmap(loss)(data)

    def variance(v: Any) -> jax.Array:
        v = jax.tree.map(lambda x, p: x.astype(p.dtype), v, record.params)
        return factor * jnp.var(jax.jvp(losses, (record.params,), (v,))[1])

    def along_random(key: jax.Array) -> jax.Array:
        v = optax.tree.random_like(key, record.params, jax.random.normal)
        return variance(optax.tree.scale(1 / optax.tree.norm(v), v))

    basis = record.tracker.subspace.basis
    keys = jax.random.split(record.key, setting.config.subspace.k)
    return {
        "noise/along_basis": jax.lax.map(variance, basis),
        "noise/along_random": jax.lax.map(along_random, keys),
    }


def effective_sharpness(record: Record, setting: Setting) -> Metrics:
    """lambda_1 of Adam's P^-1/2 H P^-1/2, P = sqrt(nu_hat) + eps, and its edge.

    The edge is 2 (1 + beta_1) / ((1 - beta_1) lr) (Cohen et al. 2022,
    arXiv:2207.14484). P is that of the state after the step. A warm start is of no use
    here: each solve is cold, to a relative residual of 1e-2.
    """
    config = setting.config.optimizer
    diagonal = _adam_preconditioner(config, record.tracker.inner_state)
    curvature = dominant.preconditioned(setting.curvature, diagonal)
    top = dominant.top_eigenspace(
        curvature(record.params, setting.curvature_data),
        dominant.domain(curvature, record.params),
        1,
        tol=_EFFECTIVE_TOL,
    )
    edge = 2 * (1 + config.b1) / ((1 - config.b1) * record.learning_rate)
    return {
        "effective_sharpness/largest": top.eigenvalues[0],
        "effective_sharpness/residual": top.residuals[0],
        "effective_sharpness/edge": edge,
        "effective_sharpness/over_edge": top.eigenvalues[0] / edge,
    }


def _adam_preconditioner(config: ml_collections.ConfigDict, inner_state: Any) -> Any:
    """Return sqrt(nu_hat) + eps, a tree like the params, from Adam's state."""

    def is_adam(state: Any) -> bool:
        return isinstance(state, optax.ScaleByAdamState)

    states = jax.tree.leaves(inner_state, is_leaf=is_adam)
    (adam,) = (state for state in states if is_adam(state))
    correction = 1 - config.b2 ** adam.count.astype(jnp.float32)
    return jax.tree.map(lambda nu: jnp.sqrt(nu / correction) + config.eps, adam.nu)
