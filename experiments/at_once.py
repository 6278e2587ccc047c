"""Runs that take seconds: each branch is computed whole, and then written.

Such a run leaves the records that the training engine does, without checkpoints: one
that was interrupted starts again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments import records

Metrics = Mapping[str, np.ndarray]
"""Names to [steps + 1, ...]: before the first step, after one, ..."""


def run(
    config: ml_collections.ConfigDict,
    workdir: str,
    argv: Sequence[str],
    branches: Mapping[str, Callable[[], Metrics]],
) -> dict[str, Any]:
    """Compute every branch, all from one start, and leave the records in `workdir`.

    A branch ends where `loss/full` is not finite.

    Args:
      config: with `seed`, `steps`, `log_first` and `log_every`: the first so many steps
        are logged, and then each so many.
      workdir: the run's folder.
      argv: the command line, for the provenance.
      branches: their names, and what computes them.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
    """
    folder = records.open_workdir(workdir, config.to_dict(), argv)
    if (folder.path / "status.json").exists():
        status = records.read_status(folder)
        if status["status"] in ("finished", "diverged"):
            return status
    records.truncate_metrics(folder, 0)
    started = time.perf_counter()
    outcomes: dict[str, dict[str, Any]] = {}

    def note(status: str, **details: Any) -> None:
        # All branches leave from the start.
        seconds = time.perf_counter() - started
        records.write_status(
            folder, status, switch_step=0, branches=outcomes, seconds=seconds, **details
        )

    note("running")
    for branch, compute in branches.items():
        try:
            outcomes[branch] = _write(config, folder, branch, compute(), started)
        except BaseException as error:
            note("interrupted", branch=branch, error=f"{error!r}")
            raise
        note("running")
    diverged = [
        {"branch": branch, "step": outcome["step"]}
        for branch, outcome in outcomes.items()
        if outcome["status"] == "diverged"
    ]
    if diverged:
        note("diverged", **diverged[0])
    else:
        note("finished")
    return records.read_status(folder)


def _write(
    config: ml_collections.ConfigDict,
    folder: records.Workdir,
    branch: str,
    metrics: Metrics,
    started: float,
) -> dict[str, Any]:
    """Write the lines of a branch, and return how it ended."""
    broken = np.flatnonzero(~np.isfinite(metrics["loss/full"]))
    last = int(broken[0]) if broken.size else config.steps
    seconds = time.perf_counter() - started
    for step in range(last + 1):
        if step <= config.log_first or step % config.log_every == 0 or step == last:
            values = {name: value[step] for name, value in metrics.items()}
            line = {"branch": branch, "seed": config.seed, "step": step, **values}
            records.append_metrics(folder, {**line, "time/seconds": seconds})
    return {"status": "diverged" if broken.size else "finished", "step": last}
