"""What experiments with logistic regression share: classes' blocks, and theory."""

from experiments import mixture_theory as theory
from experiments.reproduction.experiment import Run
from experiments.reproduction.outlier_eigenspaces.lines import field, last, over_time
from experiments.reproduction.plots import Curve, Level, Plot

THEOREM = "Theorem 3.1; criterion ours"


def classes(matrix: str, split: str, key: str) -> str:
    """Return the name of a number of the classes' blocks."""
    return field("classes", matrix, split, key)


def spectrum(run: Run, title: str) -> Plot:
    """Return the leading eigenvalues of the first class' block of H over time."""
    name = classes("hessian", "test", "eigenvalues")
    ((x, _), *_) = over_time(run, name)
    k = run.config["task"]["num_components"]
    curves = []
    for i in range(k):
        ((_, y), *_) = over_time(run, name, lambda value, i=i: value[0][i])
        curves.append(Curve(f"λ_1 … λ_{k}", x, y, "plain"))
    num = last(run, name).shape[-1]
    if num == k:
        estimate = classes("hessian", "test", "next_eigenvalue")
        ((_, y), *_) = over_time(run, estimate, lambda value: value[0])
        curves.append(Curve(f"λ_{k + 1}, an estimate from below", x, y, "tail"))
    for i in range(k, num):
        ((_, y), *_) = over_time(run, name, lambda value, i=i: value[0][i])
        curves.append(Curve(f"λ_{k + 1} and below", x, y, "tail"))
    outlier = at_zero(run)
    levels = [Level("bulk edge at x = 0, theory", outlier.edge)]
    if outlier.visible:
        levels.append(Level("outliers at x = 0, theory", outlier.eigenvalue))
    return Plot(
        title, "T = steps / d", "eigenvalues of H_cc", curves, levels, log_y=True
    )


def at_zero(run: Run) -> theory.Outlier:
    """Return what theory says of the outliers at x = 0."""
    task = run.config["task"]
    return theory.outlier_at_zero(task["num_components"], task["snr"], ratio_of(run))


def threshold(run: Run) -> float:
    """Return the signal-to-noise ratio of the spectral transition at x = 0."""
    return theory.threshold_at_zero(run.config["task"]["num_components"], ratio_of(run))


def ratio_of(run: Run) -> float:
    """Return d / M, of the test set."""
    return run.config["task"]["dimension"] / run.config["task"]["num_test"]
