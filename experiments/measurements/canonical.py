"""The coordinates in which gradient descent's paths fall on one curve."""

import jax
import jax.numpy as jnp
import ml_collections

from experiments.measurements.record import Metrics, Record, Setting

LARGEST_SET = 200
"""Training examples; the kernel is theirs by theirs."""


def canonical(record: Record, setting: Setting) -> Metrics:
    """P and q of a network with one output (Song and Yun 2023, arXiv:2307.04204).

    With J the Jacobian of the N outputs, z their residuals f - y, and w the leading
    unit eigenvector of J J^T, of the sign at which its entries sum to 0 or more:

    - q = 2 N / (eta lambda_max(J J^T)), eta the step's learning rate;
    - p = <w, z> / sqrt(N); of one example it is the residual;
    - concentration = N sum_i w_i^4, 1 where all examples have one weight.

    Of several examples the form of p is ours. Near p = 0 a step is p <- (1 - 2 / q) p;
    with z = sqrt(N) p w and l'(z) = z (1 - c z^2 + ...) the next order is that of one
    example at p sqrt(concentration).
    """
    task, train = setting.task, setting.train
    params = record.params

    def outputs(params: object, one: object) -> jax.Array:
        data = jax.tree.map(lambda x: x[None], one)
        return task.predict_fn(params, data)[0, 0]

    with jax.default_matmul_precision("highest"):
        values, rows = jax.vmap(jax.value_and_grad(outputs), (None, 0))(params, train)
    residuals = values - train["labels"][:, 0]
    num = len(residuals)
    parts = [leaf.reshape(num, -1) for leaf in jax.tree.leaves(rows)]
    with jax.default_matmul_precision("highest"):
        kernel = sum(part @ part.T for part in parts)
    eigenvalues, vectors = jnp.linalg.eigh(kernel)
    w = vectors[:, -1] * jnp.where(jnp.sum(vectors[:, -1]) < 0, -1, 1)
    return {
        "canonical/p": w @ residuals / jnp.sqrt(num),
        "canonical/q": 2 * num / (record.learning_rate * eigenvalues[-1]),
        "canonical/concentration": num * jnp.sum(w**4),
    }


_LOSSES = ("half_squared_error", "log_cosh", "sqrt")


def check(config: ml_collections.ConfigDict, num_outputs: int, num_train: int) -> None:
    """Raise ValueError where p and q would not mean what they say."""
    optimizer, task = config.optimizer, config.task
    others = ("sam_rho", "clip_norm", "weight_decay")
    if optimizer.name not in ("sgd", "gd") or any(optimizer[name] for name in others):
        raise ValueError(
            "measure.canonical is for plain gradient descent: optimizer.name 'gd' or "
            f"'sgd' without {', '.join(others)}."
        )
    if task.loss not in _LOSSES or task.ridge:
        raise ValueError(
            "measure.canonical is for losses whose second derivative at 0 is 1, "
            f"without task.ridge: {', '.join(_LOSSES)}; got {task.loss!r}."
        )
    if num_outputs != 1:
        raise ValueError(
            f"measure.canonical is for one output, not {num_outputs}: set task.classes."
        )
    if num_train > LARGEST_SET:
        raise ValueError(
            f"measure.canonical is for at most {LARGEST_SET} training examples, got "
            f"{num_train}."
        )
