r"""The toy quadratic of Song, Ahn and Yun (2025), Sec. 4, for thousands of seeds.

    python -m experiments.toy --config=configs/tiny_subspaces/toy_quadratic.py \
        --workdir=FOLDER

The training engine would write a line for each seed; a line here has the moments over
all of them (`experiments.toy_steps`). Fields are overridden as in `experiments.main`. A
run takes seconds: one that was interrupted starts again.
"""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from experiments import at_once, records
from experiments.compilation import keep_compiled_programs, without_wrong_fusions
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
    branches = {
        mode: functools.partial(trajectories, config, mode, config.start)
        for mode in config.modes
    }
    if config.displaced_start is not None:
        branches[DISPLACED] = functools.partial(
            trajectories, config, "gd", config.displaced_start
        )
    return at_once.run(config, workdir, argv, branches)


def main(argv: list[str]) -> None:
    """Run the command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    without_wrong_fusions()
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
