"""What pyproject.toml cannot say: a wheel carries the course, which lies beside the package.

``grpo-course init`` lays out what is below ``grpo_helpers/course_files`` in the wheel. In the
repository each of these files is there once, in its own place. An editable installation copies
nothing: it is the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDERS = ("notebooks", "solutions", "data", "params", "docs")
# File -> its name in a course folder.
FILES = {
    "constraints.txt": "constraints.txt",
    "LICENSE": "LICENSE",
    "tools/course/folder_readme.md": "README.md",
}
# The model without letters is only for experiments, and the kept checkpoints for the site; no wheel
# carries the tools of either.
FOR_TOOLS = ("hidden_letters_model", "demo_runs")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", *FOR_TOOLS)


class BuildWithCourse(build_py):
    """Builds the package, and copies the course into it where a wheel is made."""

    def run(self) -> None:
        """Build; in the case of an editable installation nothing is copied."""
        super().run()
        if self.editable_mode:
            return

        carried = Path(self.build_lib) / "grpo_helpers" / "course_files"
        shutil.rmtree(carried, ignore_errors=True)  # of an earlier build
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, carried / folder, ignore=LEFT_OUT)
        for file, name in FILES.items():
            shutil.copyfile(ROOT / file, carried / name)


setup(cmdclass={"build_py": BuildWithCourse})
