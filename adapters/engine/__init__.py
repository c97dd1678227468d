"""One forward for the requests of many streams."""
