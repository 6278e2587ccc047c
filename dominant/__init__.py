"""The dominant eigenspace of the loss Hessian, tracked while a network trains.

Symbols, everywhere: theta the params, H the Hessian of the mean loss, lambda_1 >=
lambda_2 >= ... its eigenvalues in algebraic order, U = [u_1 .. u_k] the top
eigenvectors, P_k = U U^T the projector on the *dominant* space, I - P_k the one on the
*bulk*, chi_k(v) = |P_k v| / |v| the alignment.
"""

from dominant.curvature import Curvature as Curvature
from dominant.curvature import Data as Data
from dominant.curvature import Matvec as Matvec
from dominant.curvature import Params as Params
from dominant.curvature import functional_hessian as functional_hessian
from dominant.curvature import gauss_newton as gauss_newton
from dominant.curvature import gradient_second_moment as gradient_second_moment
from dominant.curvature import hessian as hessian
from dominant.curvature import hvp as hvp
from dominant.curvature_transforms import block_diagonal as block_diagonal
from dominant.curvature_transforms import domain as domain
from dominant.curvature_transforms import in_batches as in_batches
from dominant.curvature_transforms import in_dtype as in_dtype
from dominant.curvature_transforms import preconditioned as preconditioned
from dominant.curvature_transforms import restrict as restrict
from dominant.curvature_transforms import row_of as row_of
from dominant.density import Quadrature as Quadrature
from dominant.density import smoothed_density as smoothed_density
from dominant.density import spectral_density as spectral_density
from dominant.density import spectral_quadrature as spectral_quadrature
from dominant.eigenspace import EigenspaceSteps as EigenspaceSteps
from dominant.eigenspace import eigenspace_steps as eigenspace_steps
from dominant.eigenspace import top_eigenspace as top_eigenspace
from dominant.energy import Energy as Energy
from dominant.energy import Estimate as Estimate
from dominant.energy import energies as energies
from dominant.energy import frobenius_estimate as frobenius_estimate
from dominant.energy import trace_estimate as trace_estimate
from dominant.lanczos import Tridiagonal as Tridiagonal
from dominant.lanczos import tridiagonalize as tridiagonalize
from dominant.policies import RefreshPolicy as RefreshPolicy
from dominant.policies import TrackSubspaceState as TrackSubspaceState
from dominant.policies import adaptive as adaptive
from dominant.policies import every as every
from dominant.projections import AfterAlignmentState as AfterAlignmentState
from dominant.projections import after_alignment as after_alignment
from dominant.projections import bulk_project as bulk_project
from dominant.projections import dom_project as dom_project
from dominant.projections import interpolate_project as interpolate_project
from dominant.projections import with_extra_args_only as with_extra_args_only
from dominant.recent import RememberState as RememberState
from dominant.recent import latest as latest
from dominant.recent import remember as remember
from dominant.recent import second_moment as second_moment
from dominant.stability import CapBulkState as CapBulkState
from dominant.stability import ChooseKState as ChooseKState
from dominant.stability import cap_bulk as cap_bulk
from dominant.stability import choose_k as choose_k
from dominant.stability import leading as leading
from dominant.subspace import Subspace as Subspace
from dominant.subspace import alignment as alignment
from dominant.subspace import alignment_error as alignment_error
from dominant.subspace import error_bound as error_bound
from dominant.subspace import overlap as overlap
from dominant.subspace import principal_angles as principal_angles
from dominant.subspace import project as project
from dominant.subspace import reject as reject
from dominant.tracking import TrackerSteps as TrackerSteps
from dominant.tracking import track_subspace as track_subspace
from dominant.tracking import tracker_steps as tracker_steps
