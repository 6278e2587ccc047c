r"""The toy quadratic of Song, Ahn and Yun (2025), Sec. 4, for thousands of seeds.

    python -m experiments.toy --config=configs/tiny_subspaces/toy_quadratic.py \
        --workdir=FOLDER

The training engine would write a line for each seed; a line here has the moments over
all of them (`experiments.toy_steps`). Fields are overridden as in `experiments.main`. A
run takes seconds: one that was interrupted starts again.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments import records
from experiments.compilation import keep_compiled_programs
from experiments.names import lookup
from experiments.toy_steps import MODES, NOISES, trajectories

DISPLACED = "gd_displaced"
"""The branch of gradient descent from the config's `displaced_start`."""


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a config that cannot be run."""
    lookup("noise", config.noise.name, NOISES)
    for mode in config.modes:
        lookup("mode", mode, MODES)
    quadratic = config.quadratic
    for field in ("seeds", "steps", "log_every"):
        if config[field] < 1:
            raise ValueError(f"{field} must be at least 1, got {config[field]}.")
    for field in ("num_dominant", "num_bulk"):
        if quadratic[field] < 1 or (
            config.noise.name == "sign" and quadratic[field] > 1
        ):
            raise ValueError(
                f"quadratic.{field} must be at least 1, and 1 with the noise 'sign', "
                f"which couples one x and one y; got {quadratic[field]}."
            )
    if not quadratic.dominant > quadratic.bulk:
        raise ValueError(
            f"quadratic.dominant must exceed quadratic.bulk = {quadratic.bulk}, "
            f"got {quadratic.dominant}."
        )


def run(
    config: ml_collections.ConfigDict, workdir: str, argv: Sequence[str] = ()
) -> dict[str, Any]:
    """Run every branch of a config, and leave the records of a run in `workdir`.

    Args:
      config: with the fields of configs/tiny_subspaces/toy_quadratic.py.
      workdir: the run's folder; one that was interrupted starts again.
      argv: the command line, for the provenance.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
      ValueError: if a config field is out of range.
    """
    check(config)
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
    starts = [(mode, mode, config.start) for mode in config.modes]
    if config.displaced_start is not None:
        starts.append((DISPLACED, "gd", config.displaced_start))
    for branch, mode, start in starts:
        try:
            metrics = trajectories(config, mode, start)
            outcomes[branch] = _write(config, folder, branch, metrics, started)
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
    metrics: Mapping[str, np.ndarray],
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


def main(argv: list[str]) -> None:
    """Run the command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keep_compiled_programs()
    workdir = str(_WORKDIR.value)
    try:
        status = run(_CONFIG.value, workdir, sys.argv)
    except records.ForeignWorkdirError as error:
        sys.exit(f"error: {error}")
    print(
        f"status: {status['status']}, {status['seconds']:.0f} s; records in {workdir}"
    )


# Not on import: two commands of one process would both define them.
if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "A toy, such as configs/tiny_subspaces/toy_quadratic.py."
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's records go.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
