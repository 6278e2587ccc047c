"""Reproduce papers: `python -m experiments.reproduction.main --out=FOLDER`.

    --experiments   papers, and experiments as PAPER/NAME; all papers by default
    --scale         ci (seconds each), cpu (two cores, hours), paper (its own sizes)
    --results       also write PAPER.md and its figures there, small enough for git

Runs go to FOLDER/SCALE/PAPER/NAME/. The same command again resumes what was
interrupted, leaves alone what has ended, and writes the report anew, to
FOLDER/SCALE/PAPER/report.html.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import ml_collections
from absl import logging

from experiments import train
from experiments.compilation import keep_compiled_programs, without_wrong_fusions
from experiments.data import MissingDatasetError
from experiments.names import lookup
from experiments.records import ForeignWorkdirError
from experiments.reproduction import (
    linear_attention,
    outlier_eigenspaces,
    reports,
    runner,
    sharp_flat,
    tiny_subspaces,
    trajectory_alignment,
)
from experiments.reproduction.design import SCALE_NAMES, read_design
from experiments.reproduction.experiment import Experiment
from experiments.reproduction.outcome import Entry

PAPERS: Mapping[str, ModuleType] = {
    "tiny_subspaces": tiny_subspaces,
    "sharp_flat": sharp_flat,
    "outlier_eigenspaces": outlier_eigenspaces,
    "trajectory_alignment": trajectory_alignment,
    "linear_attention": linear_attention,
}
"""Each has a TITLE, an INTRODUCTION, and its EXPERIMENTS in the report's order."""

CONFIGS = Path("configs")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; exit status 0 says that every run has ended."""
    arguments = _parser().parse_args(argv)
    command = [
        "experiments.reproduction.main",
        *(sys.argv[1:] if argv is None else argv),
    ]
    try:
        chosen = choose(arguments.experiments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    # Orbax reports each of its steps, from threads of its own too.
    logging.set_verbosity(logging.WARNING)
    without_wrong_fusions()
    keep_compiled_programs()
    failed = False
    for paper, experiments in chosen.items():
        folder = Path(arguments.out) / arguments.scale / paper
        entries = []
        for experiment in experiments:
            try:
                to_run = is_to_run(paper, experiment, arguments.scale, folder)
                entry = run(paper, experiment, arguments.scale, folder, command)
            except KeyboardInterrupt:
                sys.exit("interrupted; the same command goes on from here")
            except (ForeignWorkdirError, MissingDatasetError, ValueError) as error:
                sys.exit(f"error: {paper}/{experiment.name}: {error}")
            failed |= "failed" in entry.status
            entries.append(entry)
            if to_run:  # there is something new to look at before all have ended
                reports.write(PAPERS[paper], arguments.scale, folder, entries)
        path = reports.write(PAPERS[paper], arguments.scale, folder, entries)
        if arguments.results:
            reports.write_results(
                PAPERS[paper],
                arguments.scale,
                Path(arguments.results),
                paper,
                entries,
            )
        print(path)
    if failed:
        sys.exit("some runs failed; see above")


def run(
    paper: str,
    experiment: Experiment,
    scale: str,
    folder: Path,
    command: Sequence[str],
) -> Entry:
    """Do the runs of an experiment that are left to do, and judge them."""
    design = read_design(CONFIGS / paper / f"{experiment.name}.py", scale)
    folder = folder / experiment.name
    runner.check_folders(design, folder)

    def train_point(config: ml_collections.ConfigDict, workdir: str) -> Mapping:
        if experiment.run is not None:
            return experiment.run(config, workdir)
        return train.run(config, workdir, command)

    errors = runner.run_points(design, folder, train_point, experiment.is_complete)
    runs = runner.read_runs(design, folder)
    return reports.judge(paper, experiment, scale, design, runs, errors)


def is_to_run(paper: str, experiment: Experiment, scale: str, folder: Path) -> bool:
    """Return whether an experiment has runs that are left to do."""
    design = read_design(CONFIGS / paper / f"{experiment.name}.py", scale)
    return bool(
        runner.left_to_do(design, folder / experiment.name, experiment.is_complete)
    )


def choose(names: Iterable[str]) -> dict[str, list[Experiment]]:
    """Return the experiments of each paper that is asked for; of none: all.

    Raises:
      ValueError: if a name is unknown; the message lists those there are.
    """
    chosen: dict[str, list[Experiment]] = {}
    for name in list(names) or list(PAPERS):
        paper, _, rest = name.partition("/")
        module = lookup("paper", paper, PAPERS)
        by_name = {experiment.name: experiment for experiment in module.EXPERIMENTS}
        wanted = (
            [lookup(f"experiment of {paper}", rest, by_name)]
            if rest
            else by_name.values()
        )
        listed = chosen.setdefault(paper, [])
        listed += [experiment for experiment in wanted if experiment not in listed]
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="experiments.reproduction.main")
    parser.add_argument("--out", required=True, help="where runs and reports go")
    parser.add_argument("--scale", default="cpu", choices=SCALE_NAMES)
    parser.add_argument("--experiments", nargs="*", default=(), metavar="PAPER[/NAME]")
    parser.add_argument("--results", help="folder of the tables and figures for git")
    return parser


if __name__ == "__main__":
    main()
