"""Mini-batches of, and passes over, data that do not fit in device memory.

A `Source` reads any examples by their indices, from arrays in host memory or from disk.
`batches` is what stochastic gradients take, `chunks` with `weighted_mean` what exact
full gradients and curvature products take:

    train = images.open_source("cifar10", "train", standardize=True)
    gradient = weighted_mean(lambda chunk: grad(params, chunk), chunks(train, 1000))

with `grad = jax.jit(jax.grad(loss_fn))`. A ragged last chunk compiles it a second time.
The dominant eigenspace of a Hessian over all the data, one pass for up to k products:

    @jax.jit
    def products(params, block, chunk):
        return jax.vmap(dominant.hessian(loss_fn)(params, chunk))(block)

    steps = dominant.eigenspace_steps(k, block_size=k)
    state = steps.init(params)
    while not state.done:
        state, block = steps.propose(state)
        streamed = weighted_mean(
            lambda chunk: products(params, block, chunk), chunks(train, 1000)
        )
        state = steps.absorb(state, streamed)
    subspace = steps.finish(state)
"""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import grain
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.splits import Data

Tree = TypeVar("Tree")
Example = TypeVar("Example")

_ORDER_STREAM = 1
"""What the seed's key is folded with, as the initial parameters come from the key."""


class Source(NamedTuple):
    """Examples in a fixed order, read at random. Has to be safe to read from threads.

    num_examples: how many there are, N.
    read: from indices [M] in 0 .. N - 1, an integer array, to these examples in that
      order, their leading axis of length M.
    """

    num_examples: int
    read: Callable[[np.ndarray], Data]


def from_arrays(data: Data) -> Source:
    """Return a source of examples that are in host memory.

    Raises:
      ValueError: the arrays do not share a leading axis.
    """
    counts = {len(array) for array in data.values()}
    if len(counts) != 1:
        raise ValueError(
            f"arrays must share their leading axis, got lengths {sorted(counts)}"
        )
    return Source(
        num_examples=counts.pop(),
        read=lambda indices: {key: array[indices] for key, array in data.items()},
    )


def from_examples(
    examples: Sequence[Example], collate: Callable[[Sequence[Example]], Data]
) -> Source:
    """Return a source of examples that are read, decoded and collated when asked for.

    Args:
      examples: random access, `len(examples)` and `examples[i]`: a data source of
        TensorFlow Datasets or of grain, or a list. Where it has `__getitems__`, which
        takes many indices and is several times faster, that is called.
      collate: from M examples to arrays with a leading axis of length M; each must
        come out the same whatever the others are.
    """

    def one_by_one(indices: Sequence[int]) -> Sequence[Example]:
        return [examples[index] for index in indices]

    many = getattr(examples, "__getitems__", one_by_one)
    return Source(
        num_examples=len(examples),
        read=lambda indices: collate(many(indices.tolist())),
    )


