"""Requests: bodies, fields and headers."""
