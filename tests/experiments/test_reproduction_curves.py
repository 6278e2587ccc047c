"""Figures that many experiments share, of made-up runs."""

import math

from experiments.reproduction.curves import loss_plot
from tests.experiments.made_up import make_run


def test_a_loss_that_blows_up_is_drawn_as_far_as_it_can_be_read():
    parts = [
        ("warmup", range(2), lambda _: {"loss/full": 0.5}),
        ("bulk", range(2, 6), lambda step: {"loss/full": 10.0 ** (step - 3)}),
        ("plain", range(2, 6), lambda _: {"loss/full": math.inf}),
    ]
    shown = {curve.role: curve for curve in loss_plot(make_run(parts, 2)).curves}
    assert list(shown["warmup"].y) == [0.5, 0.5]
    assert list(shown["bulk"].y[:3]) == [0.1, 1.0, 10.0]
    assert math.isnan(shown["bulk"].y[3])
    assert all(map(math.isnan, shown["plain"].y))
