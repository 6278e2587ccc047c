"""Solvers over JAX products: ours, SciPy's eigsh, matfree, JAX's own LOBPCG.

All but eigsh are one compiled program that linearizes the gradient once. eigsh calls
one compiled product at a time, which takes the gradient anew.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dominant
from experiments import losses, models
from experiments.benchmarks.problems import TOL, Instance
from experiments.benchmarks.solvers import Setup, Solution, Solver

LossFn = Callable[[Any, Any], jax.Array]
Build = Callable[[], Solver]

_LOBPCG_ITERATIONS = 100  # its default


def loss_fn(sizes: Sequence[int]) -> LossFn:
    """Return `(params, data) -> scalar`, half the squared error of a tanh MLP."""
    model = models.mlp(sizes, "tanh", "pytorch")

    def loss(params: Any, data: Any) -> jax.Array:
        outputs = model.apply(params, data["inputs"])
        return losses.half_squared_error(outputs, data)

    return loss


class Arrays(NamedTuple):
    """An instance on the device, and its loss."""

    loss_fn: LossFn
    params: Any
    data: Any

    @classmethod
    def of(cls, instance: Instance, dtype: Any = jnp.float32) -> "Arrays":
        """Move an instance to the device."""
        layers = {
            str(i): {
                "kernel": jnp.asarray(kernel, dtype),
                "bias": jnp.asarray(b, dtype),
            }
            for i, (kernel, b) in enumerate(
                zip(instance.kernels, instance.biases, strict=True)
            )
        }
        data = {
            "inputs": jnp.asarray(instance.inputs, dtype),
            "labels": jnp.asarray(instance.labels),
        }
        sizes = [instance.inputs.shape[1], *(bias.size for bias in instance.biases)]
        params = {"layers": layers}
        return cls(loss_fn(sizes), params, jax.block_until_ready(data))

    def flat_product(self) -> Callable[[np.ndarray], np.ndarray]:
        """Compile v -> H v for flat vectors [n]; the gradient is taken each time."""
        start, unravel = ravel_pytree(self.params)

        def product(params: Any, data: Any, v: jax.Array) -> jax.Array:
            return ravel_pytree(dominant.hvp(self.loss_fn, params, unravel(v), data))[0]

        compiled = _compile(product, self.params, self.data, start)

        def call(v: np.ndarray) -> np.ndarray:
            column = jnp.asarray(v, start.dtype).reshape(start.shape)
            return np.asarray(compiled(self.params, self.data, column))

        return call


def _ours(instance: Instance, k: int) -> Build:
    arrays = Arrays.of(instance)

    def program(params: Any, data: Any) -> tuple[dominant.Subspace, jax.Array]:
        matvec = dominant.hessian(arrays.loss_fn)(params, data)
        top = dominant.top_eigenspace(matvec, params, k, tol=TOL)
        return top, dominant.error_bound(top)

    def read(found: tuple[dominant.Subspace, jax.Array]) -> Solution:
        top, bound = found
        return Solution(
            np.asarray(top.eigenvalues),
            _rows(top.basis),
            int(top.num_matvecs),
            float(bound),
        )

    return lambda: _compiled_solver(arrays, program, read)


def _matfree(instance: Instance, k: int, *, num_steps: int | None) -> Build:
    from matfree import decomp, eig

    arrays = Arrays.of(instance)
    num_steps = num_steps or instance.lanczos_steps
    if num_steps is None:
        raise ValueError("the number of Lanczos steps to the tolerance is not known")
    _, unravel = ravel_pytree(arrays.params)
    start = unravel(jnp.asarray(instance.start))
    # The custom derivative is of no use here and takes no closures.
    eigh = eig.eigh_partial(decomp.tridiag_sym(num_steps, custom_vjp=False))

    def program(params: Any, data: Any, start: Any) -> tuple[jax.Array, Any]:
        values, vectors = eigh(dominant.hessian(arrays.loss_fn)(params, data), start)
        # They come in ascending order.
        return jax.tree.map(lambda x: x[-k:][::-1], (values, vectors))

    def read(found: tuple[jax.Array, Any]) -> Solution:
        values, vectors = found
        return Solution(np.asarray(values), _rows(vectors), num_steps)

    return lambda: _compiled_solver(arrays, program, read, start)


def _lobpcg(instance: Instance, k: int, *, scaled: bool) -> Build:
    from jax.experimental.sparse.linalg import lobpcg_standard

    arrays = Arrays.of(instance)
    n = instance.num_parameters
    # A pair is taken as converged at |H u - lambda u| < 10 n tol (lambda + |H u|).
    tol = TOL / (20 * n) if scaled else None
    start = jax.random.normal(jax.random.key(0), (n, k))
    _, unravel = ravel_pytree(arrays.params)

    def program(params: Any, data: Any, start: jax.Array) -> Any:
        matvec = dominant.hessian(arrays.loss_fn)(params, data)

        def products(columns: jax.Array) -> jax.Array:  # [n, m]
            # One after the other: on a CPU faster than vmap.
            rows = jax.lax.map(lambda v: ravel_pytree(matvec(unravel(v)))[0], columns.T)
            return rows.T

        return lobpcg_standard(products, start, m=_LOBPCG_ITERATIONS, tol=tol)

    def read(found: Any) -> Solution:
        values, vectors, iterations = found
        # The start's k; in each iteration 3 k in the trial space, k for residuals.
        num_matvecs = k + 4 * k * int(iterations)
        return Solution(np.asarray(values), np.asarray(vectors).T, num_matvecs)

    return lambda: _compiled_solver(arrays, program, read, start)


def _eigsh(instance: Instance, k: int) -> Build:
    from experiments.benchmarks.arpack import eigsh

    arrays = Arrays.of(instance)

    def build() -> Solver:
        product = arrays.flat_product()

        def take_products(count: int) -> None:
            for _ in range(count):
                product(instance.start)

        return Solver(
            solve=lambda: eigsh(product, instance.start, k, tol=TOL),
            read=lambda solution: solution,
            take_products=take_products,
            loss=_loss_of(arrays),
            product=product,
        )

    return build


SETUPS: Mapping[str, Setup] = {
    "ours": _ours,
    "eigsh-jax": _eigsh,
    "matfree-30": functools.partial(_matfree, num_steps=30),
    "matfree-tol": functools.partial(_matfree, num_steps=None),
    "lobpcg": functools.partial(_lobpcg, scaled=False),
    "lobpcg-tol": functools.partial(_lobpcg, scaled=True),
}


def _compile(function: Callable, *arguments: Any) -> Any:
    """Trace and compile a function for such arguments, and nothing else."""
    return jax.jit(function).lower(*arguments).compile()


def _compiled_solver(
    arrays: Arrays,
    program: Callable[..., Any],
    read: Callable[[Any], Solution],
    *starts: Any,
) -> Solver:
    """Compile `program(params, data, *starts)` and make a solver of it."""
    arguments = (arrays.params, arrays.data, *starts)
    compiled = _compile(program, *arguments)
    memory = compiled.memory_analysis()
    return Solver(
        solve=lambda: jax.block_until_ready(compiled(*arguments)),
        read=read,
        take_products=_linearized_products(arrays),
        loss=_loss_of(arrays),
        product=lambda v: arrays.flat_product()(v),
        planned_bytes=memory.temp_size_in_bytes + memory.output_size_in_bytes,
    )


def _linearized_products(arrays: Arrays) -> Callable[[int], None]:
    """Return what takes a chain of products in one program."""

    @jax.jit
    def chain(params: Any, data: Any, count: int) -> Any:
        matvec = dominant.hessian(arrays.loss_fn)(params, data)

        def step(_: Any, v: Any) -> Any:
            return jax.tree.map(lambda x: x / 2, matvec(v))  # far from overflow

        return jax.lax.fori_loop(0, count, step, params)

    def take(count: int) -> None:
        jax.block_until_ready(chain(arrays.params, arrays.data, count))

    return take


def _loss_of(arrays: Arrays) -> Callable[[], float]:
    return lambda: float(jax.jit(arrays.loss_fn)(arrays.params, arrays.data))


def _rows(block: Any) -> np.ndarray:
    """Flatten a tree with leading axes k to rows [k, n]."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(block)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
