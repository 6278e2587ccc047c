"""What the commands beside `make bench` measure, on a tiny problem."""

import json

import pytest

from experiments.benchmarks import engine, products, tracking, whole


@pytest.mark.slow
def test_tracking_is_measured_and_compared_with_exact_bases(tmp_path, monkeypatch):
    """A minute of compilation: six programs with a solver in each."""
    monkeypatch.setattr(tracking, "_TIMED_STEPS", 5)
    monkeypatch.setattr(tracking, "_REPEATS", 1)
    tracking.main([f"--out={tmp_path}", "--quick", "--exact"])
    results = json.loads((tmp_path / "tracking.json").read_text())
    full, half = results["tracked"]
    assert full["curvature_examples"] == results["num_train"]
    assert half["curvature_examples"] == results["num_train"] // 2
    for row in (full, half):
        assert row["refreshes"] > 1
        assert row["matvecs"] >= tracking.K * row["refreshes"]
    # The exact basis is that of all examples.
    assert 0 < full["worst_angle"] < half["worst_angle"] < 0.1
    for mode, row in results["exact"].items():
        assert row["exact_matvecs"] > row["tracked_matvecs"]
        assert row["tracked"] == pytest.approx(row["exact"], rel=0.02), mode
    assert results["exact"]["Bulk"]["exact"] < results["exact"]["Dom"]["before"]
    table = (tmp_path / "tracking.md").read_text()
    assert f"| {full['matvecs']} |" in table
    assert "| Dom | 20 |" in table


def test_products_are_measured_by_block_and_by_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(products, "_REPEATS", 1)
    monkeypatch.setattr(products, "BLOCK_SIZES", (1, 10))
    narrow = ("float32", "in_dtype(bfloat16)")
    chosen = {name: products.PRECISIONS[name] for name in narrow}
    monkeypatch.setattr(products, "PRECISIONS", chosen)
    products.main([f"--out={tmp_path}", "--quick"])
    results = json.loads((tmp_path / "products.json").read_text())
    assert all(seconds > 0 for seconds in results["seconds"].values())
    full = results["precisions"]["float32"]
    narrow = results["precisions"]["in_dtype(bfloat16)"]
    assert full["product_error"] == 0
    assert full["true"] <= 1.5 * full["stated"]
    # A product in bfloat16 is off by some of its roundings, 2^-8 each; a solver that
    # is given such products cannot know.
    assert 2**-10 < narrow["product_error"] < 2**-4
    assert narrow["true"] > 1.5 * full["stated"]
    table = (tmp_path / "products.md").read_text()
    assert "| 10 |" in table
    assert "| in_dtype(bfloat16) |" in table


@pytest.mark.slow
def test_the_engines_step_is_measured_beside_a_bare_one(tmp_path):
    engine.main([f"--out={tmp_path}", "--quick"])
    results = json.loads((tmp_path / "engine.json").read_text())
    assert list(results) == ["plain", "bulk"]
    table = (tmp_path / "engine.md").read_text()
    for mode, row in results.items():
        ratio = row["engine"] / row["bare"]
        assert f"| {mode} | {1e3 * row['bare']:.3f} |" in table
        assert f"| {ratio:.2f} |" in table


@pytest.mark.slow
def test_whole_experiments_are_timed(tmp_path):
    whole.main([f"--out={tmp_path}", "--quick"])
    results = json.loads((tmp_path / "whole.json").read_text())
    assert [row["limit"] for row in results.values()] == [300, 300, 480]
    *others, last = results.values()
    assert all(row["whole"] == row["seconds"] > 0 for row in others)
    assert last["whole"] == pytest.approx(10 * last["seconds"])
    table = (tmp_path / "whole.md").read_text()
    assert all(f"| {name} |" in table for name in results)


def test_whole_experiments_are_those_of_the_limits():
    xor, logistic, transformers = whole.runs(quick=False).values()
    assert (xor.config.seeds, xor.config.task.dimension, xor.config.steps) == (
        400,
        250,
        37_500,
    )
    assert (logistic.config.task.dimension, logistic.config.steps) == (1000, 50_000)
    assert logistic.config.steps / logistic.config.log_every == 50
    whole_steps = transformers.config.steps * transformers.times
    assert (transformers.config.seeds, whole_steps) == (6, 10_000)
