"""Training of the bundled network."""
