"""Traces and Frobenius norms of symmetric operators, in and out of a subspace.

Both are sums over directions of what one product M v tells, v^T M v and |M v|^2. With
an orthonormal basis U of k directions, P = U U^T, they split into a part inside the
subspace, which takes k products and is exact, and a rest that is estimated:

    tr M    = sum_i u_i^T M u_i + E w^T M w
    |M|_F^2 = sum_i |M u_i|^2   + E |M w|^2,    w = (I - P) v, v random signs.

U need not be made of eigenvectors of M: the second line is |M P|_F^2 + |M (I - P)|_F^2,
and for a symmetric M the first of these is |P M|_F^2. (Girard 1989 and Hutchinson 1990;
for the split, called deflation, Gambhir, Stathopoulos and Orginos 2017 and Meyer,
Musco, Musco and Woodruff 2021, "Hutch++", arXiv:2010.09649.)

With A = (I - P) M (I - P) for the trace, (I - P) M^2 (I - P) for the norm, a sample of
the rest has the variance 2 (|A|_F^2 - sum_i A_ii^2): what the subspace holds adds
nothing to it, which is why a few samples will do where the subspace holds the most.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees
from dominant.curvature import Matvec
from dominant.subspace import Subspace, reject, require_matching


class Estimate(NamedTuple):
    """An unbiased estimate and its standard error, scalars.

    The error is the samples' standard deviation over the square root of their number m.
    Its square has the right mean for any m; for few samples, two standard errors hold
    the truth less often than in 95 % of cases (Student's t with m - 1 degrees of
    freedom: 92 % for m = 10).
    """

    value: jax.Array
    standard_error: jax.Array


class Energy(NamedTuple):
    """tr M and |M|_F^2 of a symmetric M, and their parts inside a subspace.

    trace: tr M. trace_inside: scalar, tr(P M) = sum_i u_i^T M u_i, exact.
    frobenius: |M|_F^2. frobenius_inside: scalar, |P M|_F^2 = sum_i |M u_i|^2, exact.
    """

    trace: Estimate
    trace_inside: jax.Array
    frobenius: Estimate
    frobenius_inside: jax.Array

    @property
    def trace_share(self) -> Estimate:
        """tr(P M) / tr M; no share of anything where M is indefinite.

        See `frobenius_share` for its error.
        """
        return _share(self.trace_inside, self.trace)

    @property
    def frobenius_share(self) -> Estimate:
        """E_dom(M) = |P M|_F^2 / |M|_F^2, in [0, 1]; NaN for M = 0.

        Its standard error is that of the delta method, with a the part inside, exact,
        and s that of the total b: a s / b^2. A ratio is unbiased only to first order
        in s / b.
        """
        return _share(self.frobenius_inside, self.frobenius)


def trace_estimate(
    matvec: Matvec,
    like: Any,
    *,
    key: jax.Array,
    num_probes: int,
    subspace: Subspace | None = None,
) -> Estimate:
    """Return an estimate of tr M, exact inside a subspace if one is given.

    Args:
      matvec: product with a symmetric M on trees shaped like `like`.
      like: a tree that gives shapes and dtypes, e.g. the params, or
        `domain(curvature, params)`. Non-floating leaves take no part.
      key: for the probes.
      num_probes: m, random vectors, a product each, at least 2.
      subspace: anything with an orthonormal basis of k vectors, k products more. A leaf
        of the basis may be None: zero there.

    Raises:
      ValueError: if num_probes < 2, or the subspace does not fit `like`.
    """
    inside, outside = _single(matvec, like, key, num_probes, subspace)
    return _total(inside.quadratic, outside.quadratic)


def frobenius_estimate(
    matvec: Matvec,
    like: Any,
    *,
    key: jax.Array,
    num_probes: int,
    subspace: Subspace | None = None,
) -> Estimate:
    """Return an estimate of |M|_F^2 (squared), exact inside a subspace if one is given.

    Arguments and errors are those of `trace_estimate`.
    """
    inside, outside = _single(matvec, like, key, num_probes, subspace)
    return _total(inside.square, outside.square)


def energies(
    products: Callable[[Any], Mapping[str, Any]],
    like: Any,
    *,
    key: jax.Array,
    num_probes: int,
    subspace: Subspace,
) -> dict[str, Energy]:
    """Return the traces and Frobenius norms of several matrices, by their names.

    Each product serves both, and all matrices see the same vectors: what is linear in
    them, as tr H = tr G + tr F of the Gauss-Newton split, holds for the estimates too,
    up to rounding.

    Args:
      products: `v -> {name: M v}`, all of them from one call, so that what they share
        is computed once (of H, G and F = H - G, two give the third).
      like: as in `trace_estimate`.
      key: for the probes.
      num_probes: m; k + m calls of `products`.
      subspace: as in `trace_estimate`.

    Raises:
      ValueError: as `trace_estimate`.
    """
    inside, outside = _moments(products, like, key, num_probes, subspace)
    return {
        name: Energy(
            trace=_total(inside[name].quadratic, outside[name].quadratic),
            trace_inside=jnp.sum(inside[name].quadratic),
            frobenius=_total(inside[name].square, outside[name].square),
            frobenius_inside=jnp.sum(inside[name].square),
        )
        for name in outside
    }


class _Moments(NamedTuple):
    """What products tell, [.] each: v^T M v and |M v|^2."""

    quadratic: jax.Array
    square: jax.Array


def _single(
    matvec: Matvec, like: Any, key: jax.Array, num_probes: int, subspace: Any
) -> tuple[_Moments, _Moments]:
    """Return `_moments` of one matrix."""

    def products(v: Any) -> dict[str, Any]:
        return {"": matvec(v)}

    inside, outside = _moments(products, like, key, num_probes, subspace)
    return inside[""], outside[""]


def _moments(
    products: Callable[[Any], Mapping[str, Any]],
    like: Any,
    key: jax.Array,
    num_probes: int,
    subspace: Subspace | None,
) -> tuple[dict[str, _Moments], dict[str, _Moments]]:
    """Return the moments of the basis vectors, [k], and of the probes outside, [m]."""
    if num_probes < 2:
        raise ValueError(
            f"num_probes must be at least 2, for a standard error, got {num_probes}."
        )
    vector = pytrees.wide(pytrees.floating(like))
    if subspace is not None:
        require_matching(vector, subspace)

    def of_vector(v: Any) -> dict[str, _Moments]:
        return {
            name: _Moments(pytrees.dot(v, product), pytrees.dot(product, product))
            for name, product in products(v).items()
        }

    def of_probe(key: jax.Array) -> dict[str, _Moments]:
        signs = pytrees.random_signs(key, vector)
        return of_vector(signs if subspace is None else reject(signs, subspace))

    # One vector at a time: memory is that of one product.
    outside = jax.lax.map(of_probe, jax.random.split(key, num_probes))
    if subspace is None:
        none = jnp.zeros(0, pytrees.scalar_dtype(vector))
        return dict.fromkeys(outside, _Moments(none, none)), outside
    zeros = jax.tree.map(jnp.zeros_like, vector)
    inside = jax.lax.map(
        lambda u: of_vector(pytrees.merge(u, zeros)), pytrees.wide(subspace.basis)
    )
    return inside, outside


def _total(inside: jax.Array, outside: jax.Array) -> Estimate:
    """Return the sum over the basis plus the mean over the probes."""
    error = jnp.std(outside, ddof=1) / outside.shape[0] ** 0.5
    return Estimate(jnp.sum(inside) + jnp.mean(outside), error)


def _share(inside: jax.Array, total: Estimate) -> Estimate:
    value = jnp.divide(inside, total.value)
    error = jnp.abs(jnp.divide(value, total.value)) * total.standard_error
    return Estimate(value, error)
