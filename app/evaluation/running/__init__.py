"""Runs of strategies over streams."""
