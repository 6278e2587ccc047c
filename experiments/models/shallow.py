"""Networks of one and two layers without biases, whose training has a theory."""

import jax
import jax.numpy as jnp

from experiments.models.pure import Model, Params


def linear(num_inputs: int, num_classes: int) -> Model:
    """Return f_c(x) = <x^c, x>: with cross-entropy, multinomial logistic regression.

    params["classes"]: [num_classes, num_inputs], a row x^c a class, N(0, I / d) at
    first.
    """

    def init(key: jax.Array) -> Params:
        rows = jax.random.normal(key, (num_classes, num_inputs))
        return {"classes": rows / jnp.sqrt(num_inputs)}

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        return inputs @ params["classes"].T

    return Model(init, apply)


def two_layer(num_inputs: int, num_hidden: int, num_classes: int) -> Model:
    """Return f(x) = v relu(W x), of two classes as the logits (0, f).

    So cross-entropy of the outputs is that of the probability sigmoid(f) of class 1
    (Ben Arous et al., 2022). At first v ~ N(0, 1) and W_i ~ N(0, I / d).

    params["hidden"]: W, [num_hidden, num_inputs], a row W_i a neuron.
    params["output"]: v, [num_hidden], and of more classes [num_hidden, num_classes].
    """

    def init(key: jax.Array) -> Params:
        of_hidden, of_output = jax.random.split(key)
        hidden = jax.random.normal(of_hidden, (num_hidden, num_inputs))
        shape = (num_hidden,) if num_classes == 2 else (num_hidden, num_classes)
        return {
            "hidden": hidden / jnp.sqrt(num_inputs),
            "output": jax.random.normal(of_output, shape),
        }

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        outputs = jax.nn.relu(inputs @ params["hidden"].T) @ params["output"]
        if num_classes == 2:
            return jnp.stack([jnp.zeros_like(outputs), outputs], axis=-1)
        return outputs

    return Model(init, apply)
