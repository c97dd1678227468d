"""URLs and what each of them does."""
