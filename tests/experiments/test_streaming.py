"""Batches against index arithmetic, sums over chunks against the data in memory."""

import itertools
import json
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import data, losses, models, steps
from experiments.data import images, streaming

NUM_EXAMPLES, BATCH_SIZE, STEPS_PER_EPOCH = 11, 3, 3


def numbered():
    """Examples that tell their index."""
    return streaming.from_arrays({"inputs": np.arange(NUM_EXAMPLES)})


def slow():
    """The same, the later ones read faster."""

    def collate(examples):
        time.sleep(2e-3 / (1 + examples[0]))
        return {"inputs": np.stack(examples)}

    return streaming.from_examples(range(NUM_EXAMPLES), collate)


def take(iterator, count):
    return [batch["inputs"].tolist() for batch in itertools.islice(iterator, count)]


def test_an_epoch_is_without_replacement_and_skips_the_remainder():
    found = take(streaming.batches(numbered(), BATCH_SIZE, seed=0), 60)
    epochs = np.reshape(found, (20, STEPS_PER_EPOCH * BATCH_SIZE))
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 20
    # What one epoch skips is in another.
    assert set(epochs.flat) == set(range(NUM_EXAMPLES))


def test_the_order_is_that_of_training_in_memory():
    optimizer = SimpleNamespace(name="sgd")
    config = SimpleNamespace(seeds=1, batch_size=BATCH_SIZE, optimizer=optimizer)
    task = SimpleNamespace(num_train=NUM_EXAMPLES, sample=None, source=None)
    train = {"inputs": jnp.arange(NUM_EXAMPLES)}

    @jax.jit
    def next_batch(state):
        state = steps.with_epoch_order(config, task, state)
        batch = steps.next_batch(config, task, state, train)
        return state._replace(step=state.step + 1), batch["inputs"]

    state = steps.TrainState(
        seed=jnp.int32(5),
        step=jnp.int32(0),
        params=None,
        model_state=(),
        opt_state=None,
        order=jnp.zeros(NUM_EXAMPLES, jnp.int32),
        memories={},
        diverged_at=jnp.int32(0),
    )
    expected = []
    for _ in range(3 * STEPS_PER_EPOCH):
        state, batch = next_batch(state)
        expected.append(batch.tolist())
    streamed = streaming.batches(numbered(), BATCH_SIZE, seed=5)
    assert take(streamed, len(expected)) == expected


def test_runs_differ_by_seed():
    """No epoch of one seed's is an epoch of another's, as seed + epoch would give."""
    epochs = [
        tuple(streaming.epoch_order(seed, epoch, 50).tolist())
        for seed in range(4)
        for epoch in range(4)
    ]
    assert len(set(epochs)) == 16


def test_without_shuffling_each_epoch_is_in_order():
    ordered = streaming.batches(numbered(), BATCH_SIZE, seed=0, epoch_shuffle=False)
    assert take(ordered, 4) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 2]]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("source", [numbered, slow])
def test_resuming_at_any_step_gives_the_same_batches(source, prefetch):
    options = {"seed": 1, "prefetch": prefetch}
    expected = take(streaming.batches(numbered(), BATCH_SIZE, seed=1, prefetch=0), 12)
    killed = streaming.batches(source(), BATCH_SIZE, **options)
    for step in range(8):
        position = json.loads(json.dumps(killed.get_state()))
        assert position == {"next_index": step}
        resumed = streaming.batches(source(), BATCH_SIZE, **options, start_step=step)
        assert take(resumed, 4) == expected[step : step + 4]
        # An iterator that has been elsewhere.
        resumed.set_state(position)
        assert take(resumed, 4) == expected[step : step + 4]
        assert take(killed, 1) == [expected[step]]


