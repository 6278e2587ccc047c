"""A basis without curvature products: the principal components of recent updates.

    inner = optax.chain(optimizer, remember(50), bulk_project())
    tx = track_subspace(inner, second_moment, k, refresh=every(50))
    ... tx.update(gradients, state, params, curvature_data=latest(state))

The leading eigenvectors of the updates' second moment are their principal components,
without a mean removed. What they have to do with the Hessian's is a matter of the
gradient noise: docs/curvature.md.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dominant import pytrees
from dominant.curvature import Data, Matvec, Params, num_examples


class RememberState(NamedTuple):
    """State of `remember`.

    latest: a tree like the params with a leading axis, the latest updates in no
      particular order; zeros until so many have passed.
    num_updates: int32 scalar, the updates so far.
    """

    latest: Any
    num_updates: jax.Array


def remember(num: int) -> optax.GradientTransformationExtraArgs:
    """Pass updates on as they are, and keep the latest `num` of them in the state.

    Until so many have passed, zeros stand for those that are missing, and count in
    their second moment: its eigenvalues are too small then, its eigenvectors right.

    Costs the memory of `num` copies of the params, in float32 or wider. It remembers
    what passes by where it stands: before a projection, the whole updates.

    Args:
      num: how many.

    Raises:
      ValueError: if num < 1.
    """
    if num < 1:
        raise ValueError(f"remember needs num >= 1, got {num}.")

    def init(params: Any) -> RememberState:
        zeros = pytrees.zero_block(pytrees.floating(params), num)
        return RememberState(zeros, jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: RememberState, params: Any = None, **extra: Any
    ) -> tuple[Any, RememberState]:
        del params, extra
        at = state.num_updates % num
        kept = pytrees.with_row(state.latest, at, pytrees.floating(updates))
        return updates, RememberState(kept, optax.safe_increment(state.num_updates))

    return optax.GradientTransformationExtraArgs(init, update)


def latest(state: Any) -> Params:
    """Return the updates that the one `remember` in an optimizer's state has kept.

    Args:
      state: of any transformation with `remember` somewhere inside.

    Raises:
      ValueError: if there is none, or there are several.
    """

    def is_one(node: Any) -> bool:
        return isinstance(node, RememberState)

    states = [s for s in jax.tree.leaves(state, is_leaf=is_one) if is_one(s)]
    if len(states) != 1:
        raise ValueError(
            "latest needs the state of an optimizer with one `remember`, got "
            f"{len(states)}."
        )
    return states[0].latest


def second_moment(params: Params, data: Data) -> Matvec:
    """The curvature (1/m) sum_i a_i a_i^T of vectors a_1 .. a_m: not one of a loss.

    A product costs two passes over the vectors, and no derivative. Its rank is at most
    m: with fewer vectors than k the last eigenvalues are 0, their vectors arbitrary.

    Args:
      params: not read.
      data: the vectors, a tree like the params with a leading axis of length m.

    Raises:
      ValueError: if the data's leaves disagree on m.
    """
    del params
    num = num_examples(data)

    def matvec(v: Params) -> Params:
        one = pytrees.row(data, 0)
        pytrees.require_same_structure(v, one, "the vector", "each of the vectors")
        product = pytrees.combine(data, pytrees.coefficients(data, v) / num)
        return pytrees.like(product, v)

    return matvec
