"""Comparison of strategies on a model and its data: streams, runs, metrics and the report of `renorm evaluate`."""
