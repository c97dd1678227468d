"""Which strategy is best on a model and its data: streams, runs, figures and the report of `renorm evaluate`."""
