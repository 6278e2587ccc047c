"""P5, appendix: nonlinear regression, with an MLP on the covariates.

    make reproduce EXPERIMENTS=linear_attention/nonlinear

Setting 1 with labels <w, phi(x)>, phi a frozen random network of ten ReLU units, and an
MLP of 30 on the covariates, trained with the transformer; batches of 2,000, four
learning rates for each optimizer, the best of each compared. Expected: Adam's loss ends
below SGD's.

At SCALE=cpu it took 5 minutes on one shared AMD EPYC core. P5 nonlinear: not
reproduced.
"""

import ml_collections

from configs.linear_attention import settings

RATES = (0.001, 0.01, 0.05, 0.1)


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Nonlinear regression"
    config.task.dataset = "nonlinear_prompts"
    config.task.num_hidden = 30
    config.batch_size = 2000
    return config


def _grid(*rates: float) -> list[settings.Fields]:
    return [
        {**fields, "optimizer.learning_rate": rates}
        for fields in settings.optimizers(0.02, 0.02)
    ]


def get_grid() -> list[settings.Fields]:
    return _grid(*RATES)


SCALES: dict = {
    "cpu": {"seeds": 2, "steps": 800},
    "ci": settings.LITTLE,
}
GRIDS = {"ci": _grid(0.01)}
