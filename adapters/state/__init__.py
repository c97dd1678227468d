"""The states of streams: rows, keys, their place in memory, and snapshots of them."""
