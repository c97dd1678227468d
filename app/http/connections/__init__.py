"""Connections beneath HTTP: how many there may be, how large and how slow what they send may be, and how they end."""
