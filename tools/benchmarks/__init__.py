"""Time and memory: the course's code against other ways, and the memory formula against measurements."""
