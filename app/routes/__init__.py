"""Doors: parse, await one engine call, shape the answer. What goes wrong becomes a status in one table, `errors`."""
