"""P4-E1: the opening toy, log cosh(x y): all paths fall on one curve.

    make reproduce EXPERIMENTS=trajectory_alignment/product

Gradient descent with eta = 2/16 from 20 points with x in [-0.5, 1] and y in [4, 7], in
float64. Expected: beyond the edge of stability q / r(p) comes to 1 within 2 % after 100
steps, and the sharpness ends at 2/eta - 1.5 eta, wherever a path began.

At SCALE=cpu it took a second on one shared AMD EPYC core. P4-E1: reproduced.
"""

import ml_collections

_X, _Y = (-0.5, -0.2, 0.1, 0.5, 1.0), (4.0, 5.0, 6.0, 7.0)

SCALES: dict = {"ci": {"steps": 300}}


def get_config() -> ml_collections.ConfigDict:
    """Return the setting; the fields are those of all experiments on one example."""
    config = ml_collections.ConfigDict()
    config.title = "The toy log cosh(x y)"
    # Of the directions of layers that are wider than one.
    config.seed = 0
    config.steps = 1000
    # "two_layer_linear", x^T U v of a unit input, or "tanh_neuron".
    config.model = "two_layer_linear"
    config.width = 1
    # "log_cosh", "sqrt", "half_squared_error": a branch each; tanh_neuron has its own.
    config.losses = ("log_cosh",)
    # A path for each learning rate, residual p and sharpness at p = 0 over 2 / eta; or,
    # for log cosh(x y) and its like, for each learning rate and point (x, y).
    config.learning_rates = (2 / 16,)
    config.residuals = (0.1,)
    config.sharpnesses = (1.5,)
    config.points = tuple((x, y) for x in _X for y in _Y)
    # Steps between logged lines; the first so many steps are all logged.
    config.log_every = 50
    config.log_first = 200
    return config.lock()
