"""The one training loop.

A run is a warm-up, until the gradient has aligned with the dominant space, and then
branches (plain, dom, bulk) that all start from the one state at the switch: parameters,
optimizer buffers, eigenbasis and data order.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from experiments import optimizers, programs, records
from experiments.measurements import Metrics
from experiments.programs import NOT_DIVERGED, Branch
from experiments.tasks import Task, classification

WARMUP = "warmup"
WEIGHTS = {
    WARMUP: (1.0, 1.0),
    "plain": (1.0, 1.0),
    "dom": (1.0, 0.0),
    "bulk": (0.0, 1.0),
}
"""Each branch's weights of the dominant and the bulk part of the update."""


def run(
    config: ml_collections.ConfigDict, workdir: str, argv: Sequence[str] = ()
) -> dict[str, Any]:
    """Train as the config says, or resume, and leave the records in `workdir`.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
      MissingDatasetError: if the data set is not on disk.
      ValueError: if a config field is out of range.
    """
    check(config)
    task = classification(config.task)
    check_fit(config, task)
    folder = records.open_workdir(workdir, config.to_dict(), argv)
    if (folder.path / "status.json").exists():
        status = records.read_status(folder)
        if status["status"] in ("finished", "diverged"):
            return status
    return _Run(config, task, folder.path).finish()


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a config that cannot be run on any task."""
    unknown = set(config.modes) - (set(WEIGHTS) - {WARMUP})
    if unknown:
        known = ", ".join(sorted(set(WEIGHTS) - {WARMUP}))
        raise ValueError(f"unknown modes {sorted(unknown)}; known ones: {known}")
    for field in ("spectrum_every", "checkpoint_every"):
        if config[field] % config.log_every:
            raise ValueError(
                f"{field} must be a multiple of log_every = {config.log_every}, "
                f"got {config[field]}."
            )
    for field in ("steps", "batch_size", "log_every"):
        if config[field] < 1:
            raise ValueError(f"{field} must be at least 1, got {config[field]}.")


def check_fit(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raise ValueError for a config that this task cannot run; nothing is compiled."""
    if config.batch_size > task.num_train:
        raise ValueError(
            f"batch_size {config.batch_size} exceeds the {task.num_train} examples."
        )
    # The shapes alone; builds the optimizer, which checks its own names and ranges.
    state = jax.eval_shape(lambda: programs.initial_state(config, task))
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if config.subspace.k > num_parameters:
        raise ValueError(
            f"subspace.k = {config.subspace.k} exceeds the {num_parameters} parameters."
        )


