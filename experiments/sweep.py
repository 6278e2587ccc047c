"""Run a grid: `python -m experiments.sweep --sweep=FILE --workdir=FOLDER`.

A sweep file is a config file with a grid: `get_config()` returns the base, `get_grid()`
the values of what is varied (`experiments.sweep_grid`), and its docstring says what the
sweep answers. Fields of the base can be overridden: `--config.steps=1000`.

Every point is a run in a folder of its own. The same command on the same folder leaves
those alone that have ended, resumes the one that was interrupted, and tries those again
that failed. `experiments.sweep_run` says what is left behind; docs/sweeps.md has more.
"""

import argparse
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from experiments import sweep_run, train
from experiments.compilation import keep_compiled_programs, without_wrong_fusions
from experiments.data import MissingDatasetError
from experiments.sinks import MissingPackageError
from experiments.sweep_grid import Grid, as_grids, make_points
from experiments.sweep_table import ENDED


class Sweep(NamedTuple):
    """What a sweep file says.

    question: its docstring. base: the config of all points. grid: one, or several.
    """

    question: str
    base: ml_collections.ConfigDict
    grid: Grid | Sequence[Grid]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; exit status 0 says that every point has ended."""
    arguments, overrides = _parser().parse_known_args(argv)
    command = ["experiments.sweep", *(sys.argv[1:] if argv is None else argv)]
    workdir = Path(arguments.workdir)
    try:
        sweep = read_sweep(arguments.sweep)
        sweep = sweep._replace(base=with_overrides(sweep, overrides))
        points = make_points(sweep.base, sweep.grid)
        sweep_run.check_points(points)
        sweep_run.open_sweep(workdir, sweep.base, points, command)
    except (MissingDatasetError, MissingPackageError, ValueError) as error:
        sys.exit(f"error: {error}")
    # Orbax reports each of its steps, from threads of its own too.
    logging.set_verbosity(logging.WARNING)
    without_wrong_fusions()
    keep_compiled_programs()

    def run(config: ml_collections.ConfigDict, folder: str) -> Mapping[str, Any]:
        older = arguments.from_older_checkpoint
        return train.run(config, folder, command, from_older_checkpoint=older)

    entries = sweep_run.run_points(points, workdir, sweep.question, run)
    print(workdir / "sweep.md")
    left = sum(one["status"] not in ENDED for one in entries)
    if left:
        sys.exit(f"{left} of {len(entries)} points have not ended")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="experiments.sweep",
        allow_abbrev=False,
        epilog="Fields of the base config: --config.steps=1000 and the like.",
    )
    parser.add_argument("--sweep", required=True, help="a sweep file under configs/")
    parser.add_argument("--workdir", required=True, help="where the runs' folders go")
    parser.add_argument(
        "--from_older_checkpoint",
        action="store_true",
        help="resume from the last checkpoints that can be read; delete the others",
    )
    return parser


def read_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Read a sweep file.

    Raises:
      ValueError: if there is none, or it lacks `get_config` or `get_grid`.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no sweep file {path}")
    scope = runpy.run_path(os.fspath(path))
    missing = [name for name in ("get_config", "get_grid") if name not in scope]
    if missing:
        raise ValueError(f"the sweep file {path} has no {' and no '.join(missing)}")
    question = (scope.get("__doc__") or "").strip()
    return Sweep(question, scope["get_config"](), scope["get_grid"]())


def with_overrides(sweep: Sweep, arguments: Sequence[str]) -> ml_collections.ConfigDict:
    """Return the base, changed by arguments like `--config.steps=1000`.

    Raises:
      ValueError: if an argument is none of these or names no field, or if every point
        sets that field.
    """
    command = ["experiments.sweep", *arguments]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", sweep.base, flag_values=values, sys_argv=command
        )
        unread = values(command)[1:]
    except (flags.Error, AttributeError) as error:
        raise ValueError(str(error).strip("'").replace("\\n", " ")) from error
    if unread:
        raise ValueError(f"unexpected arguments: {' '.join(unread)}")
    for name in config_flags.get_override_values(values["config"]):
        if all(name in grid for grid in as_grids(sweep.grid)):
            raise ValueError(f"--config.{name} has no effect: the grid varies {name}")
    return values["config"].value


if __name__ == "__main__":
    main()
