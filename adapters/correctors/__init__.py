"""Correctors: one file for each correction of a network's answers that a user can name."""
