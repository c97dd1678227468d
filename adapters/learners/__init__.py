"""Learners: one file for each method that learns by gradients, and the parts that they share."""
