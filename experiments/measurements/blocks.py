"""Each block of the params beside the outliers of its own curvature.

The matrices are M = H and Gamma, the Hessian of the loss and the second moment of the
examples' gradients, of the outputs' loss alone (a ridge adds the same to all of H's
eigenvalues), on the test set and on the training set; M_b is their diagonal block b.
E_k is the span of the leading k eigenvectors of M_b, k the block's `num_outliers`
(Ben Arous et al., 2023, arXiv:2310.03010, where they are those of the largest
|eigenvalue|: another space only where a block has large negative ones).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import dominant
from experiments import optimizers
from experiments.measurements.record import Metrics, Record, Setting
from experiments.names import lookup
from experiments.tasks import Task

MATRICES = {
    "hessian": dominant.hessian,
    "second_moment": dominant.gradient_second_moment,
}
SPLITS = ("test", "train")

LARGEST_DENSE = 128
"""Blocks of at most so many parameters are decomposed as dense matrices."""

_TOL = 1e-3


def blocks(record: Record, setting: Setting) -> Metrics:
    """The outliers of each block, and how much of it lies in them.

    Of each block b, each matrix and each set of examples, with a leading axis where
    there is a block a row:

    - eigenvalues, the leading k + `blocks.num_more` of M_b, next_eigenvalue, and the
      largest residual over the first eigenvalue;
    - norm |theta_b|, alignment |P_{E_k} theta_b| / |theta_b|, alignment_first with the
      first eigenvector alone, and alignment_gradient, that of the full loss' gradient;
    - of rows in_span, |P_S u_i|^2 of each eigenvector, S the span of the mixture's
      means, and of the first row with_means, <u_i, mu_a>^2 / |mu_a|^2, [m, components];
    - overlap |U_H^T U_Gamma|_F^2 / k of both matrices' E_k.

    Blocks of up to 128 parameters are decomposed densely, larger ones by Lanczos to a
    relative residual of 1e-3: some 2 k to 10 k products, those of all rows at once.
    """
    # Small products of ours, which a GPU would round to TF32.
    with jax.default_matmul_precision("highest"):
        return _of_all(record, setting)


def _of_all(record: Record, setting: Setting) -> Metrics:
    metrics: Metrics = {}
    chosen = setting.config.blocks
    for name in chosen.names or setting.task.blocks:
        for split in chosen.splits:
            bases = []
            for matrix in chosen.matrices:
                found, basis = _measured(record, setting, name, matrix, split)
                metrics |= {
                    f"blocks/{name}_{matrix}_{split}_{key}": value
                    for key, value in found.items()
                }
                bases.append(basis)
            if len(bases) == 2:
                by_row = setting.task.blocks[name].by_row
                of_spaces = jax.vmap(_overlap) if by_row else _overlap
                metrics[f"blocks/{name}_{split}_overlap"] = of_spaces(*bases)
    return metrics


def check(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raise ValueError for blocks, matrices or examples that there are not."""
    chosen = config.blocks
    if not task.blocks:
        raise ValueError("measure.blocks: this network has no blocks.")
    if task.source is not None:
        raise ValueError("measure.blocks needs examples in device memory.")
    if chosen.num_more < 0:
        raise ValueError(f"blocks.num_more must be at least 0, got {chosen.num_more}.")
    for name in chosen.names:
        lookup("block", name, task.blocks)
    for name in chosen.matrices:
        lookup("blocks.matrices", name, MATRICES)
    for name in chosen.splits:
        lookup("blocks.splits", name, dict.fromkeys(SPLITS))
    if "test" in chosen.splits and task.test is None:
        raise ValueError("blocks.splits has 'test', and this task has no test set.")


def _measured(
    record: Record, setting: Setting, name: str, matrix: str, split: str
) -> tuple[Metrics, Any]:
    """Return what is said of a block or of each of its rows, and E_k's basis."""
    block = setting.task.blocks[name]
    curvature, data = _restricted(setting, name, matrix, split)
    k = block.num_outliers or setting.config.subspace.k

    def of(one: dominant.Curvature) -> tuple[Metrics, Any]:
        theta = dominant.domain(one, record.params)
        k_of_one = min(k, optax.tree.size(theta))
        num = min(k_of_one + setting.config.blocks.num_more, optax.tree.size(theta))
        top = _top(one(record.params, data), theta, num)
        outliers = jax.tree.map(lambda b: b[:k_of_one], top.basis)
        along = _coefficients(outliers, theta)
        gradient = dominant.domain(one, record.gradient)
        of_gradient = _coefficients(outliers, gradient)
        norm, largest = optax.tree.norm(theta), jnp.abs(top.eigenvalues[0])
        metrics = {
            "eigenvalues": top.eigenvalues,
            "next_eigenvalue": top.next_eigenvalue,
            "residual": _over(jnp.max(top.residuals), largest),
            "norm": norm,
            "alignment": _over(jnp.linalg.norm(along), norm),
            "alignment_first": _over(jnp.abs(along[0]), norm),
            "alignment_gradient": _over(
                jnp.linalg.norm(of_gradient), optax.tree.norm(gradient)
            ),
        }
        if block.by_row:
            metrics |= _beside_means(setting, top.basis)
        return metrics, outliers

    if not block.by_row:
        return of(curvature)
    (leaf,) = jax.tree.leaves(dominant.domain(curvature, record.params))
    rows = jnp.arange(len(leaf))
    metrics, outliers = jax.vmap(lambda i: of(dominant.row_of(curvature, i)))(rows)
    return metrics | {"with_means": metrics["with_means"][0]}, outliers


