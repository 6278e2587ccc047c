"""The experiments of the papers: one training loop, its tasks and its reports."""
