"""The study of the strategy `auto`: a grid of streams, and docs/auto.md, which is made of it."""
