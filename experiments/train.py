"""The one training loop.

A run is a warm-up, until the gradient has aligned with the dominant space, and then
branches (plain, dom, bulk, interpolated) that all start from the one state at the
switch: parameters, optimizer buffers, eigenbasis and data order. With several seeds
each one switches when its own time has come; the branches start when all have.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from experiments import (
    curvature_check,
    measurements,
    optimizers,
    records,
    sinks,
    streamed,
)
from experiments.programs import Programs, programs
from experiments.steps import NOT_DIVERGED, Branch, has_epochs
from experiments.tasks import Task, make_task

WARMUP = "warmup"
_NUM_CHECKED = 8  # examples of the check of curvature products


class Terminated(Exception):
    """The process was told to end (SIGTERM); the state is saved."""


def run(
    config: ml_collections.ConfigDict,
    workdir: str,
    argv: Sequence[str] = (),
    *,
    from_older_checkpoint: bool = False,
) -> dict[str, Any]:
    """Train as the config says, or resume, and leave the records in `workdir`.

    SIGTERM, as preempted machines get it, saves the state at the next line.

    Args:
      config: the experiment.
      workdir: the run's folder, new or that of an interrupted run.
      argv: the command line, for the provenance.
      from_older_checkpoint: resume from the last checkpoint that can be read.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
      CorruptCheckpointError: if the latest checkpoint cannot be read.
      CurvatureError: if products with the task's Hessian are wrong.
      MissingDatasetError: if the data set is not on disk.
      MissingPackageError: if the config asks for a sink that is not installed.
      ValueError: if a config field is out of range.
    """
    check(config)
    num_kept = max(config.subspace.num_examples, _NUM_CHECKED)
    task = make_task(config.task, num_kept)
    check_fit(config, task)
    folder = records.open_workdir(workdir, config.to_dict(), argv)
    # A run has a status once it has passed: one that failed is checked again.
    if config.check_curvature and not (folder.path / "status.json").exists():
        few = jax.tree.map(lambda x: x[:_NUM_CHECKED], task.train)
        params = task.init(jax.random.key(config.seed))
        curvature_check.check_products(task.loss_fn, params, few)
    if (folder.path / "status.json").exists():
        status = records.read_status(folder)
        if status["status"] in ("finished", "diverged"):
            return status
    return _Run(config, task, folder.path).finish(from_older_checkpoint)


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a config that cannot be run on any task.

    Raises:
      MissingPackageError: if it asks for a sink that is not installed.
    """
    unknown = set(config.modes) - set(optimizers.WEIGHTS)
    if unknown:
        known = ", ".join(sorted(optimizers.WEIGHTS))
        raise ValueError(f"unknown modes {sorted(unknown)}; known ones: {known}")
    if config.checkpoint_every % config.log_every:
        raise ValueError(
            f"checkpoint_every must be a multiple of log_every = {config.log_every}, "
            f"got {config.checkpoint_every}."
        )
    for field in ("steps", "batch_size", "log_every", "checkpoint_every", "seeds"):
        if config[field] < 1:
            raise ValueError(f"{field} must be at least 1, got {config[field]}.")
    if config.noise_free_steps:
        _check_noise_free(config)
    if config.task.fresh:
        _check_fresh(config)
    optimizers.check(config)
    if config.task.streamed:
        streamed.check(config)
    sinks.check(config)


def _check_noise_free(config: ml_collections.ConfigDict) -> None:
    steps = config.noise_free_steps
    if len(steps) != 2 or not 0 <= steps[0] < steps[1]:
        raise ValueError(
            f"noise_free_steps must be (first, last), first < last, got {steps}."
        )
    if optimizers.is_full_batch(config.optimizer) or config.optimizer.sam_rho:
        raise ValueError(
            "noise_free_steps replaces a mini-batch's gradient: not with full batches, "
            "nor with SAM, whose second gradient is the mini-batch's."
        )


