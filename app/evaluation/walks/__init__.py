"""Walks: streams of blends of corruptions at a set difficulty."""
