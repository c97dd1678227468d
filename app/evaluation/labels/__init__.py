"""The classes of data, matched to those of a model."""
