"""What is measured: pure functions of one record, each a flat dict of arrays.

`MEASUREMENTS` lists them by the names that a config's `measure` gives a cadence to.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections

from experiments.measurements import (
    blocks,
    canonical,
    curvature,
    density,
    energy,
    smoothness,
    stability,
    training,
)
from experiments.measurements.record import Metrics as Metrics
from experiments.measurements.record import Record as Record
from experiments.measurements.record import Setting as Setting
from experiments.tasks import Task


class Measurement(NamedTuple):
    """A measurement and what it costs.

    function: `(record, setting) -> metrics`, or, of one that has a memory, `(record,
    setting, memory) -> (metrics, memory)`. products: in Hessian-vector products, in
    words; the record itself costs one gradient of the full loss. no_memory: `(params,
    setting) -> memory` before the first time; None of one without a memory.
    """

    function: Callable[..., Any]
    products: str = "none"
    no_memory: Callable[[Any, Setting], Any] | None = None

    def take(
        self, record: Record, setting: Setting, memory: Any
    ) -> tuple[Metrics, Any]:
        """Return the metrics and the next memory, () of a measurement without one."""
        if self.no_memory is None:
            return self.function(record, setting), ()
        return self.function(record, setting, memory)


MEASUREMENTS: Mapping[str, Measurement] = {
    "losses": Measurement(training.losses),
    "held_out": Measurement(training.held_out),
    "alignments": Measurement(training.alignments),
    "certificate": Measurement(training.certificate),
    "cost": Measurement(training.cost),
    "sharpness": Measurement(training.sharpness),
    "effective_rates": Measurement(training.effective_rates),
    "drift": Measurement(training.drift, no_memory=training.no_basis),
    "spectrum": Measurement(
        curvature.spectrum, "2 k to 5 k", no_memory=curvature.no_spectrum
    ),
    "descent": Measurement(curvature.descent, "2"),
    "trace": Measurement(curvature.trace, f"k + {curvature.NUM_PROBES}"),
    "energy": Measurement(energy.energy, f"2 k + {2 * energy.NUM_PROBES + 4}"),
    "split": Measurement(energy.split, f"2 k to 10 k + {2 * energy.END_BUDGET}"),
    "density": Measurement(density.density, f"{3 * density.PROBES * density.STEPS}"),
    "blocks": Measurement(blocks.blocks, "2 k to 10 k a block"),
    "block_density": Measurement(
        density.block_density, f"{density.PROBES * density.STEPS} of a block"
    ),
    "components": Measurement(blocks.components),
    "exact": Measurement(curvature.exact, "k to 5 k"),
    "noise": Measurement(curvature.noise, "k"),
    "effective_sharpness": Measurement(curvature.effective_sharpness, "about 20"),
    "smoothness": Measurement(smoothness.smoothness, "1"),
    "canonical": Measurement(canonical.canonical, "a gradient an example"),
    "conditioning": Measurement(smoothness.conditioning, "one a parameter"),
    "bulk_sharpness": Measurement(stability.bulk_sharpness, "about 20"),
}


def chosen(config: ml_collections.ConfigDict) -> dict[str, int]:
    """Return the measurements that a config takes: name to cadence, in logged lines."""
    return {name: every for name, every in config.measure.items() if every}


def initial_memories(params: Any, setting: Setting) -> dict[str, Any]:
    """Return the memories of those that a run takes, by their names."""
    makers = {name: MEASUREMENTS[name].no_memory for name in chosen(setting.config)}
    return {name: make(params, setting) for name, make in makers.items() if make}


def check(config: ml_collections.ConfigDict, task: Task) -> None:
    """Raise ValueError for a measurement that the run cannot take."""
    for name, every in config.measure.items():
        if every < 0:
            raise ValueError(f"measure.{name} must be at least 0, got {every}.")
    taken = chosen(config)
    if task.source is not None and not config.subspace.num_examples:
        for name in taken:
            if MEASUREMENTS[name].products != "none":
                raise ValueError(
                    f"measure.{name} takes products with the Hessian of examples in "
                    "device memory: with task.streamed, set subspace.num_examples."
                )
    if "exact" in taken and task.source is not None:
        raise ValueError(
            "measure.exact needs all training examples in device memory: not with "
            "task.streamed."
        )
    if "held_out" in taken and task.test is None:
        raise ValueError("measure.held_out needs a test set, and this task has none.")
    if "blocks" in taken or "block_density" in taken:
        blocks.check(config, task)
    if "conditioning" in taken:
        leaves = jax.tree.leaves(params_of(task))
        smoothness.check_size(sum(leaf.size for leaf in leaves))
    if "canonical" in taken:
        outputs = jax.eval_shape(task.predict_fn, params_of(task), task.train)
        canonical.check(config, outputs.shape[-1], task.num_train)
    if "components" in taken and task.mixture is None:
        raise ValueError("measure.components is that of a mixture's components.")
    adam = config.optimizer.name in ("adam", "adamw")
    if "effective_sharpness" in taken and not adam:
        raise ValueError(
            "measure.effective_sharpness is that of adam or adamw, not of "
            f"{config.optimizer.name!r}."
        )


def params_of(task: Task) -> Any:
    """Return the shapes of a task's params."""
    return jax.eval_shape(task.init, jax.random.key(0))
