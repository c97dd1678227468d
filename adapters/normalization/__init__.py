"""Adapters: one file for each normalization of statistics that a user can name, and their shared bases."""
