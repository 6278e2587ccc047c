"""P2-E4: when to switch? Phase diagram in (switch step, learning rate).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/switch_steps

The setting of raised_rate.py with other switches, the rate raised at each, and at the
first rate by the papers' rule. Expected: an early switch hurts: at first the gradient
has other things to do than to oscillate; and the rule is within 5 % of the best step.

At SCALE=cpu it took 10 minutes on one shared AMD EPYC core. P2-E4 edge: reproduced.
P2-E4: not reproduced. P2-E4 rule: no verdict.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "The step of the switch: MLP on MNIST-5k"
    return config


def _grid(steps: tuple[int, ...], factors: tuple[float, ...]) -> list[dict[str, tuple]]:
    return [
        {
            "switch.step": (step,),
            "optimizer.drop_steps": ((step,),),
            "optimizer.drop_factor": factors,
        }
        for step in steps
    ]


# At the first rate, by the papers' rule.
_BY_RULE: dict[str, tuple] = {"switch.step": (0,), "optimizer.drop_factor": (1.0,)}


def get_grid() -> list[dict[str, tuple]]:
    return [*_grid((1, 100, 500, 3000, 5000), raised_rate.FACTORS), _BY_RULE]


SCALES = {"cpu": raised_rate.CPU_AT_SWITCH, "ci": raised_rate.CI}
GRIDS = {
    "cpu": [*_grid((1, 100, 500, 1500), (1.0, 16.0, 64.0, 256.0)), _BY_RULE],
    "ci": [*_grid((1, 30), (1.0, 64.0)), _BY_RULE],
}
