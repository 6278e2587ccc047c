"""What a run that takes seconds changes: handwritten digits, a tiny network.

Such a run says that an experiment works, not what its answer is.
"""

from typing import Any


def without(changes: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the changes but those of fields whose names begin so."""
    return {n: value for n, value in changes.items() if not n.startswith(prefix)}


MLP = {
    "steps": 60,
    "seeds": 1,
    "batch_size": 16,
    "task.dataset": "digits",
    "task.num_train": 100,
    "task.hidden_sizes": (6,),
    "optimizer.learning_rate": 0.1,
    "subspace.k": 3,
    "subspace.refresh_every": 10,
    "log_every": 5,
    "checkpoint_every": 20,
    "report_window": 10,
    "check_curvature": False,
}

# The switch comes at once.
MLP_BY_RULE = {**MLP, "switch.threshold": 0.3, "switch.min_steps": 12}

IMAGES = {
    **{name: value for name, value in MLP_BY_RULE.items() if "hidden" not in name},
    "examples_at_once": 0,
}

CNN = {**IMAGES, "task.channels": (3,)}
# For experiments whose switch is at a step.
CNN_AT_ONCE = without(CNN, "switch.")

TRANSFORMER = {
    "steps": 60,
    "seeds": 1,
    "batch_size": 16,
    "task.num_train": 60,
    "task.vocabulary_size": 100,
    "task.width": 4.0,
    "task.num_layers": 1,
    "task.num_heads": 2,
    "task.num_hidden": 4,
    "examples_at_once": 0,
    "optimizer.learning_rate": 0.1,
    "subspace.refresh_every": 10,
    "switch.threshold": 0.3,
    "switch.min_steps": 12,
    "log_every": 5,
    "checkpoint_every": 20,
    "report_window": 10,
    "check_curvature": False,
}

TRANSFORMER_AT_ONCE = without(TRANSFORMER, "switch.")
