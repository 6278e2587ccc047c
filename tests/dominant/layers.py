"""A network of two layers, and the blocks of its Hessian."""

import dominant
from tests.dominant import networks, zoo

NETWORK = "tanh-softmax"
PROBLEM = networks.network(NETWORK)
HESSIAN = dominant.hessian(PROBLEM.loss_fn)
SIZES = [
    sum(leaf.size for leaf in layer.values()) for layer in PROBLEM.params["layers"]
]
BLOCKS = (slice(0, SIZES[0]), slice(SIZES[0], sum(SIZES)))  # of the two layers


def layer(index):
    return lambda path, leaf: path[1].idx == index


def given(dtype):
    return zoo.cast(PROBLEM.params, dtype), zoo.cast(PROBLEM.data, dtype)
