"""The time of an adapting forward against one that does not adapt."""
