"""The errors of every strategy, and the pages that are made of them."""
