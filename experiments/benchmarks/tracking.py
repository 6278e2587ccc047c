"""Measure what tracking costs over a stretch of training, and how stale the basis gets.

    TFDS_DATA_DIR=... python -m experiments.benchmarks.tracking --out=FOLDER
        [--exact] [--quick]

trains Bulk-SGD on MLP/MNIST-5k from step 2,000 on with the adaptive policy, and writes
`tracking.json` and `tracking.md`. All times are medians within this one run.
With --exact also Bulk- and Dom-SGD with the exact basis of each step, for comparison:
tens of thousands of Hessian-vector products. With --quick, a tiny problem instead.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dominant
from configs import quickstart
from configs.tiny_subspaces import mlp_mnist
from experiments import tasks
from experiments.benchmarks import command
from experiments.tasks import Task

K = 10
_RATE, _BATCH = 0.01, 50
_TIMED_STEPS, _REPEATS = 200, 5


class Scale(NamedTuple):
    """How much is measured.

    task: of a config. warmup: plain SGD steps before. steps: with the tracker.
    settings: pairs of max_angle and the share of the examples for the curvature.
    spot_check_every: steps from one comparison with the exact basis to the next.
    exact_steps: how many with the exact basis of each.
    """

    task: Any
    warmup: int
    steps: int
    settings: Sequence[tuple[float, float]]
    spot_check_every: int
    exact_steps: int


FULL = Scale(
    task=mlp_mnist.get_config().task,
    warmup=2000,
    steps=5000,
    settings=((0.1, 1.0), (0.3, 1.0), (0.1, 0.2), (0.3, 0.2)),
    spot_check_every=250,
    exact_steps=1000,
)
QUICK = Scale(
    task=quickstart.get_config().task,
    warmup=100,
    steps=40,
    settings=((0.1, 1.0), (0.1, 0.5)),
    spot_check_every=20,
    exact_steps=20,
)


class Tracked(NamedTuple):
    """A tracked stretch of training.

    angles: radians, of the basis in use to the exact one, at spot checks. seconds: of
    the training alone, compilation apart.
    """

    params: Any
    state: dominant.TrackSubspaceState
    angles: list[float]
    seconds: float


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command.parser("experiments.benchmarks.tracking", __doc__)
    parser.add_argument("--exact", action="store_true", help="exact bases as well")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    results = measure(QUICK if args.quick else FULL, with_exact=args.exact)
    command.write(args.out, "tracking", results, to_markdown(results))
    print(to_markdown(results))


def measure(scale: Scale, *, with_exact: bool) -> dict[str, Any]:
    """Return all that is measured, as a JSON object."""
    task = tasks.make_task(scale.task)
    params = _sgd(task, task.init(jax.random.key(0)), scale.warmup)
    timers = _timers(task, params, scale.warmup)
    samples: dict[str, list[float]] = {name: [] for name in timers}

    def take_times() -> None:
        for name, timer in timers.items():
            samples[name].append(timer())

    results: dict[str, Any] = {
        "num_train": task.num_train,
        "warmup": scale.warmup,
        "steps": scale.steps,
        "tracked": [],
    }
    take_times()
    for max_angle, share in scale.settings:
        num_examples = int(share * task.num_train)
        tracked = _track(
            task,
            params,
            dominant.bulk_project(),
            dominant.adaptive(max_angle, max_interval=scale.steps),
            scale,
            num_examples,
        )
        row = {
            "max_angle": max_angle,
            "curvature_examples": num_examples,
            "matvecs": int(tracked.state.total_matvecs),
            "refreshes": int(tracked.state.refreshes),
            "worst_angle": max(tracked.angles),
            "step": tracked.seconds / scale.steps,
        }
        results["tracked"].append(row)
        # In between, since a shared machine changes its pace.
        take_times()
    medians = {name: float(np.median(values)) for name, values in samples.items()}
    results["sgd"] = medians["sgd"]
    results["projection"] = medians["projected"] - medians["sgd"]
    results["hvp"] = medians["hvp"]
    if with_exact:
        shorter = scale._replace(steps=scale.exact_steps)
        results["exact"] = _against_exact(task, params, shorter)
    return results


def to_markdown(results: dict[str, Any]) -> str:
    """Return the results as a table."""
    sgd, projection, product = (results[t] for t in ("sgd", "projection", "hvp"))
    lines = [
        f"plain SGD step {1e3 * sgd:.2f} ms, projection {1e3 * projection:.2f} ms, "
        f"Hessian-vector product {1e3 * product:.1f} ms",
        "",
        f"| Bulk-SGD, {results['steps']:,} steps from step {results['warmup']:,} | "
        "HVPs | HVPs a step | refreshes | worst true angle | ms a step | "
        "of its parts | in SGD steps |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["tracked"]:
        a_step = row["matvecs"] / results["steps"]
        share = row["curvature_examples"] / results["num_train"]
        parts = sgd + projection + a_step * share * product
        lines.append(
            f"| max_angle={row['max_angle']}, curvature on "
            f"{row['curvature_examples']} | {row['matvecs']} | {a_step:.3f} | "
            f"{row['refreshes']} | {row['worst_angle']:.3f} | "
            f"{1e3 * row['step']:.2f} | {row['step'] / parts:.2f} | "
            f"{row['step'] / sgd:.1f} |"
        )
    if "exact" in results:
        lines += [
            "",
            "| | steps | loss before | with the exact basis | with a tracked one | "
            "difference |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for mode, row in results["exact"].items():
            difference = row["tracked"] / row["exact"] - 1
            lines.append(
                f"| {mode} | {row['steps']:,} | {row['before']:.5f} | "
                f"{row['exact']:.5f} | {row['tracked']:.5f} | {difference:+.2%} |"
            )
    return "\n".join(lines) + "\n"


def _batches(first_step: int, num_steps: int, num_train: int) -> jax.Array:
    """Return the examples of each step, [num_steps, batch], without replacement."""
    an_epoch = num_train // _BATCH
    last = first_step + num_steps
    epochs = range(first_step // an_epoch, (last - 1) // an_epoch + 1)
    orders = [np.random.default_rng(epoch).permutation(num_train) for epoch in epochs]
    chosen = np.concatenate([o[: an_epoch * _BATCH] for o in orders])
    skipped = first_step - epochs[0] * an_epoch
    chosen = chosen.reshape(-1, _BATCH)[skipped : skipped + num_steps]
    return jnp.asarray(chosen, jnp.int32)


def _batch_gradient(task: Task, params: Any, chosen: jax.Array, train: Any) -> Any:
    return jax.grad(task.loss_fn)(params, jax.tree.map(lambda x: x[chosen], train))


def _sgd(task: Task, params: Any, num_steps: int) -> Any:
    """Return the parameters after plain SGD."""

    @jax.jit
    def run(params: Any, batches: jax.Array, train: Any) -> Any:
        def step(params: Any, chosen: jax.Array) -> tuple[Any, None]:
            gradient = _batch_gradient(task, params, chosen, train)
            return jax.tree.map(lambda p, g: p - _RATE * g, params, gradient), None

        return jax.lax.scan(step, params, batches)[0]

    return run(params, _batches(0, num_steps, task.num_train), task.train)


def _timers(task: Task, params: Any, first_step: int) -> dict[str, Callable[[], float]]:
    """Return what measures the seconds of a step, a projected one, and a product."""
    batches = _batches(first_step, _TIMED_STEPS, task.num_train)
    matvec_of = dominant.hessian(task.loss_fn)
    subspace = jax.jit(
        lambda p, train: dominant.top_eigenspace(matvec_of(p, train), p, K)
    )(params, task.train)

    def steps_with(projection: optax.GradientTransformation) -> Callable:
        tx = optax.chain(optax.sgd(_RATE), projection)

        @jax.jit
        def run(params: Any, subspace: Any, train: Any) -> Any:
            def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
                params, state = carry
                gradient = _batch_gradient(task, params, chosen, train)
                updates, state = tx.update(gradient, state, subspace=subspace)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, tx.init(params)), batches)[0]

        return run

    @jax.jit
    def products(params: Any, subspace: Any, train: Any) -> Any:
        return jax.lax.map(matvec_of(params, train), subspace.basis)

    plain = steps_with(optax.with_extra_args_support(optax.identity()))
    projected = steps_with(dominant.bulk_project())
    arguments = (params, subspace, task.train)
    return {
        "sgd": lambda: _median_seconds(plain, *arguments) / _TIMED_STEPS,
        "projected": lambda: _median_seconds(projected, *arguments) / _TIMED_STEPS,
        "hvp": lambda: _median_seconds(products, *arguments) / K,
    }


def _median_seconds(function: Callable, *arguments: Any) -> float:
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _track(
    task: Task,
    params: Any,
    projection: optax.GradientTransformation,
    refresh: dominant.RefreshPolicy,
    scale: Scale,
    num_examples: int,
) -> Tracked:
    """Train with a tracked basis, and compare it with the exact one now and then.

    The basis is tracked on the first `num_examples`; the exact one is that of all.
    """
    some = jax.tree.map(lambda x: x[:num_examples], task.train)
    curvature = dominant.hessian(task.loss_fn)
    tx = dominant.track_subspace(
        optax.chain(optax.sgd(_RATE), projection), curvature, K, refresh=refresh
    )

    @jax.jit
    def run(params: Any, state: Any, batches: jax.Array, train: Any, some: Any) -> Any:
        def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
            params, state = carry
            gradient = _batch_gradient(task, params, chosen, train)
            updates, state = tx.update(gradient, state, params, curvature_data=some)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), batches)[0]

    @jax.jit
    def angle_to_exact(params: Any, subspace: Any, train: Any) -> jax.Array:
        matvec = curvature(params, train)
        exact = dominant.top_eigenspace(matvec, params, K, start=subspace, tol=1e-4)
        return dominant.principal_angles(subspace, exact)[0]

    state = tx.init(params)
    batches = _batches(scale.warmup, scale.steps, task.num_train)
    batches = batches.reshape(-1, scale.spot_check_every, _BATCH)
    jax.block_until_ready(run(params, state, batches[0], task.train, some))
    seconds, angles = 0.0, []
    for chosen in batches:
        start = time.perf_counter()
        params, state = jax.block_until_ready(
            run(params, state, chosen, task.train, some)
        )
        seconds += time.perf_counter() - start
        angles.append(float(angle_to_exact(params, state.subspace, task.train)))
    return Tracked(params, state, angles, seconds)


def _against_exact(task: Task, params: Any, scale: Scale) -> dict[str, Any]:
    """Compare losses after steps with the exact basis of each, and with a tracked."""
    projections = {"Bulk": dominant.bulk_project(), "Dom": dominant.dom_project()}
    policies = {"exact": dominant.every(1), "tracked": dominant.adaptive()}
    before = float(task.loss_fn(params, task.train))
    losses: dict[str, Any] = {
        mode: {"before": before, "steps": scale.steps} for mode in projections
    }
    for mode, projection in projections.items():
        for name, refresh in policies.items():
            tracked = _track(task, params, projection, refresh, scale, task.num_train)
            losses[mode][name] = float(task.loss_fn(tracked.params, task.train))
            losses[mode][f"{name}_matvecs"] = int(tracked.state.total_matvecs)
    return losses


if __name__ == "__main__":
    main()
