"""Parts of a network's params that have a curvature, and outliers, of their own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.data import Mixture

Select = Callable[[Any, Any], bool]


class Block(NamedTuple):
    """A part of the params.

    select: `(path, leaf) -> bool`, as of `dominant.restrict`. by_row: whether each row
    of the leaf is a block of its own, such as a neuron's. num_outliers: how many
    eigenvalues a theory expects outside the bulk; None: the config's `subspace.k`.
    """

    select: Select
    by_row: bool = False
    num_outliers: int | None = None


def of_model(
    model: str, mixture: Mixture | None, init: Callable[[jax.Array], Any]
) -> dict[str, Block]:
    """Return the rows and the output of a shallow network on a mixture; else layers."""
    if mixture is not None and model in SHALLOW:
        return {name: block(mixture) for name, block in SHALLOW[model].items()}
    return {name: Block(_layer(name)) for name in layers(init)}


def layers(init: Callable[[jax.Array], Any]) -> list[str]:
    """Return the names of a network's layers, in their order."""
    params = jax.eval_shape(init, jax.random.key(0))
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return list(dict.fromkeys(map(layer_of, paths)))


def layer_of(path: Any) -> str:
    """Return the name of the layer that a leaf belongs to: it and its siblings.

    A leaf without siblings, at the top of the tree, is one by itself.
    """
    return ".".join(part.key for part in path[:-1] or path)


def _layer(name: str) -> Select:
    return lambda path, _: layer_of(path) == name


def _leaf(name: str) -> Select:
    return lambda path, _: path[0].key == name


def _rows(name: str) -> Callable[[Mixture], Block]:
    """Each row acts on the inputs: an outlier for each dimension of the means' span."""

    def block(mixture: Mixture) -> Block:
        return Block(_leaf(name), by_row=True, num_outliers=len(mixture.span))

    return block


def _output(mixture: Mixture) -> Block:
    """Return the output layer's block, with an outlier for each component."""
    return Block(_leaf("output"), num_outliers=len(mixture.means))


SHALLOW: dict[str, dict[str, Callable[[Mixture], Block]]] = {
    "linear": {"classes": _rows("classes")},
    "two_layer": {"hidden": _rows("hidden"), "output": _output},
}
"""The blocks of the models that have a theory."""
