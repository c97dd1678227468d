"""The keys of clients and their permissions."""
