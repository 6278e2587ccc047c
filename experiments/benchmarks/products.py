"""Measure products on this machine's backend: how many at once, and how precise.

    TFDS_DATA_DIR=... python -m experiments.benchmarks.products --out=FOLDER [--quick]

writes `products.json` and `products.md`. Unlike the comparison of solvers it runs on
whatever accelerator JAX finds. All times are medians within this one run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dominant
from dominant import Curvature
from experiments.benchmarks import command, problems, training
from experiments.benchmarks.jax_solvers import Arrays, LossFn
from experiments.benchmarks.problems import TOL, K, Problem

BLOCK_SIZES = (1, 2, 5, 10)
_REPEATS = 7

PRECISIONS: Mapping[str, Callable[[LossFn], Curvature]] = {
    "float32": dominant.hessian,
    "tensorfloat32": lambda f: dominant.hessian(f, precision="tensorfloat32"),
    "bfloat16": lambda f: dominant.hessian(f, precision="bfloat16"),
    "in_dtype(bfloat16)": lambda f: dominant.in_dtype(
        dominant.hessian(f), jnp.bfloat16
    ),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = command.parser("experiments.benchmarks.products", __doc__).parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    name = "quick" if args.quick else "mnist-lr0.01"
    results = measure({**problems.PROBLEMS, **problems.QUICK}[name])
    command.write(args.out, "products", results, to_markdown(results))
    print(to_markdown(results))


def measure(problem: Problem) -> dict[str, Any]:
    """Return all that is measured, as a JSON object."""
    arrays = Arrays.of(training.make_instance(problem))
    exact_curvature = dominant.hessian(arrays.loss_fn)
    exact = jax.jit(
        lambda params, data: dominant.top_eigenspace(
            exact_curvature(params, data), params, K, tol=TOL / 100
        )
    )(arrays.params, arrays.data)
    timers = {
        f"block of {size}": _timer(arrays, exact_curvature, exact.basis, size)
        for size in BLOCK_SIZES
    }
    timers |= {
        name: _timer(arrays, of_loss(arrays.loss_fn), exact.basis, 1)
        for name, of_loss in PRECISIONS.items()
    }
    samples = {name: [timer()] for name, timer in timers.items()}
    for _ in range(_REPEATS):  # in turn, since a shared machine changes its pace
        for name, timer in timers.items():
            samples[name].append(timer())
    # The first of each is the warm-up.
    seconds = {name: float(np.median(times[1:])) for name, times in samples.items()}
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "num_examples": problem.num_train,
        "seconds": seconds,
        "precisions": {
            name: _accuracy(arrays, of_loss(arrays.loss_fn), exact)
            for name, of_loss in PRECISIONS.items()
        },
    }


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the results as two tables."""
    seconds = results["seconds"]
    one = seconds["block of 1"]
    lines = [
        f"{results['backend']} ({results['device']}), Hessian of an MLP on "
        f"{results['num_examples']:,} examples",
        "",
        "| products at once | ms a product | over one at a time |",
        "|--:|--:|--:|",
    ]
    for size in BLOCK_SIZES:
        each = seconds[f"block of {size}"]
        lines.append(f"| {size} | {1e3 * each:.2f} | {each / one:.2f} |")
    lines += [
        "",
        "| products in | ms a product | relative error | HVPs to 1e-3 | "
        "residual, stated | residual, true | sine to the exact space | sine bound |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in results["precisions"].items():
        lines.append(
            f"| {name} | {1e3 * seconds[name]:.2f} | {row['product_error']:.1e} | "
            f"{row['matvecs']} | {row['stated']:.1e} | {row['true']:.1e} | "
            f"{row['sine']:.1e} | {row['bound']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def _timer(
    arrays: Arrays, curvature: Curvature, basis: Any, size: int
) -> Callable[[], float]:
    """Return what measures the seconds of a product, taken `size` at once."""

    @jax.jit
    def products(params: Any, data: Any, blocks: Any) -> Any:
        matvec = curvature(params, data)
        return jax.lax.map(jax.vmap(matvec) if size > 1 else matvec, blocks)

    def split(b: jax.Array) -> jax.Array:
        return b.reshape(-1, size, *b.shape[1:]) if size > 1 else b

    blocks = jax.tree.map(split, basis)

    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(products(arrays.params, arrays.data, blocks))
        return (time.perf_counter() - start) / K

    return run


def _accuracy(
    arrays: Arrays, curvature: Curvature, exact: dominant.Subspace
) -> dict[str, float]:
    """Compare products, and what a solve makes of them, with those in full float32."""

    @jax.jit
    def compare(params: Any, data: Any, exact: dominant.Subspace) -> dict[str, Any]:
        matvec = curvature(params, data)
        exact_matvec = dominant.hessian(arrays.loss_fn)(params, data)
        found = dominant.top_eigenspace(matvec, params, K, tol=TOL)
        products = jax.lax.map(exact_matvec, found.basis)
        errors = jax.tree.map(
            lambda a, b: a - b, jax.lax.map(matvec, found.basis), products
        )
        residuals = jax.tree.map(
            lambda p, u: p - jnp.einsum("i,i...->i...", found.eigenvalues, u),
            products,
            found.basis,
        )
        norms = jax.vmap(_norm)
        return {
            "product_error": jnp.max(norms(errors) / norms(products)),
            "matvecs": found.num_matvecs,
            "stated": jnp.max(found.residuals / found.eigenvalues),
            "true": jnp.max(norms(residuals) / found.eigenvalues),
            "sine": jnp.sin(jnp.max(dominant.principal_angles(found, exact))),
            "bound": dominant.error_bound(found),
        }

    row = compare(arrays.params, arrays.data, exact)
    return {name: value.item() for name, value in row.items()}


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


if __name__ == "__main__":
    main()