def _restricted(
    setting: Setting, name: str, matrix: str, split: str
) -> tuple[dominant.Curvature, Any]:
    """Return the curvature of a block, of all its rows, and the examples."""
    data = setting.test if split == "test" else setting.train
    curvature = optimizers.in_chunks(
        setting.config,
        MATRICES[matrix](setting.task.data_loss_fn),
        jax.tree.leaves(data)[0].shape[0],
    )
    return dominant.restrict(curvature, setting.task.blocks[name].select), data


def row_or_block(record: Record, setting: Setting) -> tuple[dominant.Matvec, Any]:
    """Return the products with the Hessian of the first block, and its params.

    Of the blocks that are looked at; of its rows, if it has any, the first; on the
    first of the sets of examples.
    """
    chosen = setting.config.blocks
    name = next(iter(chosen.names or setting.task.blocks))
    curvature, data = _restricted(setting, name, "hessian", chosen.splits[0])
    if setting.task.blocks[name].by_row:
        curvature = dominant.row_of(curvature, 0)
    matvec = curvature(record.params, data)
    return matvec, dominant.domain(curvature, record.params)


def _over(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Return part / whole, 0 for 0 / 0, as `dominant.alignment` does."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


class _Top(NamedTuple):
    """Leading eigenpairs: eigenvalues [m], a basis with leading axis m, residuals.

    next_eigenvalue: lambda_{m+1}, NaN if there is none.
    """

    eigenvalues: jax.Array
    basis: Any
    residuals: jax.Array
    next_eigenvalue: jax.Array


def _top(matvec: dominant.Matvec, like: Any, num: int) -> _Top:
    size = optax.tree.size(like)
    if size > LARGEST_DENSE:
        found = dominant.top_eigenspace(matvec, like, num, tol=_TOL)
        return _Top(
            found.eigenvalues, found.basis, found.residuals, found.next_eigenvalue
        )
    _, unflatten = ravel_pytree(like)
    # One column after the other: a product each, whatever the memory.
    columns = jax.lax.map(
        lambda v: ravel_pytree(matvec(unflatten(v)))[0], jnp.eye(size)
    )
    values, vectors = jnp.linalg.eigh((columns + columns.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1][:, :num]
    errors = columns @ vectors - vectors * values[:num]
    return _Top(
        values[:num],
        jax.vmap(unflatten)(vectors.T),
        jnp.linalg.norm(errors, axis=0),
        values[num] if num < size else jnp.full((), jnp.nan),
    )


def _coefficients(basis: Any, vector: Any) -> jax.Array:
    """Return <b_i, v> of each vector of a basis."""
    return jax.vmap(lambda b: optax.tree.vdot(b, vector))(basis)


def _overlap(a: Any, b: Any) -> jax.Array:
    """Return |A^T B|_F^2 / k of two orthonormal bases."""
    products = jax.vmap(lambda v: _coefficients(a, v))(b)
    return jnp.sum(products**2) / len(products)


def _beside_means(setting: Setting, basis: Any) -> Metrics:
    """Return |P_S u_i|^2 and <u_i, mu_a>^2 / |mu_a|^2 of each vector of a row."""
    assert setting.task.mixture is not None  # no other task has rows
    means = setting.task.mixture.means
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    (vectors,) = jax.tree.leaves(basis)
    return {
        "in_span": jnp.sum((vectors @ setting.task.mixture.span.T) ** 2, axis=-1),
        "with_means": (vectors @ units.T) ** 2,
    }


def components(record: Record, setting: Setting) -> Metrics:
    """The margin at each mean of a mixture: its label's output less the largest other.

    Positive where the component is told right. Of two layers and two classes it is
    +-f(mu_a), the log-odds of the right class.
    """
    mixture = setting.task.mixture
    assert mixture is not None
    outputs = setting.task.predict_fn(record.params, {"inputs": mixture.means})
    right = jax.nn.one_hot(mixture.labels, outputs.shape[-1], dtype=bool)
    others = jnp.max(jnp.where(right, -jnp.inf, outputs), axis=-1)
    of_right = jnp.sum(jnp.where(right, outputs, 0), axis=-1)
    return {"components/margin": of_right - others}