def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Return the order of the examples in an epoch, a permutation [N] of 0 .. N - 1.

    It is `jax.random.permutation` under the seed's key folded with 1 and the epoch: the
    order in which `experiments.train` takes data that are in device memory. So the same
    seed gives the same mini-batches, streamed or not.
    """
    key = jax.random.fold_in(jax.random.key(seed), _ORDER_STREAM)
    key = jax.random.fold_in(key, epoch)
    return np.asarray(jax.random.permutation(key, num_examples))


def batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    epoch_shuffle: bool = True,
    start_step: int = 0,
    prefetch: int = 2,
) -> grain.DatasetIterator[Data]:
    """Return an endless iterator over mini-batches without replacement.

    An epoch takes the examples in the order of `epoch_order`; what is left over at its
    end, less than one batch, is skipped. The batch of a step is a function of source,
    batch size, seed and step alone: starting at a step gives what an iterator from 0
    gives there, bit for bit. The position is that of the next batch to come out,
    whatever has been read ahead: `get_state()` returns it as `{"next_index": step}`,
    `set_state` takes that back.

    Args:
      source: the examples.
      batch_size: B, the length of each batch's leading axis.
      seed: of the orders.
      epoch_shuffle: whether each epoch has an order of its own; else all have the
        source's.
      start_step: the first batch to come out, 0 is the first of the first epoch.
      prefetch: how many batches to read ahead, each in a thread; 0: read when asked.

    Raises:
      ValueError: the batch size is not in 1 .. N, or the step or prefetch is negative.
    """
    if not 0 < batch_size <= source.num_examples:
        raise ValueError(
            f"batch_size must be between 1 and the {source.num_examples} examples, "
            f"got {batch_size}"
        )
    if start_step < 0:
        raise ValueError(f"start_step must be at least 0, got {start_step}")
    steps_per_epoch = source.num_examples // batch_size

    # Of the two epochs that reading ahead may straddle.
    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        if not epoch_shuffle:
            return np.arange(source.num_examples)
        return epoch_order(seed, epoch, source.num_examples)

    def batch_at(step: int) -> Data:
        epoch, position = divmod(step, steps_per_epoch)
        start = position * batch_size
        return source.read(order(epoch)[start : start + batch_size])

    iterator = _read_ahead(batch_at, sys.maxsize, prefetch)
    grain.experimental.set_next_index(iterator, start_step)
    return iterator


def chunks(
    source: Source, chunk_size: int, *, prefetch: int = 2
) -> grain.DatasetIterator[Data]:
    """Return an iterator over one pass through all the data, in the source's order.

    Args:
      source: the examples.
      chunk_size: examples a chunk; the last one has the remainder.
      prefetch: how many chunks to read ahead, each in a thread; 0: read when asked.

    Raises:
      ValueError: the chunk size is not positive, or prefetch is negative.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")

    def chunk_at(index: int) -> Data:
        start = index * chunk_size
        stop = min(start + chunk_size, source.num_examples)
        return source.read(np.arange(start, stop))

    return _read_ahead(chunk_at, -(-source.num_examples // chunk_size), prefetch)


def weighted_mean(function: Callable[[Data], Tree], chunks: Iterable[Data]) -> Tree:
    """Return sum_c (N_c / N) f(chunk c), N_c the number of examples in chunk c.

    For a function that is a mean over examples (a loss, its gradient, a curvature
    product) that is its value on all N, up to the rounding of the sums, however the
    data are cut. The sums are in float32, or wider where the values are.

    Args:
      function: from a chunk to a tree of arrays, of the same structure for all chunks.
      chunks: data with a leading axis of examples, at least one chunk.

    Raises:
      ValueError: there is no chunk.
    """
    num_examples, total = 0, None
    for chunk in chunks:
        count = len(jax.tree.leaves(chunk)[0])
        value = function(chunk)
        total = _blank(value) if total is None else total
        total = _add(total, value, float(count))
        num_examples += count
    if total is None:
        raise ValueError("a mean needs at least one chunk")
    return jax.tree.map(lambda leaf: leaf / num_examples, total)


def _blank(value: Any) -> Any:
    def zeros(leaf: Any) -> jax.Array:
        dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
        return jnp.zeros_like(leaf, dtype=dtype)

    return jax.tree.map(zeros, value)


# Donated, so that the sum is held once.
@functools.partial(jax.jit, donate_argnums=0)
def _add(total: Any, value: Any, weight: jax.Array) -> Any:
    def add(total: jax.Array, value: Any) -> jax.Array:
        return total + weight.astype(total.dtype) * jnp.asarray(value, total.dtype)

    return jax.tree.map(add, total, value)


def _read_ahead(
    read: Callable[[int], Data], count: int, prefetch: int
) -> grain.DatasetIterator[Data]:
    """Return an iterator over read(0) .. read(count - 1), in this order."""
    if prefetch < 0:
        raise ValueError(f"prefetch must be at least 0, got {prefetch}")
    options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
    indices = grain.MapDataset.range(count)
    return iter(indices.map(read).to_iter_dataset(options))
