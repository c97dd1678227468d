"""Routes: the URLs and their endpoints."""
