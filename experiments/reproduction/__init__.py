"""A paper's experiments, run in order, judged, and shown in one report."""
