"""Classes of data matched to those of a model."""
