"""Recordings of what a server answers, to show that a change of the code changes no number, code or status."""
