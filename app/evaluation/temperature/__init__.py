"""Temperatures fitted to held-out images."""