class _Run:
    """A run in progress: what the host keeps between chunks."""

    def __init__(self, config: ml_collections.ConfigDict, task: Task, workdir: Path):
        self.config = config
        self.task = task
        self.workdir = workdir
        self.programs = programs.compile_programs(config, task)
        self.state = programs.initial_state(config, task)
        self.branch = WARMUP
        self.switch_step: int | None = None
        self.branches: dict[str, dict[str, Any]] = {}
        self.seconds_before = 0.0
        self.started = time.perf_counter()

    def finish(self) -> dict[str, Any]:
        """Train to the end from wherever the records are; return the final status."""
        self._restore()
        self._write_status("running")
        try:
            for branch in self._remaining():
                self._train(branch)
        except BaseException:
            self._write_status("interrupted", branch=self.branch)
            raise
        diverged = [
            {"branch": name, "step": outcome["step"]}
            for name, outcome in self.branches.items()
            if outcome["status"] == "diverged"
        ]
        if diverged:
            self._write_status("diverged", **diverged[0])
        else:
            self._write_status("finished")
        return records.read_status(self.workdir)

    def _remaining(self) -> Iterator[str]:
        """Yield the branches to train, beginning with the one the state belongs to."""
        names = [WARMUP, *self.config.modes]
        for name in names[names.index(self.branch) :]:
            if name == WARMUP:
                yield name
            elif self.switch_step is not None:
                if name != self.branch:
                    self.state = records.restore_named(
                        self.workdir, "switch", self.state
                    )
                    self.branch = name
                yield name

    def _train(self, name: str) -> None:
        """Train one branch to its end: the last step, the switch, or divergence."""
        config = self.config
        dom, bulk = WEIGHTS[name]
        branch = Branch(
            jnp.float32(dom), jnp.float32(bulk), jnp.asarray(name == WARMUP)
        )
        first = int(self.state.step)
        with tqdm(
            total=config.steps,
            initial=first,
            desc=name,
            unit="step",
            disable=None,  # no bar where stderr is not a terminal
        ) as bar:
            step = first
            while step < config.steps:
                slow = self._observe(step, name)
                num_steps = min(
                    _until_next(step, config.log_every), config.steps - step
                )
                self.state, metrics = self.programs.chunk(
                    self.state, branch, num_steps, self.task.train
                )
                self._log(name, step, metrics, slow, bar)
                before, step = step, int(self.state.step)
                bar.update(step - before)
                if self._ended(name):
                    break
                if step % config.checkpoint_every == 0:
                    self._checkpoint(step)
            else:
                self._measure_end(name, branch, step)
        self.branches.setdefault(name, {"status": "finished", "step": step})
        self._write_status("running")

    def _ended(self, name: str) -> bool:
        """Note a divergence, or the switch, if the chunk met one."""
        diverged_at = int(self.state.diverged_at)
        if diverged_at != NOT_DIVERGED:
            self.branches[name] = {"status": "diverged", "step": diverged_at}
            return True
        engaged = bool(optimizers.switch_state(self.state.opt_state).engaged)
        if name == WARMUP and engaged:
            self.switch_step = int(self.state.step)
            records.save_named(self.workdir, "switch", self.state)
            return True
        return False

    def _measure_end(self, name: str, branch: Branch, step: int) -> None:
        """Log the state after the last step: one more measured step, thrown away."""
        slow = self._observe(step, name)
        copy = jax.tree.map(jnp.copy, self.state)
        _, metrics = self.programs.chunk(copy, branch, 1, self.task.train)
        self._log(name, step, metrics, slow, None)

    def _observe(self, step: int, name: str) -> Metrics:
        first_of_branch = name != WARMUP and step == self.switch_step
        if step % self.config.spectrum_every and not first_of_branch:
            return {}
        return self.programs.observe(self.state, self.task.train, self.task.test)

    def _log(
        self,
        name: str,
        step: int,
        metrics: Metrics,
        slow: Metrics,
        bar: Any,
    ) -> None:
        values = jax.tree.map(np.asarray, {**metrics, **slow})
        line = {"branch": name, "step": step, **values, "time/seconds": self._seconds()}
        records.append_metrics(self.workdir, line)
        if bar is not None:
            bar.set_postfix(
                loss=f"{values['loss/full']:.4f}",
                chi=f"{values['alignment/gradient']:.3f}",
                hvps=int(values["cost/matvecs"]),
                refresh=False,
            )

    # Records.

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def _write_status(self, status: str, **details: Any) -> None:
        records.write_status(
            self.workdir,
            status,
            switch_step=self.switch_step,
            branches=self.branches,
            seconds=self._seconds(),
            **details,
        )

    def _checkpoint(self, step: int) -> None:
        position = [WARMUP, *self.config.modes].index(self.branch)
        records.save_checkpoint(
            self.workdir,
            position * (self.config.steps + 1) + step,
            self.state,
            {
                "branch": self.branch,
                "switch_step": self.switch_step,
                "branches": self.branches,
                "seconds": self._seconds(),
                "metrics_offset": records.metrics_offset(self.workdir),
            },
        )

    def _restore(self) -> None:
        """Go back to the latest checkpoint, and the metrics to what it knew."""
        restored = records.restore_checkpoint(self.workdir, self.state)
        offset = 0
        if restored is not None:
            self.state, known = restored
            self.branch = known["branch"]
            self.switch_step = known["switch_step"]
            self.branches = known["branches"]
            self.seconds_before = known["seconds"]
            offset = known["metrics_offset"]
        records.truncate_metrics(self.workdir, offset)


def _until_next(step: int, every: int) -> int:
    """Return the number of steps to the next multiple of `every`."""
    return every - step % every
