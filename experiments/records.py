"""What a run leaves behind in its working directory.

    config.json       the configuration; a folder belongs to one configuration for good
    provenance.json   one entry for each start or resume: code, versions, machine
    metrics.jsonl     one flat JSON object a logged step
    status.json       running, finished, diverged or interrupted, and details
    checkpoints/      steps/: the last two states; named/: the ones kept for good
    report.html       written by `experiments.report` from the files above
    tensorboard/, wandb/   where the config asks for them: `experiments.sinks`

`experiments.json_values` says how NaN and infinities are written.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import json_values
from experiments.logs import absl_level
from experiments.provenance import provenance

Location = str | os.PathLike[str]
"""A working directory: its path, or the `Workdir` that `open_workdir` returned."""

STATUSES = ("running", "finished", "diverged", "interrupted")

_NUM_CHECKPOINTS = 2
_NUM_DIFFERENCES = 5

Tree = TypeVar("Tree")


class ForeignWorkdirError(ValueError):
    """The folder holds something else than a run of this configuration."""


class CorruptCheckpointError(RuntimeError):
    """A checkpoint cannot be read. The message names it."""


class Workdir(NamedTuple):
    """An open working directory; usable wherever a path is.

    path: the folder.    resumed: whether an earlier start of this run left it behind.
    """

    path: Path
    resumed: bool

    def __fspath__(self) -> str:
        return os.fspath(self.path)


# The folder.


def open_workdir(
    workdir: Location, config: Mapping[str, Any], argv: Sequence[str]
) -> Workdir:
    """Create a run's folder, or open it again to resume that run.

    Args:
      workdir: the folder; made when missing.
      config: the whole configuration, nested, of JSON values (tuples become lists).
      argv: the command line, for the provenance.

    Raises:
      ForeignWorkdirError: the folder is not empty and holds no run, or the run of
        another configuration. Nothing in it is touched.
    """
    path = Path(workdir)
    resumed = is_run_of(path, config)
    path.mkdir(parents=True, exist_ok=True)
    if not resumed:
        json_values.write_file(path / "config.json", config)
    # A run killed in its first moments has a configuration and no provenance.
    earlier = read_provenance(path) if (path / "provenance.json").exists() else []
    runs = [*earlier, provenance(argv)]
    json_values.write_file(path / "provenance.json", {"runs": runs})
    return Workdir(path, resumed)


def is_run_of(workdir: Location, config: Mapping[str, Any]) -> bool:
    """Tell a run of `config` (True) from a fresh folder (False); refuse all else.

    Raises:
      ForeignWorkdirError: as `open_workdir`.
    """
    path = Path(workdir)
    if not path.exists() or not any(path.iterdir()):
        return False
    if not (path / "config.json").exists():
        raise ForeignWorkdirError(
            f"{path} is not empty and holds no run; choose another working directory"
        )
    differences = _differences(read_config(path), config)
    if differences:
        shown = differences[:_NUM_DIFFERENCES]
        if len(differences) > len(shown):
            shown.append(f"and {len(differences) - len(shown)} more")
        raise ForeignWorkdirError(
            f"{path} holds a run of another configuration:\n"
            + "".join(f"    {difference}\n" for difference in shown)
            + "Choose another working directory, or resume with that configuration."
        )
    return True


_ADDED = {"optimizer.skip_not_finite": "false"}
"""Fields that older runs' configurations lack, and what they ran with, as JSON."""


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name each field in which two configurations differ, with both values as JSON."""
    there, here = _fields(old), _fields(new)
    pairs = {
        name: (there.get(name, _ADDED.get(name, "nothing")), here.get(name, "nothing"))
        for name in sorted(there.keys() | here.keys())
    }
    return [f"{name}: {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]


def _fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a configuration by dotted names, as JSON."""
    flat = json_values.flatten(json_values.encode(config))
    return {name: json.dumps(value) for name, value in flat.items()}


def read_config(workdir: Location) -> dict[str, Any]:
    """Read the configuration of a run."""
    return json_values.read_file(Path(workdir) / "config.json")


def read_provenance(workdir: Location) -> list[dict[str, Any]]:
    """Read one description for each time that the run was started or resumed."""
    return json_values.read_file(Path(workdir) / "provenance.json")["runs"]


def write_status(workdir: Location, status: str, **details: Any) -> None:
    """Replace the run's status; a reader never sees half of it.

    On a full disk it is written over the old one instead.

    Args:
      workdir: the run's folder.
      status: one of `STATUSES`.
      **details: more fields, of JSON values.
    """
    if status not in STATUSES:
        raise ValueError(
            f"unknown status {status!r}; known ones: {', '.join(STATUSES)}"
        )
    path, value = Path(workdir) / "status.json", {"status": status, **details}
    try:
        json_values.write_file(path, value)
    except OSError as error:
        if error.errno != errno.ENOSPC or not path.exists():
            raise
        json_values.overwrite_file(path, value)


def read_status(workdir: Location) -> dict[str, Any]:
    """Read the run's status and its details."""
    return json_values.read_file(Path(workdir) / "status.json")


# Metrics.


def append_metrics(workdir: Location, line: Mapping[str, Any]) -> None:
    """Write the metrics of one logged step; they outlive a killed process.

    Args:
      workdir: the run's folder.
      line: names like "loss/full" to a number, a string, a truth value, None, or a
        short list of these, or of such lists; an array counts as such. Numbers are
        written exactly.

    Raises:
      TypeError: a value is none of these.
    """
    values = {name: _metric(name, value) for name, value in line.items()}
    with _metrics_path(workdir).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values, allow_nan=False) + "\n")


