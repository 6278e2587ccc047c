"""One process of the benchmark; `main` starts them, one after the other.

    python -m experiments.benchmarks.worker prepare INSTANCE --problem=JSON [--truth]
    python -m experiments.benchmarks.worker solve INSTANCE --solver=NAME --k=10
        --repeats=3

A process prints one JSON object, the row, as its last line.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import solvers
from experiments.benchmarks.problems import Instance, Problem
from experiments.json_values import encode

LONG_SECONDS = 15
"""A solve that takes longer is timed only once."""

_PRODUCTS_TIMED = 10
_MAX_DIFFERENCE = 1e-4


class DisagreementError(Exception):
    """A solver works on another problem than the rest."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="experiments.benchmarks.worker")
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("--problem", required=True, type=json.loads)
    preparing.add_argument("--truth", action="store_true")
    solving = commands.add_parser("solve")
    solving.add_argument("--solver", required=True, choices=list(solvers.SOLVERS))
    solving.add_argument("--k", required=True, type=int)
    solving.add_argument("--repeats", required=True, type=int)
    for command in (preparing, solving):
        command.add_argument("instance", type=Path)
    args = parser.parse_args(argv)
    if args.command == "prepare":
        row = prepare(Problem(**args.problem), args.instance, with_truth=args.truth)
    else:
        row = solve(args.instance, args.solver, k=args.k, repeats=args.repeats)
    print(json.dumps(encode(row)))


def prepare(problem: Problem, path: Path, *, with_truth: bool) -> dict[str, Any]:
    """Write the instance to `path`, and beside it what is true of it."""
    from experiments.benchmarks import training, truth

    instance = training.make_instance(problem)
    row: dict[str, Any] = {
        **dataclasses.asdict(problem),
        "num_parameters": instance.num_parameters,
    }
    if with_truth:
        row["loss"], product = truth.loss_and_product(instance)
        known = truth.find_truth(instance, product)
        known.save(_truth_path(path))
        steps = truth.lanczos_steps(instance, product)
        instance = instance._replace(lanczos_steps=steps)
        row |= {"eigenvalues": known.eigenvalues.tolist(), "lanczos_steps": steps}
    instance.save(path)
    return row


def solve(path: Path, name: str, *, k: int, repeats: int) -> dict[str, Any]:
    """Measure one solver on one instance, then look at what it found."""
    instance = Instance.load(path)
    build = _set_up(name, instance, k)
    baseline = _peak_bytes()
    started = time.perf_counter()
    solver = build()
    compiling = time.perf_counter() - started
    compile_peak = _peak_bytes() - baseline
    # Warms up; its memory is that of any later solve, compilation included.
    started = time.perf_counter()
    found = solver.solve()
    is_long = time.perf_counter() - started > LONG_SECONDS
    peak = _peak_bytes() - baseline
    solver.take_products(1)
    seconds, cpu_seconds, product_seconds = [], [], []
    for _ in range(1 if is_long else repeats):
        # In turn, so that both meet the same load of the machine.
        product_seconds.append(
            _time(lambda: solver.take_products(_PRODUCTS_TIMED)) / _PRODUCTS_TIMED
        )
        cpu_started = time.process_time()
        seconds.append(_time(solver.solve))
        cpu_seconds.append(time.process_time() - cpu_started)
    row = {
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "cpu_seconds": statistics.median(cpu_seconds),
        "compile_seconds": compiling,
        "seconds_per_product": statistics.median(product_seconds),
        "peak_bytes": peak,
        "compile_peak_bytes": compile_peak,
        "planned_bytes": solver.planned_bytes,
    }
    return row | _check(path, instance, solver, solver.read(found))


def _set_up(name: str, instance: Instance, k: int) -> Callable[[], solvers.Solver]:
    setup = solvers.find(name)
    if "torch" in sys.modules:
        import torch

        # As many as XLA takes.
        torch.set_num_threads(num_threads())
    return setup(instance, k)


def _check(
    path: Path, instance: Instance, solver: solvers.Solver, solution: solvers.Solution
) -> dict[str, Any]:
    """Compare with float64, and with the truth where it is known.

    Raises:
      DisagreementError: if the solver's loss or product is not the problem's.
    """
    from experiments.benchmarks import truth

    loss, product = truth.loss_and_product(instance)
    exact = product(instance.start)
    differences = {
        "loss": abs(solver.loss() - loss) / loss,
        "product": float(
            np.linalg.norm(solver.product(instance.start) - exact)
            / np.linalg.norm(exact)
        ),
    }
    for what, difference in differences.items():
        if not difference <= _MAX_DIFFERENCE:
            raise DisagreementError(
                f"its {what} differs from float64 by {difference:.2g} relative; "
                f"at most {_MAX_DIFFERENCE:g} was expected"
            )
    known = _truth_path(path)
    return {
        "num_matvecs": solution.num_matvecs,
        "eigenvalues": [float(value) for value in solution.eigenvalues],
        "residual": truth.relative_residual(product, solution),
        "sine": (
            truth.largest_sine(truth.Truth.load(known), solution)
            if known.exists()
            else None
        ),
        "error_bound": solution.error_bound,
    }


def num_threads() -> int:
    """Return how many cores this process may use: as many threads as XLA takes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _truth_path(instance: Path) -> Path:
    return instance.with_suffix(".truth.npz")


def _time(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
