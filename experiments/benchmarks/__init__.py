"""Our eigensolver and others side by side: `python -m experiments.benchmarks.main`."""