def _metric(name: str, value: Any) -> Any:
    """Return a metric as a JSON value, or say why it is none."""
    if hasattr(value, "tolist"):
        value = np.asarray(value).tolist()
    if not _is_plain(value):
        raise TypeError(
            f"metric {name!r} must be a scalar, a string or a list; got {value!r}"
        )
    return json_values.encode(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | None)


def metrics_offset(workdir: Location) -> int:
    """Return the size of the metrics in bytes: what a checkpoint has to remember."""
    path = _metrics_path(workdir)
    return path.stat().st_size if path.exists() else 0


def truncate_metrics(workdir: Location, offset: int) -> None:
    """Forget the metrics written after a checkpoint that remembered `offset` bytes."""
    size = metrics_offset(workdir)
    if size < offset:
        raise ValueError(
            f"the checkpoint knows {offset} bytes of metrics; only {size} are left"
        )
    if size > offset:
        os.truncate(_metrics_path(workdir), offset)


def read_metrics(workdir: Location) -> list[dict[str, Any]]:
    """Read all metrics, oldest first; a last line cut off by a crash is left out."""
    path = _metrics_path(workdir)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole_lines = text.split("\n")[:-1]
    return [json_values.decode(json.loads(line)) for line in whole_lines]


def _metrics_path(workdir: Location) -> Path:
    return Path(workdir) / "metrics.jsonl"


# Checkpoints.


def save_checkpoint(
    workdir: Location, step_id: int, tree: Any, metadata: Mapping[str, Any]
) -> None:
    """Save the state of a run; returns when it is on disk, and keeps the last two.

    Args:
      workdir: the run's folder.
      step_id: larger than that of every checkpoint so far.
      tree: a pytree of arrays, none of them empty or a typed PRNG key. It comes back
        bit for bit.
      metadata: a JSON object, like {"metrics_offset": 12345}.

    Raises:
      ValueError: `step_id` is not larger than the last one.
    """
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(tree),
        metadata=ocp.args.JsonSave(json_values.encode(metadata)),
    )
    # Only here: the cleaning runs in a thread, which `save` alone waits for, and two
    # managers that clean one folder trip over each other.
    with _checkpoint_manager(workdir, cleanup_tmp_directories=True) as manager:
        latest = manager.latest_step()
        if latest is not None and step_id <= latest:
            raise ValueError(
                f"checkpoint {step_id} must come after the last one, {latest}"
            )
        manager.save(step_id, args=items)


def restore_checkpoint(
    workdir: Location, like_tree: Tree, *, skip_corrupt: bool = False
) -> tuple[Tree, dict[str, Any]] | None:
    """Return the latest checkpoint's tree and metadata; None when there is none.

    Args:
      workdir: the run's folder.
      like_tree: a tree of the same structure and shapes, of arrays or of
        `jax.ShapeDtypeStruct`; its dtypes are those of the result.
      skip_corrupt: delete checkpoints that cannot be read, and take the last good one.

    Raises:
      CorruptCheckpointError: the latest one (with `skip_corrupt`, each one) cannot be
        read, or holds a tree of another structure or shape.
    """
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(_abstract(like_tree)),
        metadata=ocp.args.JsonRestore(),
    )
    with _checkpoint_manager(workdir) as manager:
        step_ids = sorted(manager.all_steps(), reverse=True)
        for step_id in step_ids:
            path = _steps_path(workdir) / str(step_id)
            try:
                restored = manager.restore(step_id, args=items)
                metadata = json_values.decode(restored["metadata"])
            except Exception as error:  # of orbax, tensorstore, JSON, the file system
                if not skip_corrupt or step_id == step_ids[-1]:
                    raise _corrupt(path, error) from error
                logging.getLogger(__name__).warning("%s", _corrupt(path, error))
                manager.delete(step_id)
            else:
                return restored["state"], metadata
    return None


def _corrupt(path: Path, error: Exception) -> CorruptCheckpointError:
    """Say which checkpoint cannot be read, and why."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return CorruptCheckpointError(f"checkpoint {path} cannot be read: {reason[0]}")


def save_named(workdir: Location, name: str, tree: Any) -> None:
    """Save a tree under a name, for good; one of that name is replaced."""
    with absl_level(logging.ERROR), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(_named_path(workdir, name), tree, force=True)


def restore_named(workdir: Location, name: str, like_tree: Tree) -> Tree:
    """Return the tree saved under a name; `like_tree` as for `restore_checkpoint`.

    Raises:
      FileNotFoundError: there is none.
      CorruptCheckpointError: it cannot be read.
    """
    path = _named_path(workdir, name)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint named {name!r} in {path.parent}")
    with absl_level(logging.ERROR), ocp.StandardCheckpointer() as checkpointer:
        try:
            return checkpointer.restore(path, _abstract(like_tree))
        except Exception as error:
            raise _corrupt(path, error) from error


@contextmanager
def _checkpoint_manager(
    workdir: Location, *, cleanup_tmp_directories: bool = False
) -> Iterator[ocp.CheckpointManager]:
    """Open orbax's manager of the step checkpoints, silently."""
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(_NUM_CHECKPOINTS),
        enable_async_checkpointing=False,
        cleanup_tmp_directories=cleanup_tmp_directories,
    )
    with (
        absl_level(logging.ERROR),
        ocp.CheckpointManager(_steps_path(workdir), options=options) as manager,
    ):
        yield manager


def _steps_path(workdir: Location) -> Path:
    return Path(workdir).absolute() / "checkpoints" / "steps"


def _named_path(workdir: Location, name: str) -> Path:
    return Path(workdir).absolute() / "checkpoints" / "named" / name


def _abstract(tree: Any) -> Any:
    """Return shapes, dtypes and shardings, so that restoring frees the example."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
