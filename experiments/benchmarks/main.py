"""Measure our eigensolver and others side by side.

    python -m experiments.benchmarks.main --out=FOLDER [--problems=...] [--solvers=...]
        [--growth] [--quick]

writes `results.json` and `results.md`, and with --growth `growth.png`. Each solve has
a process of its own, so that memory and threads are its own too. All run on the CPU,
with as many threads as there are cores. `--quick` is a tiny problem, to try the code.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import json_values
from experiments.benchmarks import command, problems, report
from experiments.benchmarks.problems import K, Problem
from experiments.benchmarks.solvers import SOLVERS
from experiments.benchmarks.worker import num_threads
from experiments.provenance import processor, version

GROWTH_SOLVERS = ("ours", "eigsh-jax")
_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 900


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = command.parser("experiments.benchmarks.main", __doc__)
    parser.add_argument("--problems", help=f"of {', '.join(problems.PROBLEMS)}")
    parser.add_argument("--solvers", help=f"of {', '.join(SOLVERS)}")
    parser.add_argument("--growth", action="store_true", help="growth curves as well")
    parser.add_argument("--repeats", type=int, default=3, help="timed solves")
    args = parser.parse_args(argv)
    known = problems.QUICK if args.quick else problems.PROBLEMS
    curves = problems.QUICK_GROWTH if args.quick else problems.GROWTH
    chosen = _choose(parser, args.problems, known)
    solvers = _choose(parser, args.solvers, SOLVERS)
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "problems": {}, "growth": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            instance = Path(folder) / f"{name}.npz"
            problem = _prepare_problem(name, known[name], instance)
            results["problems"][name] = problem
            for solver in solvers:
                row = _solve(problem, instance, solver, K, args.repeats)
                problem["rows"].append({"solver": solver, **row})
                _write(args.out, results)
        for curve, points in curves.items() if args.growth else ():
            for point in points:
                results["growth"] += _measure_point(curve, point, Path(folder))
                _write(args.out, results)
    print(args.out / "results.md")


def machine() -> dict[str, Any]:
    """Describe what the benchmark runs on, and how busy that is."""
    packages = {p for solver in SOLVERS.values() for p in solver.packages}
    packages |= {"dominant", "jax", "jaxlib", "numpy"}
    return {
        "processor": processor(),
        "cores": num_threads(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in sorted(packages)},
    }


def _choose(
    parser: argparse.ArgumentParser, names: str | None, known: Mapping[str, Any]
) -> list[str]:
    """Return the names in a comma-separated list; all for None."""
    chosen = list(known) if names is None else names.split(",")
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return chosen


def _prepare_problem(name: str, problem: Problem, instance: Path) -> dict[str, Any]:
    """Make an instance with its exact eigenspace; no rows yet."""
    _say(f"{name}: training, and the exact eigenspace")
    return {**_prepare(problem, instance, "--truth"), "rows": []}


def _measure_point(
    curve: str, point: problems.Point, folder: Path
) -> list[dict[str, Any]]:
    """Measure one point of a growth curve: one row a solver, one timed solve each."""
    instance = folder / "growth.npz"
    _say(f"growth with {curve}: {point}")
    prepared = _prepare(point.problem, instance)
    sizes = {
        "parameters": prepared.get("num_parameters"),
        "examples": point.problem.num_train,
        "k": point.k,
    }
    return [
        {"curve": curve, "solver": name, **sizes}
        | _solve(prepared, instance, name, point.k, 1)
        for name in GROWTH_SOLVERS
    ]


def _say(progress: str) -> None:
    print(progress, file=sys.stderr)


def _prepare(problem: Problem, instance: Path, *flags: str) -> dict[str, Any]:
    spec = json.dumps(dataclasses.asdict(problem))
    return _work("prepare", str(instance), f"--problem={spec}", *flags)


def _solve(
    prepared: Mapping[str, Any], instance: Path, name: str, k: int, repeats: int
) -> dict[str, Any]:
    """Return a solver's row; where there are no numbers, `status` says why."""
    missing = [p for p in SOLVERS[name].packages if version(p) is None]
    if missing:
        return {"status": f"not installed: {', '.join(missing)}"}
    if prepared["status"] != "ok":
        return {"status": f"no problem to solve: {prepared['status']}"}
    _say(f"  {name}")
    return _work(
        "solve", str(instance), f"--solver={name}", f"--k={k}", f"--repeats={repeats}"
    )


def _work(*arguments: str) -> dict[str, Any]:
    """Run one worker process and return its row."""
    threads = str(num_threads())
    limits = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
    )
    try:
        process = subprocess.run(
            [sys.executable, "-m", "experiments.benchmarks.worker", *arguments],
            cwd=_ROOT,
            env={**os.environ, **limits, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": f"not finished after {_TIMEOUT_SECONDS} seconds"}
    if process.returncode < 0:
        return {"status": f"killed by signal {-process.returncode}"}
    if process.returncode:
        errors = process.stderr.strip().splitlines() or ["no message"]
        return {"status": f"failed ({process.returncode}): {errors[-1]}"}
    row = json.loads(process.stdout.splitlines()[-1])
    return {"status": "ok", **json_values.decode(row)}


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    """Write all that is known so far."""
    command.write(folder, "results", results, report.markdown(results))
    if results["growth"]:
        report.draw_growth(results["growth"], folder / report.FIGURE)


if __name__ == "__main__":
    main()
