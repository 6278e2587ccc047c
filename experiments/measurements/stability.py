"""How near the bulk's own edge of stability a step is."""

from typing import Any

import dominant
from experiments.measurements.record import Metrics, Record, Setting
from experiments.measurements.training import stability_edge

_TOL = 1e-2


def bulk_sharpness(record: Record, setting: Setting) -> Metrics:
    """lambda_max(R H R), R = I - U U^T with the basis in use, and the edge.

    With a fixed basis U, right or wrong, Bulk-GD on a quadratic is stable iff
    lambda_max(R H R) is below the edge of `sharpness`. It is lambda_{k+1} for the exact
    basis, and more for any other one, by interlacing. A cold solve to a relative
    residual of 1e-2, about 20 products.
    """
    subspace = record.subspace
    matvec = setting.curvature(record.params, setting.curvature_data)

    def in_the_bulk(v: Any) -> Any:
        return dominant.reject(matvec(dominant.reject(v, subspace)), subspace)

    top = dominant.top_eigenspace(
        in_the_bulk, dominant.domain(setting.curvature, record.params), 1, tol=_TOL
    )
    edge = stability_edge(setting.config.optimizer, record.learning_rate)
    return {
        "bulk_sharpness/largest": top.eigenvalues[0],
        "bulk_sharpness/residual": top.residuals[0],
        "bulk_sharpness/over_edge": top.eigenvalues[0] / edge,
        "bulk_sharpness/matvecs": top.num_matvecs,
    }
