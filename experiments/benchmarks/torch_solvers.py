"""Solvers over PyTorch products: eigsh (the papers' way), curvlinops, PyHessian.

The network is an ordinary `Sequential` of `Linear` and `Tanh` with the instance's
weights, the loss the same; the worker compares loss and a product with ours.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.benchmarks.arpack import eigsh
from experiments.benchmarks.problems import TOL, Instance
from experiments.benchmarks.solvers import Setup, Solution, Solver

Build = Callable[[], Solver]
Product = Callable[[np.ndarray], np.ndarray]

_PAPERS_CHUNK = 1000  # examples


class HalfSquaredError(torch.nn.Module):
    """The mean over examples of half the summed squared error, targets one-hot."""

    reduction = "mean"  # curvlinops asks

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return a scalar for outputs and targets [N, C]."""
        return 0.5 * (outputs - targets).square().sum(dim=-1).mean()


class Arrays(NamedTuple):
    """An instance as PyTorch has it."""

    model: torch.nn.Sequential
    criterion: HalfSquaredError
    inputs: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, instance: Instance) -> "Arrays":
        """Build the network and copy the weights."""
        layers: list[torch.nn.Module] = []
        for kernel, bias in zip(instance.kernels, instance.biases, strict=True):
            linear = torch.nn.Linear(*kernel.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))
            layers += [linear, torch.nn.Tanh()]
        targets = np.eye(instance.num_classes, dtype=np.float32)[instance.labels]
        return cls(
            torch.nn.Sequential(*layers[:-1]),
            HalfSquaredError(),
            torch.from_numpy(instance.inputs),
            torch.from_numpy(targets),
        )

    def chunks(self, size: int) -> "list[Arrays]":
        """Return the same network on `size` examples at a time."""
        pairs = zip(self.inputs.split(size), self.targets.split(size), strict=True)
        return [self._replace(inputs=x, targets=y) for x, y in pairs]

    @property
    def params(self) -> list[torch.nn.Parameter]:
        """Weight, bias, weight, bias, ..."""
        return list(self.model.parameters())

    def loss(self) -> torch.Tensor:
        """Return the loss, a scalar."""
        return self.criterion(self.model(self.inputs), self.targets)

    def product(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return v -> H v, reverse over reverse, on vectors in PyTorch's order.

        The gradient and its graph are made once and kept.
        """
        params = self.params
        gradient = torch.autograd.grad(self.loss(), params, create_graph=True)
        sizes = [param.numel() for param in params]

        def call(v: torch.Tensor) -> torch.Tensor:
            parts = [
                part.view_as(param)
                for part, param in zip(v.split(sizes), params, strict=True)
            ]
            products = torch.autograd.grad(
                gradient, params, grad_outputs=parts, retain_graph=True
            )
            return torch.cat([part.flatten() for part in products])

        return call

    def in_our_order(self, vectors: np.ndarray) -> np.ndarray:
        """Reorder vectors [k, n] from PyTorch's order to that of the instance."""
        return _swap(vectors, [tuple(param.shape) for param in self.params])

    def in_torch_order(self, vectors: np.ndarray) -> np.ndarray:
        """Undo `in_our_order`."""
        shapes = [tuple(reversed(param.shape)) for param in self.params]
        swapped = [shapes[i + 1 - 2 * (i % 2)] for i in range(len(shapes))]
        return _swap(vectors, swapped)


def _swap(vectors: np.ndarray, shapes: Iterable[tuple[int, ...]]) -> np.ndarray:
    """Transpose the matrices in vectors [k, n] and swap the members of each pair."""
    parts, offset = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        part = vectors[:, offset : offset + size].reshape(-1, *shape)
        part = part.transpose(0, *range(len(shape), 0, -1))
        parts.append(part.reshape(len(vectors), -1))
        offset += size
    order = [i + 1 - 2 * (i % 2) for i in range(len(parts))]
    return np.concatenate([parts[i] for i in order], axis=1)


def _solver(
    arrays: Arrays,
    solve: Callable[[], Any],
    make_product: Callable[[], Product],
    read: Callable[[Any], Solution],
) -> Solver:
    """Make a solver from a product on flat vectors in PyTorch's order."""
    # Made when it is first asked for: a kept graph would count as the solve's memory.
    make_product = functools.cache(make_product)
    # Any vector: how long a product takes does not depend on it.
    ones = np.ones(sum(param.numel() for param in arrays.params), np.float32)

    def take_products(count: int) -> None:
        for _ in range(count):
            make_product()(ones)

    def product_in_our_order(v: np.ndarray) -> np.ndarray:
        found = make_product()(arrays.in_torch_order(v[None])[0].astype(np.float32))
        return arrays.in_our_order(found[None])[0]

    def read_in_our_order(found: Any) -> Solution:
        solution = read(found)
        return solution._replace(vectors=arrays.in_our_order(solution.vectors))

    return Solver(
        solve=solve,
        read=read_in_our_order,
        take_products=take_products,
        loss=lambda: arrays.loss().item(),
        product=product_in_our_order,
    )


def _numpy_product(arrays: Arrays) -> Product:
    product = arrays.product()
    return lambda v: product(torch.from_numpy(v)).numpy()


def _eigsh(instance: Instance, k: int, *, tol: float) -> Build:
    arrays = Arrays.of(instance)
    start = arrays.in_torch_order(instance.start[None])[0]

    def solve() -> Solution:
        return eigsh(_numpy_product(arrays), start, k, tol=tol)

    return lambda: _solver(
        arrays, solve, lambda: _numpy_product(arrays), lambda solution: solution
    )


def _papers(instance: Instance, k: int) -> Build:
    """The papers' way, read off code that descends from theirs.

    eigsh at its default tolerance; a product differentiates twice, chunk by chunk.
    """
    arrays = Arrays.of(instance)
    start = arrays.in_torch_order(instance.start[None])[0]
    chunks = arrays.chunks(_PAPERS_CHUNK)

    def product(v: np.ndarray) -> np.ndarray:
        vector = torch.from_numpy(v)
        total = torch.zeros_like(vector)
        for chunk in chunks:
            weight = len(chunk.inputs) / len(arrays.inputs)
            total += weight * chunk.product()(vector)
        return total.numpy()

    def solve() -> Solution:
        return eigsh(product, start, k, tol=0)

    return lambda: _solver(arrays, solve, lambda: product, lambda solution: solution)


def _curvlinops(instance: Instance, k: int) -> Build:
    from curvlinops import HessianLinearOperator

    arrays = Arrays.of(instance)
    start = arrays.in_torch_order(instance.start[None])[0]

    def operator() -> Product:
        data = [(arrays.inputs, arrays.targets)]
        made = HessianLinearOperator(
            arrays.model,
            arrays.criterion,
            arrays.params,
            data,
            check_deterministic=False,
            num_data=len(arrays.inputs),
        )
        # Its own default is float64 vectors around a float32 product.
        return made.to_scipy(dtype=np.dtype(np.float32)).matvec

    def solve() -> Solution:
        return eigsh(operator(), start, k, tol=TOL)

    return lambda: _solver(arrays, solve, operator, lambda solution: solution)


def _pyhessian(instance: Instance, k: int, **options: Any) -> Build:
    from pyhessian import hessian

    arrays = Arrays.of(instance)

    def solve() -> tuple[list[float], list[list[torch.Tensor]], int]:
        # It reads `param.grad`, to which its backward pass adds.
        arrays.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        data = (arrays.inputs, arrays.targets)
        computer = hessian(arrays.model, arrays.criterion, data=data, cuda=False)
        num_matvecs = 0

        def count(_: torch.Tensor) -> None:
            nonlocal num_matvecs
            num_matvecs += 1

        # Each product is one backward pass that starts from the gradient.
        computer.gradsH[0].register_hook(count)
        values, vectors = computer.eigenvalues(top_n=k, **options)
        return values, vectors, num_matvecs

    def read(found: tuple[list[float], list[list[torch.Tensor]], int]) -> Solution:
        values, vectors, num_matvecs = found
        rows = [
            np.concatenate([part.detach().numpy().ravel() for part in vector])
            for vector in vectors
        ]
        return Solution(np.asarray(values), np.stack(rows), num_matvecs)

    return lambda: _solver(arrays, solve, lambda: _numpy_product(arrays), read)


SETUPS: Mapping[str, Setup] = {
    "eigsh-torch": functools.partial(_eigsh, tol=TOL),
    "eigsh-torch-papers": _papers,
    "curvlinops": _curvlinops,
    "pyhessian": _pyhessian,
    "pyhessian-tight": functools.partial(_pyhessian, maxIter=300, tol=1e-6),
}
