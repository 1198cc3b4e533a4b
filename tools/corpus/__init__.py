"""The course's own data: norm cards, the files built from them, and every check of both."""
