"""Pages made from synthetic runs, for the tests of the report of a reproduction."""

import base64

import numpy as np

from experiments.reproduction.experiment import Claim, Criterion, Experiment
from experiments.reproduction.outcome import Entry, Page
from experiments.reproduction.plots import Axis, Curve, Level, Map, Mark, Plot
from experiments.reproduction.static import write_static

CLAIMS = (
    Claim("P1-E1", "Fig. 1", "Dom-SGD stalls; Bulk-SGD learns as SGD does"),
    Claim("P1-E2", "Fig. 3", "The gradient aligns with the dominant space"),
)


def make_loss_plot(num_points=3000, seeds=3):
    """Losses of the three modes after a switch, and the warm-up before it."""
    steps = np.linspace(0, 20_000, num_points)
    before, after = steps[steps <= 3000], steps[steps >= 3000]
    curves = []
    for role, name, end in [
        ("warmup", "warm-up", None),
        ("plain", "SGD", 0.08),
        ("dom", "Dom-SGD", 0.2),
        ("bulk", "Bulk-SGD", 0.082),
    ]:
        for seed in range(seeds):
            noise = np.random.default_rng(seed)
            x = before if end is None else after
            start = 0.5 if end is None else 0.188
            last = 0.188 if end is None else end
            y = start * (last / start) ** ((x - x[0]) / (x[-1] - x[0]))
            y = y * np.exp(0.03 * noise.standard_normal(len(x)))
            curves.append(Curve(name, x, y, role))
    return Plot(
        title="MLP, MNIST-5k: loss",
        x_label="step",
        y_label="full training loss",
        curves=curves,
        levels=[Level("switch", 3000.0, vertical=True)],
        log_y=True,
        caption="Dom-SGD stalls at the switch, Bulk-SGD goes on as SGD does.",
    )


def make_sharpness_plot():
    """Free colours, points, a gap, a level, and names that must be escaped."""
    steps = np.arange(1, 400)
    rising = 20 - 10 * np.exp(-steps / 80)
    broken = np.where((steps > 150) & (steps < 200), np.nan, 0.8 * rising)
    return Plot(
        title="Sharpness <λ₁> & its edge",
        x_label="step",
        y_label="λ₁(H)",
        curves=[
            Curve("<b>CNN</b> & $x$", steps, rising),
            Curve("with a gap", steps, broken),
            Curve("measured", steps[::25], 0.6 * rising[::25], points=True),
        ],
        levels=[Level("2/η", 20.0)],
        log_x=True,
        caption="A <script>alert(1)</script> must stay text.",
    )


def make_alignment_plot():
    steps = np.arange(0, 20_000, 50)
    chi = np.clip(1 - np.exp(-steps / 1500) - 0.02, 0, 1)
    curves = [
        Curve("χ₁₀", steps, chi, "plain"),
        Curve("moving average", steps, 0.98 * chi, "average"),
    ]
    levels = [Level("threshold 0.95", 0.95), Level("switch", 3100.0, vertical=True)]
    return Plot("Alignment", "step", "χ₁₀ of the full gradient", curves, levels)


def make_map():
    """A phase diagram: marks, a missing cell, curves, points, text to be escaped."""
    rates, momenta = np.geomspace(0.01, 1, 9), np.linspace(0, 0.9, 7)
    ratio = np.exp(np.add.outer(2 * momenta, np.log(rates)))
    ratio[ratio > 1], ratio[0, 0] = np.inf, np.nan
    return Map(
        title="Stability of <heavy ball>",
        x=Axis("learning rate & $η$", rates.tolist(), "log"),
        y=Axis("momentum", momenta.tolist()),
        z=ratio,
        z_label="L_end / L_sw",
        z_log=True,
        limits=(0.03, 1),
        marks=[Mark("<i>diverged</i>", np.isinf(ratio))],
        curves=[
            Curve("edge", rates, np.linspace(0.9, 0, 9), "dom"),
            Curve("edge", rates, np.linspace(0.8, -0.1, 9), "dom"),
            Curve("runs", rates[1:3], momenta[1:3], points=True),
        ],
        levels=[Level("half", 0.45), Level("rate of E1", 0.1, vertical=True)],
        caption="Above the <edge>, runs diverge.",
    )


