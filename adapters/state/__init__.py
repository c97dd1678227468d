"""What streams remember: rows, keys, their place in memory, and snapshots of them."""
