"""Parameters sharded over eight (pretended) devices: the basis is laid out as they are.

In a process of its own: the number of devices is fixed when JAX starts.
"""

import os
import subprocess
import sys

PROGRAM = """
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import dominant

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
specs = {"w": PartitionSpec(None, "model"), "v": PartitionSpec("model")}


def loss_fn(params, x):
    hidden = jnp.tanh(x @ params["w"])
    return 0.5 * jnp.mean((hidden @ params["v"] - jnp.sin(x[:, 0])) ** 2)


def train(params):
    tx = dominant.track_subspace(
        optax.chain(optax.sgd(0.1), dominant.bulk_project()),
        dominant.hessian(loss_fn), k=2, refresh=dominant.every(2), tol=1e-5,
    )
    state = tx.init(params)
    layout = jax.tree.map(lambda leaf: leaf.sharding, state.subspace.basis)

    @jax.jit
    def step(params, state, x):
        gradients = jax.grad(loss_fn)(params, x)
        updates, state = tx.update(gradients, state, params, curvature_data=x)
        return optax.apply_updates(params, updates), state

    x = jax.random.normal(jax.random.key(1), (32, 5))
    for _ in range(4):
        params, state = step(params, state, x)
    return params, state, layout


keys = jax.random.split(jax.random.key(0))
whole = {
    "w": jax.random.normal(keys[0], (5, 16)),
    "v": jax.random.normal(keys[1], (16,)),
}
sharded = {
    name: jax.device_put(leaf, NamedSharding(mesh, specs[name]))
    for name, leaf in whole.items()
}
expected, _, _ = train(whole)
params, state, layout = train(sharded)
for name, spec in specs.items():
    wanted = NamedSharding(mesh, PartitionSpec(None, *spec))
    ndim = whole[name].ndim + 1
    assert layout[name].is_equivalent_to(wanted, ndim), (name, "init", layout[name])
    after = state.subspace.basis[name].sharding
    assert after.is_equivalent_to(wanted, ndim), (name, "update", after)
    np.testing.assert_allclose(params[name], expected[name], atol=1e-5)
print("sharded as the parameters")
"""


def test_the_basis_is_sharded_as_the_parameters():
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "sharded as the parameters" in result.stdout
