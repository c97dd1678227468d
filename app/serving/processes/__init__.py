"""Cores in processes of their own: a cluster of them behind one engine, and what passes between."""
