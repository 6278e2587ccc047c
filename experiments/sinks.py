"""Where logged lines go besides metrics.jsonl: TensorBoard, Weights & Biases.

metrics.jsonl is the record, a sink a picture of it. So each start of a run empties its
sinks and writes into them the lines that the run has kept; what it had logged after the
checkpoint that it goes on from is in none of them, and nothing is there twice.

A curve is one branch of one seed, over the step: curves of a metric are overlaid. The
components of a vector are metrics of their own; NaN and infinities are handed on as
they are. docs/logging.md tells what is seen where.
"""

import datetime
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ml_collections

from experiments import records
from experiments.provenance import version

Line = Mapping[str, Any]
"""One logged line, as `records.append_metrics` takes it."""

Write = Callable[[Line], None]

_NOT_METRICS = ("branch", "seed", "step")


class MissingPackageError(ImportError):
    """A sink's package is not installed. The message says how to install it."""


def check(config: ml_collections.ConfigDict) -> None:
    """Raise MissingPackageError if the config asks for a sink that is not installed."""
    for name in SINKS:
        if config.log[name] and version(name) is None:
            raise MissingPackageError(
                f"log.{name} needs the package {name}: add EXTRAS={name} to the make "
                f"command, or\n    pip install -e '.[{name}]'"
            )


@contextmanager
def opened(config: ml_collections.ConfigDict, workdir: Path) -> Iterator[Write]:
    """Yield a function that hands a line to the sinks that the config asks for.

    They begin with the lines in metrics.jsonl, and end with the block.

    Args:
      config: the whole config.
      workdir: the run's folder, with its provenance.
    """
    with ExitStack() as stack:
        writes = [
            stack.enter_context(open_sink(config, workdir))
            for name, open_sink in SINKS.items()
            if config.log[name]
        ]

        def write(line: Line) -> None:
            for write_one in writes:
                write_one(line)

        if writes:
            for line in records.read_metrics(workdir):
                write(line)
        yield write


def scalars(line: Line) -> dict[str, float]:
    """Return a line's metrics by name; those of a vector as name/01, name/02, ...

    Those of a matrix are name/01/01, ...
    """
    numbers: dict[str, float] = {}
    for name, value in line.items():
        values = value.tolist() if hasattr(value, "tolist") else value
        if name in _NOT_METRICS or values is None or isinstance(values, str):
            continue
        numbers |= _numbered(name, values)
    return numbers


def _numbered(name: str, values: Any) -> dict[str, float]:
    if not isinstance(values, list | tuple):
        return {name: float(values)}
    width = len(str(len(values)))
    numbers: dict[str, float] = {}
    for index, item in enumerate(values, 1):
        numbers |= _numbered(f"{name}/{index:0{width}d}", item)
    return numbers


def curve_name(config: ml_collections.ConfigDict, line: Line) -> str:
    """Return "bulk", or, in a run of several seeds, "bulk-seed2"."""
    of_seed = f"-seed{line['seed']}" if config.seeds > 1 else ""
    return f"{line['branch']}{of_seed}"


# TensorBoard.


@contextmanager
def _tensorboard(config: ml_collections.ConfigDict, workdir: Path) -> Iterator[Write]:
    """Write event files, tensorboard/CURVE/events.out.tfevents.* in the run's folder.

    An event's time is the run's first start plus `time/seconds`, so that TensorBoard's
    relative times leave the pauses out.
    """
    # Not `EventFileWriter`, which imports TensorFlow wherever that is installed.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder = Path(workdir) / "tensorboard"
    for stale in folder.glob("*/events.out.tfevents.*"):
        stale.unlink()
    start = records.read_provenance(workdir)[0]["started"]
    started = datetime.datetime.fromisoformat(start).timestamp()
    # TensorBoard reads a curve's files in the order of their names.
    file_name = f"events.out.tfevents.{time.time_ns()}"
    writers: dict[str, Any] = {}
    with ExitStack() as files:

        def open_writer(curve: str) -> Any:
            (folder / curve).mkdir(parents=True, exist_ok=True)
            file = files.enter_context((folder / curve / file_name).open("wb"))
            writer = RecordWriter(file)
            head = Event(file_version="brain.Event:2", wall_time=started)
            writer.write(head.SerializeToString())
            return writer

        def write(line: Line) -> None:
            curve = curve_name(config, line)
            if curve not in writers:
                writers[curve] = open_writer(curve)
            values = [
                Summary.Value(tag=name, simple_value=value)
                for name, value in scalars(line).items()
            ]
            event = Event(
                step=int(line["step"]),
                wall_time=started + float(line["time/seconds"]),
                summary=Summary(value=values),
            )
            writers[curve].write(event.SerializeToString())
            writers[curve].flush()

        yield write


# Weights & Biases.


@contextmanager
def _wandb(config: ml_collections.ConfigDict, workdir: Path) -> Iterator[Write]:
    """Write a run of Weights & Biases for each curve, into wandb/ in the run's folder.

    Offline unless WANDB_MODE says otherwise. The ids stay the same from start to start,
    and a later upload replaces an earlier one.
    """
    offline = (os.environ.get("WANDB_MODE") or "offline") == "offline"
    if offline:  # its reports of errors go out from there, too
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder = Path(workdir).absolute()
    run_id = _wandb_id(folder / "wandb" / "id")
    for stale in (folder / "wandb").glob("*run-*"):
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale)
    runs: dict[str, Any] = {}
    with ExitStack() as stack:

        def open_run(curve: str, line: Line) -> Any:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "dominant"),
                dir=str(folder),
                id=f"{run_id}-{curve}",
                name=curve,
                group=f"{folder.parent.name}/{folder.name}",
                job_type=line["branch"],
                config={
                    **config.to_dict(),
                    "branch": line["branch"],
                    "seed": line["seed"],
                },
                mode="offline" if offline else None,
                reinit="create_new",
                # Each curve would have the machine's statistics again.
                settings=wandb.Settings(
                    console="off", silent=offline, x_disable_stats=True
                ),
            )
            # Not its own context manager, which prints exceptions that pass.
            stack.push(lambda raised, *_: run.finish(exit_code=int(raised is not None)))
            return run

        def write(line: Line) -> None:
            curve = curve_name(config, line)
            if curve not in runs:
                runs[curve] = open_run(curve, line)
            runs[curve].log(scalars(line), step=int(line["step"]))

        yield write


def _wandb_id(path: Path) -> str:
    """Return the run's part of its curves' ids, drawn at its first start."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8")


SINKS: Mapping[
    str,
    Callable[[ml_collections.ConfigDict, Path], AbstractContextManager[Write]],
] = {"tensorboard": _tensorboard, "wandb": _wandb}
"""By the names of their packages, which are also those of their extras."""
