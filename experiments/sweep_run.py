"""The runs of a sweep, one after the other, and what is known of them.

In the sweep's folder:

    config.json, provenance.json   base config and names of what is varied; each start
    learning_rate=0.1,k=5/         a run, as `experiments.records` describes it
    sweep.json                     each point's fields, status and numbers over seeds
    sweep.md, sweep.csv            the same as a table, a row a point and branch

The last three are written anew after each point. What has ended is told by the runs'
own records; only an error that stopped one is known from sweep.json alone.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from experiments import json_values, records, report, train
from experiments.summary import summarize_seeds
from experiments.sweep_grid import Point
from experiments.sweep_summary import summarize_point
from experiments.sweep_table import ENDED, to_csv, to_markdown
from experiments.tasks import make_task

Run = Callable[[ml_collections.ConfigDict, str], Mapping[str, Any]]
"""Trains a point in its folder and returns its status, as `train.run` does."""


def check_points(points: Sequence[Point]) -> None:
    """Raise ValueError unless every point can be run; nothing is compiled or written.

    The message names all points that cannot.

    Raises:
      MissingDatasetError, MissingPackageError: if any point lacks one.
    """
    problems: list[str] = []
    task_config, task = None, None
    for point in points:
        config = point.config
        try:
            train.check(config)
            if task is None or config.task != task_config:  # one at a time in memory
                task_config, task = config.task, None
                task = make_task(config.task)
            train.check_fit(config, task)
        except (TypeError, ValueError) as error:
            problems.append(f"    {point.name}: {error}\n")
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(points)} points cannot be run:\n"
            + "".join(problems)
            + "No point was run."
        )


def open_sweep(
    workdir: Path,
    base: ml_collections.ConfigDict,
    points: Sequence[Point],
    argv: Sequence[str],
) -> None:
    """Create a sweep's folder, or open it again.

    A folder belongs to one base config and one set of varied fields. Their values may
    come and go.

    Raises:
      ForeignWorkdirError: if it, or the folder of a point, holds something else; all
        stay untouched.
    """
    identity = {"varied": sorted(points[0].fields), "base": base.to_dict()}
    records.is_run_of(workdir, identity)
    for point in points:
        records.is_run_of(workdir / point.name, point.config.to_dict())
    records.open_workdir(workdir, identity, argv)


def run_points(
    points: Sequence[Point], workdir: Path, question: str, run: Run
) -> list[dict[str, Any]]:
    """Run the points that have not ended, and write the table after each one.

    A point whose run raises an exception counts as failed, and the next one follows.
    One that was told to end (SIGTERM) is the last.

    Args:
      points: of the sweep, checked.
      workdir: the sweep's folder, open.
      question: what the sweep answers, for the table.
      run: see `Run`; `train.run` with a command line.

    Returns:
      The entries of sweep.json, one a point.
    """
    errors = _earlier_errors(workdir)
    entries = [_entry(point, workdir, errors.get(point.name)) for point in points]
    _write_tables(points, workdir, question, entries)
    for number, point in enumerate(points, 1):
        folder = workdir / point.name
        if _has_ended(folder, errors.get(point.name)):
            continue
        print(f"point {number} of {len(points)}: {point.name}", file=sys.stderr)
        try:
            status, error = _run_point(point, folder, run), None
        except Exception as raised:
            traceback.print_exc()
            status, error = "failed", f"{type(raised).__name__}: {raised}"
        # What was compiled for one point is of no use to the next: tens of MB.
        jax.clear_caches()
        entries[number - 1] = _entry(point, workdir, error)
        _write_tables(points, workdir, question, entries)
        if status == "interrupted":
            break
    return entries


def _run_point(point: Point, folder: Path, run: Run) -> str:
    """Run a point and write its report; return its status."""
    status = run(point.config, str(folder))["status"]
    if status in ENDED:
        report.write_report(folder)
    return status


def _has_ended(folder: Path, error: str | None) -> bool:
    """Return whether there is nothing to do for a point, its report included."""
    reported = (folder / "report.html").exists()
    return reported and _status(folder, error)["status"] in ENDED


def _status(folder: Path, error: str | None) -> dict[str, Any]:
    """Return a point's status, from its records and the error that stopped it."""
    path = folder / "status.json"
    status = records.read_status(folder) if path.exists() else {"status": "not started"}
    if error is not None:
        return {**status, "status": "failed", "error": error}
    if status["status"] == "running":  # killed: nothing runs while this is read
        return {**status, "status": "interrupted"}
    return status


def _earlier_errors(workdir: Path) -> dict[str, str | None]:
    """Return the errors that stopped points, as earlier starts noted them."""
    path = workdir / "sweep.json"
    entries = json_values.read_file(path)["points"] if path.exists() else []
    return {one["point"]: one["error"] for one in entries if one["status"] == "failed"}


# What is written.


def _write_tables(
    points: Sequence[Point],
    workdir: Path,
    question: str,
    entries: Sequence[Mapping[str, Any]],
) -> None:
    """Write sweep.json, sweep.md and sweep.csv."""
    names = {point.name for point in points}
    sweep = {
        "title": points[0].config.title,
        "question": question,
        "varied": list(points[0].fields),
        "points": list(entries),
        "not_in_the_grid": sorted(
            path.parent.name
            for path in workdir.glob("*/config.json")
            if path.parent.name not in names
        ),
    }
    json_values.write_file(workdir / "sweep.json", sweep)
    _write(workdir / "sweep.md", to_markdown(sweep))
    _write(workdir / "sweep.csv", to_csv(entries))


def _entry(point: Point, workdir: Path, error: str | None) -> dict[str, Any]:
    """Return what is known of a point."""
    folder = workdir / point.name
    status = _status(folder, error)
    lines = records.read_metrics(folder)
    summaries = summarize_seeds(point.config.to_dict(), status, lines)
    has_report = (folder / "report.html").exists()
    return {
        **summarize_point(point.name, point.fields, status, summaries),
        "report": f"{point.name}/report.html" if has_report else None,
    }


def _write(path: Path, text: str) -> None:
    """Write a file; a reader never meets half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
