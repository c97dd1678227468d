"""ASGI middleware around every call."""
