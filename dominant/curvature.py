"""Curvature products: the Hessian, its Gauss-Newton split and the second moment.

A *curvature* is a function `(params, data) -> matvec`; a *matvec* maps a vector (a tree
shaped like the params) to the product with a symmetric matrix. `curvature(params,
data)` linearizes once at `params`; each application of the matvec then costs about the
derivative's forward and backward pass, at the price of keeping the linearization's
intermediate values in memory (`in_batches` bounds them). Curvatures made from others
are in curvature_transforms.py.

Matrix products run at `precision="highest"` (full float32) unless told otherwise: the
defaults of GPU and TPU (TF32, bfloat16) spoil relative residuals of 1e-3. Any name that
`jax.default_matmul_precision` knows will do, "tensorfloat32" and "bfloat16" for speed;
the CPU computes in float32 whatever the name. `in_dtype` goes further and computes the
whole curvature in a narrower type, on every backend. What either costs in accuracy
stands in docs/curvature.md. Vectors and inner products stay in float32 or wider.

Symbols: theta the params, N the number of examples on the data's leading axis,
f(theta) = predict_fn(theta, data) the outputs, l = output_loss_fn(f, data) the mean
loss, J the Jacobian of f, L(theta) = loss_fn(theta, data) the mean loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dominant import pytrees

Params = Any
Data = Any
Matvec = Callable[[Params], Params]
Curvature = Callable[[Params, Data], Matvec]
LossFn = Callable[[Params, Data], jax.Array]
PredictFn = Callable[[Params, Data], Any]
OutputLossFn = Callable[[Any, Data], jax.Array]

HIGHEST = "highest"

# A context at trace time, so that no global setting of the user is touched.
_matmul_precision = jax.default_matmul_precision


def _of_floats(fn: Callable, params: Params, data: Data) -> tuple[Callable, Params]:
    """Return `fn(., data)` as a function of the params' floating leaves, and those."""
    floats = pytrees.floating(params)
    return lambda x: fn(pytrees.merge(x, params), data), floats


def _as_matvec(product: Matvec, floats: Params, precision: str = HIGHEST) -> Matvec:
    """Let a linear map on the params' own dtypes act on vectors in float32 or wider."""

    def matvec(v: Params) -> Params:
        pytrees.require_same_structure(v, floats, "the vector", "the params")
        with _matmul_precision(precision):
            return pytrees.like(product(pytrees.like(v, floats)), v)

    return matvec


def hvp(loss_fn: LossFn, params: Params, v: Params, data: Data) -> Params:
    """Return H v, H the second derivative of the mean loss.

    Forward over reverse (Pearlmutter 1994). For many products at one `params` use
    `hessian`, which linearizes once.

    Args:
      loss_fn: `(params, data) -> scalar`, the mean over the examples.
      params: where the Hessian is taken.
      v: a tree shaped like params (None at non-floating leaves).
      data: passed on to loss_fn.

    Returns:
      A tree shaped like v.

    Raises:
      ValueError: if v and params differ in structure or shapes.
    """
    loss, floats = _of_floats(loss_fn, params, data)
    gradient = jax.grad(loss)

    def product(tangent: Params) -> Params:
        return jax.jvp(gradient, (floats,), (tangent,))[1]

    return _as_matvec(product, floats)(v)


def hessian(loss_fn: LossFn, *, precision: str = HIGHEST) -> Curvature:
    """Return the curvature H = d^2 L / d theta^2 of `loss_fn(params, data)`.

    Args:
      loss_fn: `(params, data) -> scalar`, the mean over the examples.
      precision: of the matrix products, see the module's text.
    """

    def curvature(params: Params, data: Data) -> Matvec:
        loss, floats = _of_floats(loss_fn, params, data)
        with _matmul_precision(precision):
            _, product = jax.linearize(jax.grad(loss), floats)
        return _as_matvec(product, floats, precision)

    return curvature


def gauss_newton(
    predict_fn: PredictFn, output_loss_fn: OutputLossFn, *, precision: str = HIGHEST
) -> Curvature:
    """Return the generalized Gauss-Newton curvature G = J^T (d^2 l / d f^2) J.

    Positive semi-definite where the loss is convex in the outputs (Schraudolph 2002).

    Args:
      predict_fn: `(params, data) -> outputs`, outputs any tree.
      output_loss_fn: `(outputs, data) -> scalar`, the mean over the examples.
      precision: of the matrix products, see the module's text.
    """

    def curvature(params: Params, data: Data) -> Matvec:
        predict, floats = _of_floats(predict_fn, params, data)
        with _matmul_precision(precision):
            outputs, push = jax.linearize(predict, floats)
            pull = jax.linear_transpose(push, floats)
            _, output_hessian = jax.linearize(
                jax.grad(lambda f: output_loss_fn(f, data)), outputs
            )
        return _as_matvec(lambda v: pull(output_hessian(push(v)))[0], floats, precision)

    return curvature


def functional_hessian(
    predict_fn: PredictFn, output_loss_fn: OutputLossFn, *, precision: str = HIGHEST
) -> Curvature:
    """Return the functional Hessian F = sum_c (d l / d f_c) d^2 f_c / d theta^2.

    The rest of the Hessian, F = H - G, in one product: the Hessian of <c, f(theta)>
    with the output gradient c held fixed.

    Args:
      predict_fn: `(params, data) -> outputs`, outputs any tree.
      output_loss_fn: `(outputs, data) -> scalar`, the mean over the examples.
      precision: of the matrix products, see the module's text.
    """

    def curvature(params: Params, data: Data) -> Matvec:
        predict, floats = _of_floats(predict_fn, params, data)
        with _matmul_precision(precision):
            c = jax.grad(lambda f: output_loss_fn(f, data))(predict(floats))
            _, product = jax.linearize(
                jax.grad(lambda x: pytrees.dot(c, predict(x))), floats
            )
        return _as_matvec(product, floats, precision)

    return curvature


def gradient_second_moment(loss_fn: LossFn, *, precision: str = HIGHEST) -> Curvature:
    """Return Gamma = (1/N) sum_i g_i g_i^T over the examples' gradients g_i.

    With J the Jacobian of the N per-example losses this is J^T J / N. Example i's loss
    is `loss_fn(params, data[i:i+1])`.

    Args:
      loss_fn: `(params, data) -> scalar`, the mean over the examples.
      precision: of the matrix products, see the module's text.
    """

    def curvature(params: Params, data: Data) -> Matvec:
        count = num_examples(data)

        def example_losses(params: Params, data: Data) -> jax.Array:
            one = jax.tree.map(lambda x: jnp.expand_dims(x, 1), data)
            return jax.vmap(loss_fn, (None, 0))(params, one)

        losses, floats = _of_floats(example_losses, params, data)
        with _matmul_precision(precision):
            _, push = jax.linearize(losses, floats)
            pull = jax.linear_transpose(push, floats)
        return _as_matvec(lambda v: pull(push(v) / count)[0], floats, precision)

    return curvature


def num_examples(data: Data) -> int:
    """Return N, the length of the leading axis that the data's leaves share.

    Raises:
      ValueError: if they disagree on it, have none, or N is 0.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            "the data's leaves must share a leading axis of examples, "
            f"got leading sizes {sorted(sizes)}."
        )
    return next(iter(sizes))[0]
