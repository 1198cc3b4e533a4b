"""Measurements: the course's code against other ways, the memory formula, how the code reads."""