def _check_fresh(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for what takes the fixed training set for what is trained on."""
    if optimizers.is_full_batch(config.optimizer) or config.noise_free_steps:
        raise ValueError(
            "task.fresh draws the examples of each step: there is no full batch of "
            "them, as optimizer.name 'gd' and noise_free_steps need it."
        )
    if config.subspace.examples == "other_batch":
        raise ValueError(
            "subspace.examples = 'other_batch' draws from the training set, and "
            "task.fresh from elsewhere."
        )


def check_fit(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raise ValueError for a config that this task cannot run; nothing is compiled."""
    if has_epochs(config, task) and config.batch_size > task.num_train:
        raise ValueError(
            f"batch_size {config.batch_size} exceeds the {task.num_train} examples."
        )
    if config.subspace.num_examples > task.num_train:
        raise ValueError(
            f"subspace.num_examples {config.subspace.num_examples} exceeds the "
            f"{task.num_train} examples."
        )
    measurements.check(config, task)
    # The shapes alone; builds the optimizer, which checks its own names and ranges.
    state = jax.eval_shape(_programs(config, task).initial_state)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    num_parameters //= config.seeds
    if config.subspace.k > num_parameters:
        raise ValueError(
            f"subspace.k = {config.subspace.k} exceeds the {num_parameters} parameters."
        )


def _programs(config: ml_collections.ConfigDict, task: Task) -> Programs:
    if task.source is not None:
        return streamed.programs(config, task, task.source)
    return programs(config, task)


class _Run:
    """A run in progress: what the host keeps between chunks.

    elapsed: steps since the branch started, of the members that are still going.
    switch_steps: [seeds], -1 where there was no switch.
    """

    def __init__(self, config: ml_collections.ConfigDict, task: Task, workdir: Path):
        self.config = config
        self.task = task
        self.workdir = workdir
        self.programs = _programs(config, task)
        self.compiled: Any = None
        self.state = jax.jit(self.programs.initial_state)()
        self.branch = WARMUP
        self.elapsed = 0
        self.switch_steps = np.full(config.seeds, -1)
        self.branches: dict[str, list[dict[str, Any]]] = {}
        self.seconds_before = 0.0
        self.started = time.perf_counter()
        self.parts = [WARMUP, *config.modes]

    def finish(self, from_older_checkpoint: bool) -> dict[str, Any]:
        """Train to the end from wherever the records are; return the final status."""
        self._restore(from_older_checkpoint)
        self._write_status("running")
        try:
            with (
                _termination() as self.terminated,
                sinks.opened(self.config, self.workdir) as self.to_sinks,
            ):
                for branch in self._remaining():
                    self._train(branch)
        except Terminated:
            self._write_status("interrupted", branch=self.branch)
            return records.read_status(self.workdir)
        except BaseException as error:
            self._write_status("interrupted", branch=self.branch, error=f"{error!r}")
            raise
        diverged = [
            {"branch": name, "step": outcome["step"]}
            for name, outcomes in self.branches.items()
            for outcome in outcomes
            if outcome["status"] == "diverged"
        ]
        if diverged:
            self._write_status("diverged", **diverged[0])
        else:
            self._write_status("finished")
        return records.read_status(self.workdir)

    def _remaining(self) -> Iterator[str]:
        """Yield the branches to train, beginning with the one the state belongs to."""
        for name in self.parts[self.parts.index(self.branch) :]:
            if name == WARMUP:
                yield name
            elif np.any(self.switch_steps >= 0):
                if name != self.branch:
                    self.state = records.restore_named(
                        self.workdir, "switch", self.state
                    )
                    self.branch, self.elapsed = name, 0
                yield name

    def _train(self, name: str) -> None:
        """Train one branch to its end: the last step, the switch, or divergence."""
        config, branch = self.config, self._branch(name)
        going = self._members(self.programs.going(self.state, branch))
        with tqdm(
            total=config.steps,
            initial=int(np.max(self._members(self.state.step))),
            desc=name,
            unit="step",
            disable=None,  # no bar where stderr is not a terminal
        ) as bar:
            while np.any(going):
                going = self._chunk(name, branch, going, bar)
                if np.any(going):
                    told_to_end = self.terminated.is_set()
                    if told_to_end or self.elapsed % config.checkpoint_every == 0:
                        self._checkpoint()
                    if told_to_end:
                        raise Terminated
        self._note_end(name)
        if name == WARMUP and np.any(self.switch_steps >= 0):
            records.save_named(self.workdir, "switch", self.state)
        self._measure_end(name, branch)
        self._write_status("running")

    def _branch(self, name: str) -> Branch:
        """Return what the compiled chunk has to know of a branch."""
        mode = "plain" if name == WARMUP else name
        weights = optimizers.projection_weights(self.config, mode)
        ends = optimizers.projection_ends(self.config, mode)
        takes_part = (name == WARMUP) | (self.switch_steps >= 0)
        last_step = np.where(takes_part, self.config.steps, 0).astype(np.int32)
        last = jnp.asarray(last_step if self.config.seeds > 1 else last_step[0])
        dom, bulk = map(jnp.float32, weights)
        dom_end, bulk_end = map(jnp.float32, ends)
        is_warmup = jnp.asarray(name == WARMUP)
        # Arguments, so that runs at other learning rates share a compiled program.
        rates = optimizers.rates(self.config.optimizer)
        rates = optimizers.Rates(*map(jnp.float32, rates))
        return Branch(dom, bulk, is_warmup, last, dom_end, bulk_end, rates)

    def _chunk(self, name: str, branch: Branch, going: Any, bar: Any) -> Any:
        """Train to the next line; return which members go on from there."""
        before = self._members(self.state.step)
        every = self.config.log_every
        num_steps = every - self.elapsed % every
        line = self.elapsed // every
        due = {
            measurement: line % cadence == 0
            for measurement, cadence in measurements.chosen(self.config).items()
        }
        self._advance(name, branch, num_steps, due, going)
        after = self._members(self.state.step)
        self.elapsed += num_steps
        bar.update(int(np.max(after - before)))
        return self._members(self.programs.going(self.state, branch))

    def _advance(
        self, name: str, branch: Branch, num_steps: int, due: dict, going: Any
    ) -> None:
        """Run a chunk on the device and log its first step, a line a member."""
        steps = self._members(self.state.step)
        arguments = (
            self.state,
            branch,
            np.int32(num_steps),
            {measurement: np.bool_(is_due) for measurement, is_due in due.items()},
            self.task.train,
            self.task.test,
        )
        if self.compiled is None:
            self.compiled = self.programs.compile_chunk(*arguments)
        self.state, metrics = self.compiled(*arguments)
        taken = {
            k: v for m, values in metrics.items() if due[m] for k, v in values.items()
        }
        taken = jax.tree.map(self._members, jax.device_get(taken))
        for member in np.flatnonzero(going):
            values = {key: value[member] for key, value in taken.items()}
            line = {
                "branch": name,
                "seed": self.config.seed + int(member),
                "step": int(steps[member]),
                **values,
                "time/seconds": self._seconds(),
            }
            records.append_metrics(self.workdir, line)
            self.to_sinks(line)

    def _note_end(self, name: str) -> None:
        """Note how each member's branch ended, and where the warm-up switched."""
        steps = self._members(self.state.step)
        diverged_at = self._members(self.state.diverged_at)
        engaged = self._members(optimizers.switch_state(self.state.opt_state).engaged)
        outcomes: list[dict[str, Any]] = []
        for member in range(self.config.seeds):
            if name != WARMUP and self.switch_steps[member] < 0:
                outcomes.append({"status": "not started", "step": None})
            elif diverged_at[member] != NOT_DIVERGED:
                outcomes.append(
                    {"status": "diverged", "step": int(diverged_at[member])}
                )
            else:
                outcomes.append({"status": "finished", "step": int(steps[member])})
                if name == WARMUP and engaged[member]:
                    self.switch_steps[member] = steps[member]
        self.branches[name] = outcomes

    def _measure_end(self, name: str, branch: Branch) -> None:
        """Log the state after the last step: one more measured step, thrown away."""
        at_end = self._members(self.state.step) >= self.config.steps
        healthy = self._members(self.state.diverged_at) == NOT_DIVERGED
        takes_part = self._members(branch.last_step) > 0
        ended = at_end & healthy & takes_part
        if not np.any(ended):
            return
        state = self.state
        self.state = jax.tree.map(jnp.copy, state)
        due = dict.fromkeys(measurements.chosen(self.config), True)
        further = branch._replace(last_step=branch.last_step + 1)
        self._advance(name, further, 1, due, ended)
        self.state = state

    # Records.

    def _members(self, values: Any) -> np.ndarray:
        """Return [seeds, ...], also of what has no such axis."""
        values = np.asarray(values)
        return values if self.config.seeds > 1 else values[None]

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def _write_status(self, status: str, **details: Any) -> None:
        switch_steps = [int(s) if s >= 0 else None for s in self.switch_steps]
        records.write_status(
            self.workdir,
            status,
            switch_step=switch_steps[0] if len(switch_steps) == 1 else switch_steps,
            branches={
                name: outcomes[0] if len(outcomes) == 1 else outcomes
                for name, outcomes in self.branches.items()
            },
            seconds=self._seconds(),
            **details,
        )

    def _checkpoint(self) -> None:
        position = self.parts.index(self.branch)
        records.save_checkpoint(
            self.workdir,
            position * (self.config.steps + self.config.log_every) + self.elapsed,
            self.state,
            {
                "branch": self.branch,
                "elapsed": self.elapsed,
                "switch_steps": self.switch_steps.tolist(),
                "branches": self.branches,
                "seconds": self._seconds(),
                "metrics_offset": records.metrics_offset(self.workdir),
            },
        )

    def _restore(self, from_older_checkpoint: bool) -> None:
        """Go back to the latest checkpoint, and the metrics to what it knew."""
        restored = records.restore_checkpoint(
            self.workdir, self.state, skip_corrupt=from_older_checkpoint
        )
        offset = 0
        if restored is not None:
            self.state, known = restored
            self.branch = known["branch"]
            self.elapsed = known["elapsed"]
            self.switch_steps = np.asarray(known["switch_steps"])
            self.branches = known["branches"]
            self.seconds_before = known["seconds"]
            offset = known["metrics_offset"]
        records.truncate_metrics(self.workdir, offset)


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; where handlers cannot be set, nothing does."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