def make_density():
    """Many cells along an axis through zero."""
    steps = np.arange(0, 4000, 10)
    positive = np.geomspace(1e-3, 30, 150)
    values = np.concatenate([-positive[::-1], [0.0], positive])
    peak = 20 * (1 - np.exp(-steps / 800)) + 1
    density = 1 / (1 + (1e2 * values[:, None]) ** 2)
    density = density + 0.1 * (np.abs(np.subtract.outer(values, peak)) < 0.1 * peak)
    return Map(
        "Spectral density",
        Axis("step", steps.tolist()),
        Axis("eigenvalue", values.tolist(), "symlog", 1e-3),
        density,
        "density",
        z_log=True,
        limits=(1e-5, 1.0),
        curves=[Curve("λ₁", steps, peak)],
        levels=[Level("2/η", 20.0)],
    )


def decoded(value):
    """Arrays in place of what plotly writes of them, their bytes in base 64."""
    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        return array.reshape([int(n) for n in str(value.get("shape", -1)).split(",")])
    if isinstance(value, dict):
        return {key: decoded(item) for key, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value


def make_experiment(name="loss", claims=CLAIMS):
    return Experiment(
        name=name,
        title="SGD, Dom-SGD & Bulk-SGD from one <switch> state",
        claims=claims,
        judge=lambda runs: (),
        plots=lambda runs: (),
    )


CRITERIA = (
    Criterion("P1-E1", "Dom: L_end / L_sw >= 0.95", (1.05, 1.07, 1.06), True),
    Criterion("P1-E1", "Bulk: L_end / L_sw <= 0.6", (0.44, 0.42, 0.43), True),
    Criterion("P1-E2", "mean chi after the switch >= 0.93", (0.98, 0.97), True),
    Criterion("P1-E2", "EMA crosses before step 8,000 <soon>", (9100.0,), False),
)


def make_entry(**changes):
    entry = Entry(
        experiment=make_experiment(),
        criteria=CRITERIA,
        plots=[make_loss_plot(), make_alignment_plot(), make_sharpness_plot()],
        changes={"steps": (20_000, 2_000), "task.model": ("mlp", "<cnn>")},
        command="python -m experiments.main --config=configs/loss.py --workdir=<x>",
        config={"steps": 2000, "task.model": "<mlp>", "modes": ["plain", "dom"]},
        status="finished",
        seconds=4321.0,
        hardware="2 CPU cores",
    )
    return entry._replace(**changes)


def make_other_entry():
    """Nothing measured, one number without a bound, and nothing that holds."""
    claims = (
        Claim("P1-E6", "Fig. 9", "At the edge, Dom-GD stalls"),
        Claim("P1-E8", "Table 1", "Momentum speeds up the bulk"),
        Claim("P1-E9", "App. D.1", "No alignment below the edge"),
        Claim("P1-E10", "Fig. 14", "With cross-entropy, Dom rises"),
    )
    criteria = (
        Criterion("P1-E6", "GD: loss <= 0.75", (), None, "the run diverged"),
        Criterion("P1-E8", "lr_bulk / lr_dom", (11.0, 13.0), None),
        Criterion("P1-E9", "median chi < 0.1", (0.3,), False),
    )
    return make_entry(
        experiment=make_experiment("edge", claims),
        criteria=criteria,
        plots=[make_sharpness_plot()],
        changes={},
        seconds=None,
        status="diverged",
    )


def make_page(entries=None, folder=None):
    """A report of two experiments; with a folder, figures for print in it."""
    entries = [make_entry(), make_other_entry()] if entries is None else entries
    if folder is not None:
        entries = [
            entry._replace(
                files=write_static(entry.plots, folder, entry.experiment.name)
            )
            for entry in entries
        ]
    return Page(
        title="Does SGD really <happen> in tiny subspaces?",
        introduction="Does training happen in the dominant space?\n\nLoss: ½|f − y|².",
        scale="quick",
        provenance={"commit": "0123abcd", "versions": "jax 0.10.2 & <others>"},
        entries=entries,
    )
