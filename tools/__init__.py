"""Tools that make the course: its data, its embedded model, its recorded runs and its pages.

Readers of the course need none of them. ``tools/README.md`` lists them all.

The tools were once one flat folder. Their old commands (``python -m tools.run_course``) still work:
``tools/old_names`` holds a module for each, and is searched after this folder.
"""

from pathlib import Path

__path__.append(str(Path(__file__).parent / "old_names"))
