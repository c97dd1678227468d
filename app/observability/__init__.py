"""Metrics, logs, traces and counters."""
