"""Runs an experiment's points, one after the other, and reads what they left behind.

Each run has a folder of its own. What has ended is left alone; a run that was
interrupted is resumed; one that failed is tried again.
"""

import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from experiments import records
from experiments.reproduction.design import Design
from experiments.reproduction.experiment import Run, Runs
from experiments.sweep_grid import Point

ENDED = ("finished", "diverged")

Train = Callable[[ml_collections.ConfigDict, str], Mapping[str, Any]]
"""Does a run in its folder and returns its status, as `train.run`."""


def check_folders(design: Design, folder: Path) -> None:
    """Raise ForeignWorkdirError if a run's folder holds something else."""
    for point in design.points:
        records.is_run_of(folder / point.name, point.config.to_dict())


def run_points(
    design: Design,
    folder: Path,
    train: Train,
    is_complete: Callable[[Path], bool] | None = None,
) -> dict[str, str]:
    """Do the runs that have not ended, or, of those, are not complete.

    One that raises an exception counts as failed, and the next one follows. One that
    was told to end (SIGTERM) is the last.

    Returns:
      The errors of those that failed, by their points' names.
    """
    errors: dict[str, str] = {}
    for point in left_to_do(design, folder, is_complete):
        print(f"{folder.name}: {point.name}", file=sys.stderr, flush=True)
        try:
            status = train(point.config, str(folder / point.name))["status"]
        except Exception as error:
            traceback.print_exc()
            errors[point.name] = f"{type(error).__name__}: {error}"
            continue
        finally:
            # What was compiled for one run is of no use to the next: tens of MB.
            jax.clear_caches()
        if status == "interrupted":
            raise KeyboardInterrupt
    return errors


def left_to_do(
    design: Design, folder: Path, is_complete: Callable[[Path], bool] | None = None
) -> list[Point]:
    """Return the points whose runs have not ended, or are not complete."""
    return [
        point
        for point in design.points
        if _status(folder / point.name) not in ENDED
        or (is_complete is not None and not is_complete(folder / point.name))
    ]


def read_runs(design: Design, folder: Path) -> Runs:
    """Return the records of the runs that have begun, by their points' names."""
    return {
        point.name: read_run(folder / point.name)
        for point in design.points
        if (folder / point.name / "status.json").exists()
    }


def read_run(folder: Path) -> Run:
    """Return a run's records."""
    return Run(
        records.read_config(folder),
        records.read_status(folder),
        records.read_metrics(folder),
        records.read_provenance(folder),
    )


def _status(folder: Path) -> str:
    path = folder / "status.json"
    return records.read_status(folder)["status"] if path.exists() else "not started"
