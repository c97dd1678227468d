"""The server under load, beside other servers that host the same network."""
