"""A camera that does not wait: the utility of the frames that a server answers in time."""
