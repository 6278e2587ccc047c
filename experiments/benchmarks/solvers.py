"""What a solver is to the benchmark, and which ones there are."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.problems import Instance


class Solution(NamedTuple):
    """What a solver found.

    eigenvalues: [k]. vectors: [k, n], one eigenvector a row. num_matvecs: products
    taken. error_bound: on the largest sine to the exact space, where one is given.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray
    num_matvecs: int
    error_bound: float | None = None


class Solver(NamedTuple):
    """A solver made ready for one instance; everything in it waits for its results.

    solve: finds the eigenpairs, in its own format. read: makes a `Solution` of that.
    take_products: takes that many Hessian-vector products, as fast as the solver could.
    loss: the loss as the solver sees it. product: H v for a flat v [n].
    planned_bytes: what the compiler reserves beside its arguments, where it tells.
    """

    solve: Callable[[], Any]
    read: Callable[[Any], Solution]
    take_products: Callable[[int], None]
    loss: Callable[[], float]
    product: Callable[[np.ndarray], np.ndarray]
    planned_bytes: int | None = None


Setup = Callable[[Instance, int], Callable[[], Solver]]
"""`(instance, k)` -> `build`: imports and moves arrays; calling `build` compiles."""


class Description(NamedTuple):
    """A solver in words. packages: what it needs beside the library's own needs."""

    label: str
    settings: str
    packages: tuple[str, ...] = ()


_JAX: Mapping[str, Description] = {
    "ours": Description("dominant.top_eigenspace", "cold, tol 1e-3; gap certified"),
    "eigsh-jax": Description(
        "SciPy eigsh, JAX products", "which='LA', tol 1e-3", ("scipy",)
    ),
    "matfree-30": Description(
        "matfree, Lanczos", "30 steps, full reorthogonalization", ("matfree",)
    ),
    "matfree-tol": Description(
        "matfree, Lanczos",
        "as many steps as reach 1e-3, known beforehand and free of charge",
        ("matfree",),
    ),
    "lobpcg": Description(
        "JAX lobpcg_standard", "default tolerance, at most 100 iterations"
    ),
    "lobpcg-tol": Description(
        "JAX lobpcg_standard",
        "tol 1e-3 / (20 n), a relative residual of 1e-3; at most 100 iterations",
    ),
}
_TORCH: Mapping[str, Description] = {
    "eigsh-torch": Description(
        "SciPy eigsh, PyTorch products",
        "which='LA', tol 1e-3; gradient graph kept",
        ("scipy", "torch"),
    ),
    "eigsh-torch-papers": Description(
        "SciPy eigsh, PyTorch products, the papers' way",
        "which='LA', tol 0 (the default, machine precision); each product "
        "differentiates twice, in chunks of 1,000 examples",
        ("scipy", "torch"),
    ),
    "curvlinops": Description(
        "curvlinops + SciPy eigsh",
        "which='LA', tol 1e-3; float32",
        ("scipy", "torch", "curvlinops-for-pytorch"),
    ),
    "pyhessian": Description(
        "PyHessian, power iteration",
        "defaults: tol 1e-3 on the eigenvalue's change, at most 100 iterations each; "
        "largest magnitude",
        ("torch", "pyhessian"),
    ),
    "pyhessian-tight": Description(
        "PyHessian, power iteration",
        "tol 1e-6 on the eigenvalue's change, at most 300 iterations each; "
        "largest magnitude",
        ("torch", "pyhessian"),
    ),
}
SOLVERS: Mapping[str, Description] = {**_JAX, **_TORCH}
"""By name, our own first."""


def find(name: str) -> Setup:
    """Return a solver's setup, importing its framework and no other.

    Raises:
      ModuleNotFoundError: if the framework is not installed.
    """
    if name in _JAX:
        from experiments.benchmarks import jax_solvers

        return jax_solvers.SETUPS[name]
    from experiments.benchmarks import torch_solvers

    return torch_solvers.SETUPS[name]
