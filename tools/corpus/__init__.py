"""The course's own data: norm cards, the files built from them, and the checks of both."""