def test_one_batch_may_hold_all():
    found = take(streaming.batches(numbered(), NUM_EXAMPLES, seed=0), 2)
    assert sorted(found[0]) == sorted(found[1]) == list(range(NUM_EXAMPLES))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be between 1 and the 11 .* got 0"),
        ({"batch_size": 12}, "batch_size must be between 1 and the 11 .* got 12"),
        ({"batch_size": 3, "start_step": -1}, "start_step must be .* got -1"),
        ({"batch_size": 3, "prefetch": -1}, "prefetch must be .* got -1"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        streaming.batches(numbered(), seed=0, **options)


@pytest.mark.parametrize("source", [numbered, slow])
@pytest.mark.parametrize("chunk_size", [1, 4, 11, 100])
def test_chunks_are_one_pass_in_order(source, chunk_size):
    found = take(streaming.chunks(source(), chunk_size), None)
    assert list(itertools.chain(*found)) == list(range(NUM_EXAMPLES))
    assert {len(chunk) for chunk in found[:-1]} <= {chunk_size}
    assert len(found) == -(-NUM_EXAMPLES // chunk_size)


def test_impossible_sources_and_chunks_are_refused():
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        streaming.chunks(numbered(), 0)
    with pytest.raises(ValueError, match=r"leading axis, got lengths \[2, 3\]"):
        streaming.from_arrays({"inputs": np.zeros(2), "labels": np.zeros(3)})
    with pytest.raises(ValueError, match="at least one chunk"):
        streaming.weighted_mean(lambda chunk: chunk, [])


def test_a_failing_read_is_not_lost():
    def collate(examples):
        if 7 in examples:
            raise OSError("damaged file")
        return {"inputs": np.stack(examples)}

    source = streaming.from_examples(range(NUM_EXAMPLES), collate)
    with pytest.raises(OSError, match="damaged file"):
        take(streaming.chunks(source, 2), None)


def test_means_of_trees_are_weighted_and_wide():
    parts = [np.arange(3), np.arange(3, 8), np.array([100])]
    found = streaming.weighted_mean(
        lambda chunk: {
            "mean": chunk["x"].mean(),
            "narrow": jnp.asarray(chunk["x"].mean(), jnp.bfloat16),
            "last": (np.int32(chunk["x"][-1]), None),
        },
        [{"x": part} for part in parts],
    )
    np.testing.assert_allclose(found["mean"], (28 + 100) / 9, rtol=1e-6)
    # All three means, 1, 5 and 100, are exact in bfloat16; theirs is not.
    assert found["narrow"].dtype == jnp.float32
    np.testing.assert_allclose(found["narrow"], (28 + 100) / 9, rtol=1e-6)
    np.testing.assert_allclose(found["last"][0], (3 * 2 + 5 * 7 + 100) / 9, rtol=1e-6)


class Network:
    """A tiny MLP with its data, in memory and as ragged chunks of 7, 7, 7 and 2."""

    def __init__(self):
        rng = np.random.default_rng(0)
        # Two eigenvalues of the Hessian stand out.
        inputs = (rng.standard_normal((23, 6)) + 2) * np.array([3, 3, 1, 1, 1, 1])
        self.data = {
            "inputs": inputs.astype(np.float32),
            "labels": rng.integers(0, 3, size=23).astype(np.int32),
        }
        self.source = streaming.from_arrays(self.data)
        model = models.mlp((6, 5, 3), "tanh", "pytorch")
        self.params = model.init(jax.random.key(0))
        output_loss = losses.OUTPUT_LOSSES["cross_entropy"]

        def loss_fn(params, data):
            return output_loss(model.apply(params, data["inputs"]), data)

        self.loss_fn = loss_fn

    def chunks(self):
        return streaming.chunks(self.source, 7)


@pytest.fixture(scope="module")
def network():
    return Network()


def assert_trees_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        found,
        expected,
    )


def test_streamed_gradient(network):
    gradient = jax.jit(jax.grad(network.loss_fn))
    streamed = streaming.weighted_mean(
        lambda chunk: gradient(network.params, chunk), network.chunks()
    )
    assert_trees_close(streamed, gradient(network.params, network.data))


def as_rows(block):
    leaves = [np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(block)]
    return np.concatenate(leaves, axis=1)


def test_streamed_hessian_vector_product_and_eigenspace(network):
    k = 2
    passes = []

    @jax.jit
    def products(block, chunk):
        matvec = dominant.hessian(network.loss_fn)(network.params, chunk)
        return jax.vmap(matvec)(block)

    def streamed(block):
        passes.append(1)
        return streaming.weighted_mean(
            lambda chunk: products(block, chunk), network.chunks()
        )

    block = jax.tree.map(
        lambda p: jnp.cos(jnp.arange(p.size * k)).reshape(k, *p.shape), network.params
    )
    assert_trees_close(streamed(block), products(block, network.data))
    passes.clear()

    steps = dominant.eigenspace_steps(k, block_size=k)
    init, propose, absorb, finish = map(jax.jit, steps)
    state = init(network.params)
    while not state.done:
        state, block = propose(state)
        state = absorb(state, streamed(block))
    found = finish(state)

    @jax.jit
    def in_memory(params, data):
        matvec = dominant.hessian(network.loss_fn)(params, data)
        return dominant.top_eigenspace(matvec, params, k)

    expected = in_memory(network.params, network.data)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-4)
    found_rows, expected_rows = as_rows(found.basis), as_rows(expected.basis)
    outside = expected_rows - expected_rows @ found_rows.T @ found_rows
    largest_sine = np.linalg.norm(outside, ord=2)
    bound = dominant.error_bound(found) + dominant.error_bound(expected)
    assert largest_sine <= bound < 0.1
    assert len(passes) <= int(found.num_matvecs)


def test_images_from_disk_are_those_loaded(tfds_data_dir):
    loaded = data.load("mnist", num_train=30, data_dir=tfds_data_dir).train
    source = images.open_source(
        "mnist", "train[:30]", standardize=False, data_dir=tfds_data_dir
    )
    from_disk = streaming.batches(source, 8, seed=0)
    in_memory = streaming.batches(streaming.from_arrays(loaded), 8, seed=0)
    for found, expected in itertools.islice(zip(from_disk, in_memory, strict=True), 5):
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_array_equal(found[key], expected[key])
            assert found[key].dtype == expected[key].dtype
