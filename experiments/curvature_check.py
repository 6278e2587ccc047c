"""A check of a network's Hessian before anything is measured with it.

Some operations have a gradient and yet no derivative of it, or a wrong one: fused
kernels, rules written by hand. Training does not notice; eigenvalues do.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dominant
from dominant import pytrees

LossFn = Callable[[Any, Any], jax.Array]

# Of the difference, relative to the parameters. The short ones are for ReLU networks:
# no unit should switch within the step. The long ones are for those that compute
# something in float32 whatever the parameters are.
_STEPS = (1e-2, 1e-4, 1e-7, 1e-10)

# How far from the given parameters, relative to them, the check is made: initial biases
# and scales of zero can put units exactly where ReLU has no derivative.
_DISPLACEMENT = 1e-2

# |H v| is not resolved below this multiple of |g|, v being relative to the parameters.
_FLOOR = 1e-3

_FIX = (
    "A likely cause is a fused kernel, such as cuDNN's or flash attention, or another "
    "function with a rule written by hand (jax.custom_vjp, jax.custom_jvp). Use plain "
    "operations in the loss whose curvature is taken; for attention, "
    'jax.nn.dot_product_attention(..., implementation="xla") or einsum and softmax.'
)


class CurvatureError(RuntimeError):
    """Products with the Hessian of a loss fail, or are not its second derivative."""


def check_products(
    loss_fn: LossFn,
    params: Any,
    data: Any,
    *,
    key: jax.Array | None = None,
    rtol: float = 0.02,
) -> float:
    """Compare a Hessian-vector product with a difference of gradients.

    The product H v is `dominant.hvp`'s, forward over reverse, in the parameters' own
    type. The difference is (g(theta + h v) - g(theta - h v)) / (2 h) in float64, at
    four steps h, of which the one that agrees best counts: a wrong product agrees at
    none. theta is drawn from within about 1 % of `params`, v is normal, and in both,
    as in the norms, each leaf is measured by its own root mean square.

    Correct networks come to 1e-5 or less, or 1e-2 if a unit's sign is another one in
    float32. Float64 is what lets those with ReLU or max-pools pass: a difference also
    sees each unit that switches within the step, and float32 has no step so short that
    none of 10^5 does. It is on for the check only. A ReLU network that at some place
    computes in float32 all the same can fail on many examples; give it few.

    The cost is a product, eight gradients and two compilations: use a few examples. Let
    running statistics of BatchNorm come with `data`, so that they are widened as well.

    Args:
      loss_fn: `(params, data) -> scalar`, twice differentiable almost everywhere.
      params: where to check, say the initial ones; float32 or wider.
      data: passed on to loss_fn.
      key: draws theta and v; None: `jax.random.key(0)`.
      rtol: largest |H v - difference| / max(|H v|, |difference|, 1e-3 |g|) that passes.

    Returns:
      That ratio.

    Raises:
      CurvatureError: the product cannot be computed, is not finite, or differs.
    """
    point, direction, scales = _draw(
        jax.random.key(0) if key is None else key, pytrees.floating(params)
    )
    product = _product(loss_fn, pytrees.merge(point, params), direction, data)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        gradient = jax.jit(functools.partial(_gradient, loss_fn))
        ends = functools.partial(gradient, params, data, point, direction)
        comparisons = [
            _compare(product, ends(step), ends(-step), step, scales) for step in _STEPS
        ]
    best = min(comparisons, key=_Comparison.ratio)
    ratio = best.ratio()
    if ratio <= rtol:
        return ratio
    path, share = best.worst_leaf()
    raise CurvatureError(
        f"the product with the Hessian differs by {ratio:.2g} from the difference of "
        f"gradients, relative to the larger one; {rtol:g} is accepted. Their norms are "
        f"{_norm(best.product):.3g} and {_norm(best.difference):.3g}; {share:.0%} of "
        f"the squared error is at {path}. {_FIX} If there are many ReLU units and "
        "computations in float32, try fewer examples first."
    )


class _Comparison(NamedTuple):
    """Squared norms, leaf by leaf, in trees like the params."""

    error: Any
    product: Any
    difference: Any
    gradient: Any

    def ratio(self) -> float:
        """Return |error| over the larger of what is compared; inf if not finite."""
        floor = _FLOOR * _norm(self.gradient)
        scale = max(_norm(self.product), _norm(self.difference), floor)
        ratio = _norm(self.error) / scale if scale else 0.0
        return ratio if math.isfinite(ratio) else math.inf

    def worst_leaf(self) -> tuple[str, float]:
        """Return the path of the leaf with the largest error, and its share."""
        errors = jax.tree_util.tree_leaves_with_path(self.error)
        path, largest = max(errors, key=lambda item: float(item[1]))
        share = float(largest) / _norm(self.error) ** 2
        return jax.tree_util.keystr(path), share


def _gradient(
    loss_fn: LossFn, params: Any, data: Any, point: Any, direction: Any, step: float
) -> Any:
    """Return the gradient at point + step direction, in float64."""
    moved = jax.tree.map(lambda p, v: p + step * v, *map(_float64, (point, direction)))
    wide = pytrees.merge(_float64(pytrees.floating(data)), data)
    return jax.grad(lambda p: loss_fn(pytrees.merge(p, params), wide))(moved)


def _float64(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


@jax.jit
def _compare(product: Any, up: Any, down: Any, step: float, scales: Any) -> _Comparison:
    """Compare H v with the difference of the gradients at theta ± h v."""

    def squares(tree: Any) -> Any:
        return jax.tree.map(lambda x, s: jnp.sum((s * x) ** 2), tree, scales)

    difference = jax.tree.map(lambda a, b: (a - b) / (2 * step), up, down)
    error = jax.tree.map(jnp.subtract, product, difference)
    return _Comparison(*map(squares, (error, product, difference, up)))


def _norm(squares: Any) -> float:
    """Return the root of the sum of all leaves."""
    return math.sqrt(sum(map(float, jax.tree.leaves(squares))))


def _product(loss_fn: LossFn, params: Any, direction: Any, data: Any) -> Any:
    """Return H v, or say why there is none."""

    @jax.jit
    def product_and_finite(params: Any, direction: Any, data: Any) -> tuple[Any, Any]:
        product = dominant.hvp(loss_fn, params, direction, data)
        return product, jax.tree.map(lambda x: jnp.isfinite(x).all(), product)

    try:
        product, finite = product_and_finite(params, direction, data)
    except Exception as error:
        raise CurvatureError(
            "the product with the Hessian (jax.jvp of jax.grad of the loss) cannot be "
            f"computed: {type(error).__name__}: {error}\n{_FIX}"
        ) from error
    for path, is_finite in jax.tree_util.tree_leaves_with_path(finite):
        if not is_finite:
            raise CurvatureError(
                "the product with the Hessian is not finite at "
                f"{jax.tree_util.keystr(path)}. A likely cause is an operation without "
                "a second derivative there, such as the square root or a norm at 0."
            )
    return product


@jax.jit
def _draw(key: jax.Array, floats: Any) -> tuple[Any, Any, Any]:
    """Return a point near `floats`, a direction, and each leaf's scale.

    The scale is the leaf's root mean square; of zeros, the smallest of the others.
    """
    leaves, structure = jax.tree.flatten(floats)
    sizes = jnp.stack([jnp.sqrt(jnp.mean(jnp.square(leaf))) for leaf in leaves])
    smallest = jnp.min(jnp.where(sizes > 0, sizes, jnp.inf))
    sizes = jnp.where(sizes > 0, sizes, jnp.where(smallest < jnp.inf, smallest, 1))
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    normal = jax.random.normal(key, (2, ends[-1]))  # at once: it compiles faster

    def scaled(numbers: jax.Array) -> Any:
        parts = jnp.split(numbers, ends[:-1])
        shaped = [
            (size * part.reshape(leaf.shape)).astype(leaf.dtype)
            for size, part, leaf in zip(sizes, parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, shaped)

    away, direction = map(scaled, normal)
    point = jax.tree.map(lambda x, a: x + _DISPLACEMENT * a, floats, away)
    return point, direction, jax.tree.unflatten(structure, list(sizes))
