"""The same forward as machine code."""
