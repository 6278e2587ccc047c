"""What is solved: Hessians of one loss at trained parameters, as files.

A `Problem` says how to make the parameters, an `Instance` is what came out. Instances
travel between processes as .npz files; nothing here imports JAX or PyTorch, so that a
process that measures one of them does not carry the other.

Vectors are flat here, [n] with each layer's bias before its kernel: the order of the
leaves of the JAX parameters.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from configs import quickstart
from configs.tiny_subspaces import mlp_mnist

K = 10
TOL = 1e-3
"""The relative residual asked of every solver that can be asked for one."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A tanh MLP after SGD on half the summed squared error.

    standardize: whether each pixel is shifted and scaled to mean 0 and variance 1.
    """

    dataset: str
    num_train: int
    hidden_sizes: tuple[int, ...]
    learning_rate: float
    steps: int
    standardize: bool = False
    batch_size: int = 50


_MNIST = Problem(
    dataset="mnist",
    num_train=mlp_mnist.get_config().task.num_train,
    hidden_sizes=mlp_mnist.get_config().task.hidden_sizes,
    learning_rate=0.01,
    steps=1500,
)
_DIGITS = Problem(
    dataset="digits",
    num_train=quickstart.get_config().task.num_train,
    hidden_sizes=quickstart.get_config().task.hidden_sizes,
    learning_rate=quickstart.get_config().optimizer.learning_rate,
    steps=1500,
)

PROBLEMS: Mapping[str, Problem] = {
    "digits": _DIGITS,
    "mnist-lr0.01": _MNIST,
    "mnist-lr0.1": dataclasses.replace(_MNIST, learning_rate=0.1),
    # The eigenvalues on either side of the cut are a few percent apart.
    "mnist-standardized": dataclasses.replace(
        _MNIST, learning_rate=0.1, standardize=True
    ),
}
QUICK: Mapping[str, Problem] = {
    "quick": Problem("digits", 300, (16,), learning_rate=0.1, steps=300)
}


class Point(NamedTuple):
    """One point of a growth curve: what to solve, and for how many eigenpairs."""

    problem: Problem
    k: int


_TRAINED_BRIEFLY = dataclasses.replace(_MNIST, learning_rate=0.1, steps=200)

GROWTH: Mapping[str, Sequence[Point]] = {
    # 1e4 to 1e7, for few examples: products are cheap, work on the vectors shows.
    "parameters": [
        Point(
            dataclasses.replace(
                _TRAINED_BRIEFLY, num_train=100, hidden_sizes=(width, width)
            ),
            K,
        )
        for width in (12, 36, 110, 280, 680, 1450, 2800)
    ],
    "examples": [
        Point(dataclasses.replace(_TRAINED_BRIEFLY, num_train=num_train), K)
        for num_train in (1000, 2000, 5000, 10_000, 20_000, 50_000)
    ],
    "k": [
        Point(dataclasses.replace(_TRAINED_BRIEFLY, num_train=1000), k)
        for k in (1, 2, 5, 10, 20, 50)
    ],
}
QUICK_GROWTH: Mapping[str, Sequence[Point]] = {
    "k": [Point(QUICK["quick"], k) for k in (1, 4)]
}


class Instance(NamedTuple):
    """A problem's arrays, all float32 but for the labels.

    inputs: [N, D]. labels: [N] int32. kernels: [in, out] each. biases: [out] each.
    start: [n], a random vector for the solvers that take one. lanczos_steps: how many
    Lanczos steps from the start bring the top K to a relative residual of TOL.
    """

    inputs: np.ndarray
    labels: np.ndarray
    kernels: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    start: np.ndarray
    lanczos_steps: int | None = None

    @property
    def num_classes(self) -> int:
        """The number of outputs."""
        return self.biases[-1].shape[0]

    @property
    def num_parameters(self) -> int:
        """The dimension n of the Hessian."""
        return sum(array.size for array in (*self.kernels, *self.biases))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            num_layers = sum(name.startswith("kernel") for name in arrays)
            return cls(
                inputs=arrays["inputs"],
                labels=arrays["labels"],
                kernels=[arrays[f"kernel{i}"] for i in range(num_layers)],
                biases=[arrays[f"bias{i}"] for i in range(num_layers)],
                start=arrays["start"],
                lanczos_steps=int(arrays["lanczos_steps"]) or None,
            )

    def save(self, path: Path) -> None:
        """Write the arrays to one file."""
        layers = {f"kernel{i}": kernel for i, kernel in enumerate(self.kernels)}
        layers |= {f"bias{i}": bias for i, bias in enumerate(self.biases)}
        np.savez(
            path,
            inputs=self.inputs,
            labels=self.labels,
            start=self.start,
            lanczos_steps=np.asarray(self.lanczos_steps or 0),
            allow_pickle=False,
            **layers,
        )
