"""What is avoided in compiled programs, seen from a process of its own."""

import os
import subprocess
import sys

from experiments import compilation

PRODUCTS = """
import jax, jax.numpy as jnp, numpy as np
from experiments.compilation import without_wrong_fusions

without_wrong_fusions()
rng = np.random.default_rng(0)
rows = jnp.asarray(rng.normal(size=(40_000, 3)), jnp.float32)
matrix = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)
norms = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
expected = np.sum((np.asarray(rows, np.float64) @ np.asarray(matrix).T) ** 2, axis=1)
np.testing.assert_allclose(norms, expected, rtol=1e-4)
"""


def test_mapped_products_that_are_summed_are_right():
    """A case that jaxlib 0.10.2 gets wrong on a CPU by default."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", PRODUCTS], env=environment, check=True)


def test_a_choice_of_the_user_stays(monkeypatch):
    flag = "--xla_cpu_experimental_ynn_fusion_type"
    monkeypatch.setattr(compilation.jaxlib, "__version__", "0.10.2")
    monkeypatch.setenv("XLA_FLAGS", f"{flag}=-reduce")
    compilation.without_wrong_fusions()
    assert os.environ["XLA_FLAGS"] == f"{flag}=-reduce"
    monkeypatch.setenv("XLA_FLAGS", "--one=1")
    compilation.without_wrong_fusions()
    assert os.environ["XLA_FLAGS"] == f"--one=1 {flag}="
    # A jaxlib that may not know the flag, and would end at it.
    monkeypatch.setattr(compilation.jaxlib, "__version__", "0.9.0")
    monkeypatch.setenv("XLA_FLAGS", "")
    compilation.without_wrong_fusions()
    assert os.environ["XLA_FLAGS"] == ""
