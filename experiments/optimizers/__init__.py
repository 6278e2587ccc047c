"""Optimizers from a config: base, tracked and projected."""

from experiments.optimizers.base import EDGES as EDGES
from experiments.optimizers.base import base_optimizer as base_optimizer
from experiments.optimizers.base import is_full_batch as is_full_batch
from experiments.optimizers.curvatures import curvature_data as curvature_data
from experiments.optimizers.curvatures import hessian as hessian
from experiments.optimizers.curvatures import in_chunks as in_chunks
from experiments.optimizers.curvatures import split_hessian as split_hessian
from experiments.optimizers.curvatures import tracked_curvature as tracked_curvature
from experiments.optimizers.curvatures import tracked_data as tracked_data
from experiments.optimizers.schedules import Rates as Rates
from experiments.optimizers.schedules import learning_rate as learning_rate
from experiments.optimizers.schedules import rates as rates
from experiments.optimizers.stability import ramp as ramp
from experiments.optimizers.stability import states_of as states_of
from experiments.optimizers.stability import subspace_in_use as subspace_in_use
from experiments.optimizers.tracked import WEIGHTS as WEIGHTS
from experiments.optimizers.tracked import check as check
from experiments.optimizers.tracked import projected_optimizer as projected_optimizer
from experiments.optimizers.tracked import projection_ends as projection_ends
from experiments.optimizers.tracked import projection_weights as projection_weights
from experiments.optimizers.tracked import refresh_policy as refresh_policy
from experiments.optimizers.tracked import stepwise_optimizer as stepwise_optimizer
from experiments.optimizers.tracked import switch_state as switch_state
from experiments.optimizers.tracked import switches_by_rule as switches_by_rule
from experiments.optimizers.tracked import tracked_optimizer as tracked_optimizer
