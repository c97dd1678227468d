"""Other projects' clients, called against the server."""
