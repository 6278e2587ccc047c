"""The split H = G + F of the Hessian: energies and eigenvalues of each part.

Symbols as in `training`; G is the Gauss-Newton matrix, F the functional Hessian, and M
stands for any of H, G and F, all at theta and on those examples that the config gives
to the curvature. Energies take products with G and F, and H v is their sum: so a small
F keeps its digits, which the difference of H v and G v would lose.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import dominant
from experiments import optimizers
from experiments.measurements.curvature import top_ritz_pairs
from experiments.measurements.record import Metrics, Record, Setting

MATRICES = ("hessian", "gauss_newton", "functional_hessian")

NUM_PROBES = 10
"""Random vectors of the traces and norms."""

END_BUDGET = 40
"""Products at most for the largest and for the smallest eigenvalue of F, each."""

_SPLIT_TOL = 1e-2
_END_TOL = 5e-2


def energy(record: Record, setting: Setting) -> Metrics:
    """Traces, Frobenius norms and the gradient's energy of H, G and F, and in P_k.

    Of each M, with standard errors where there is an estimate:

    - tr M and tr(P_k M) = sum_i u_i^T M u_i, which is exact;
    - |M|_F^2, |P_k M|_F^2 = sum_i |M u_i|^2, exact, and E_dom(M), their ratio;
    - g^T M g, (P_k g)^T M (P_k g), and the same with I - P_k.

    Shares of the trace and of g^T M g, (P_k g)^T M (P_k g) / g^T M g, are those of H
    and G alone. F is indefinite, and no whole that has parts: on networks of ReLU units
    tr F = 0. Where |M|_F is 0, as F's of a linear model, E_dom is NaN.

    The estimates are those of `dominant.energies`, with the same 10 probes for H, G and
    F, so that tr H = tr G + tr F holds up to rounding. 2 (k + 12) products: as many
    with G as with F.
    """
    products = _products(record, setting)
    found = dominant.energies(
        products,
        dominant.domain(setting.curvature, record.params),
        key=record.key,
        num_probes=NUM_PROBES,
        subspace=record.subspace,
    )
    metrics: Metrics = {}
    for name, of_matrix in found.items():
        share = of_matrix.frobenius_share
        metrics |= {
            f"energy/trace_{name}": of_matrix.trace.value,
            f"energy/trace_standard_error_{name}": of_matrix.trace.standard_error,
            f"energy/trace_dominant_{name}": of_matrix.trace_inside,
            f"energy/frobenius_{name}": of_matrix.frobenius.value,
            f"energy/frobenius_standard_error_{name}": (
                of_matrix.frobenius.standard_error
            ),
            f"energy/frobenius_dominant_{name}": of_matrix.frobenius_inside,
            f"energy/frobenius_share_{name}": share.value,
            f"energy/frobenius_share_standard_error_{name}": share.standard_error,
        }
        if name != "functional_hessian":
            share = of_matrix.trace_share
            metrics |= {
                f"energy/trace_share_{name}": share.value,
                f"energy/trace_share_standard_error_{name}": share.standard_error,
            }
    return metrics | _of_gradient(record, products)


def _of_gradient(record: Record, products: Callable) -> Metrics:
    """Return g^T M g, its dominant and its bulk part, and the former's share."""
    dom = dominant.project(record.gradient, record.subspace)
    bulk = optax.tree.sub(record.gradient, dom)
    of_dom, of_bulk = products(dom), products(bulk)
    metrics: Metrics = {}
    for name in MATRICES:
        in_dom = optax.tree.vdot(dom, of_dom[name])
        in_bulk = optax.tree.vdot(bulk, of_bulk[name])
        # Zero where P_k commutes with M.
        mixed = optax.tree.vdot(bulk, of_dom[name])
        whole = in_dom + in_bulk + 2 * mixed
        metrics |= {
            f"energy/gradient_{name}": whole,
            f"energy/gradient_dominant_{name}": in_dom,
            f"energy/gradient_bulk_{name}": in_bulk,
        }
        if name != "functional_hessian":
            metrics[f"energy/gradient_share_{name}"] = in_dom / whole
    return metrics


def matvecs(
    record: Record, setting: Setting
) -> tuple[dominant.Matvec, dominant.Matvec]:
    """Return the products with G and with F."""
    gauss_newton, functional_hessian = optimizers.split_hessian(
        setting.config, setting.task
    )
    at = (record.params, setting.curvature_data)
    return gauss_newton(*at), functional_hessian(*at)


def _products(record: Record, setting: Setting) -> Callable[[Any], dict[str, Any]]:
    """Return `v -> {name: M v}`, one product with G and one with F."""
    gauss_newton, functional_hessian = matvecs(record, setting)

    def products(v: Any) -> dict[str, Any]:
        of_g, of_f = gauss_newton(v), functional_hessian(v)
        both = optax.tree.add(of_g, of_f)
        return dict(zip(MATRICES, (both, of_g, of_f), strict=True))

    return products


def split(record: Record, setting: Setting) -> Metrics:
    """The top eigenvalues of H, G and F, and the overlap of H's and G's spaces.

    The top k of H (from the basis in use) and of G (from H's), their residuals
    |M u - lambda u|, a bound on the sine to each exact space, and the overlap
    |U_H^T U_G|_F^2 / k: to a relative residual of 1e-2, in 5 k products each at most.
    Of F the largest and the smallest eigenvalue, to 5 % in 40 products each at most,
    with residuals and no more: an eigenvalue of F lies within each.
    """
    k, at = setting.config.subspace.k, (record.params, setting.curvature_data)
    like = dominant.domain(setting.curvature, record.params)
    gauss_newton, functional_hessian = matvecs(record, setting)

    def top(matvec: dominant.Matvec, start: dominant.Subspace) -> dominant.Subspace:
        return dominant.top_eigenspace(
            matvec, like, k, start=start, tol=_SPLIT_TOL, max_matvecs=5 * k
        )

    of_h = top(setting.curvature(*at), record.subspace)
    of_g = top(gauss_newton, of_h)

    def end(sign: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = top_ritz_pairs(
            lambda v: optax.tree.scale(sign, functional_hessian(v)),
            like,
            1,
            tol=_END_TOL,
            max_matvecs=END_BUDGET,
        )
        return sign * found.eigenvalues[0], found.residuals[0], found.num_matvecs

    # The solves one after another, also on a CPU, which would share out its few threads
    # between independent ones: with several seeds, jaxlib 0.10 can then wait forever.
    signs = jnp.where(
        jnp.isfinite(of_g.eigenvalues[0]), jnp.array([1.0, -1.0]), jnp.nan
    )
    ends, end_residuals, end_matvecs = jax.lax.map(end, signs)
    metrics = {
        "split/overlap": dominant.overlap(of_h, of_g),
        "split/largest_functional_hessian": ends[0],
        "split/largest_residual_functional_hessian": end_residuals[0],
        "split/smallest_functional_hessian": ends[1],
        "split/smallest_residual_functional_hessian": end_residuals[1],
        "split/matvecs": of_h.num_matvecs + of_g.num_matvecs + jnp.sum(end_matvecs),
    }
    for name, solved in (("hessian", of_h), ("gauss_newton", of_g)):
        metrics |= {
            f"split/eigenvalues_{name}": solved.eigenvalues,
            f"split/residuals_{name}": solved.residuals,
            f"split/error_bound_{name}": dominant.error_bound(solved),
        }
    return metrics
