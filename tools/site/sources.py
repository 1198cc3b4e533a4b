"""Which files of the repository the site shows, and where a link to one of them leads.

In: the repository. Out: paths below its root, and Markdown whose links lead to pages of the site. A
file keeps its path, with three exceptions: the README becomes ``overview.md``, because a front page
takes its place; a notebook becomes a Markdown page; and a plain text gets an ending that browsers
show. A folder that a page links to gets a page that lists what is in it.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from pathlib import Path

from grpo_helpers.files import project_root

ROOT = project_root()
PAGES = (
    "*.md",
    "docs/*.md",
    "solutions/*.md",
    "data/**/README.md",
    "tests/README.md",
    "tools/README.md",
)
PICTURES = ("docs/*.png", "docs/*.gif")
NOTEBOOKS = "notebooks/*.ipynb"
FOLDERS = ("docs", "params", "solutions")  # those that pages link to
MOVED = {
    "README.md": "overview.md",
    "LICENSE": "LICENSE.txt",
    "data/LICENSE": "data/LICENSE.txt",
    "CITATION.cff": "CITATION.cff.txt",
    "Dockerfile": "Dockerfile.txt",
    "MANIFEST.in": "MANIFEST.in.txt",
    "setup.py": "setup.py.txt",
    "hosted/start.ipynb": "hosted/start.ipynb",  # to be opened elsewhere: no page is made of it
}
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def matching(*patterns: str) -> list[str]:
    """Return the files below the root that fit one of the patterns, in order."""
    found: list[str] = []
    for pattern in patterns:
        paths = sorted(ROOT.glob(pattern))
        found += [path.relative_to(ROOT).as_posix() for path in paths]
    return found


def site_path(path: str) -> str:
    """Return where the site has a file of the repository.

    >>> site_path("notebooks/04_train.ipynb"), site_path("docs"), site_path("docs/gpu.md")
    ('notebooks/04_train.md', 'docs/index.md', 'docs/gpu.md')
    """
    if path in FOLDERS:
        return f"{path}/index.md"
    if path in MOVED:
        return MOVED[path]
    if path.endswith(".ipynb"):
        return path.removesuffix(".ipynb") + ".md"
    return path


def with_site_links(text: str, page: str) -> str:
    """Return the Markdown of a page with the links that the site needs.

    Args:
        text: The Markdown.
        page: The page's own path in the repository.
    """
    folder = posixpath.dirname(page)

    def moved(found: re.Match[str]) -> str:
        target = found[1]
        if "://" in target or target.startswith(("#", "mailto:")):
            return target
        file, hash_sign, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, file))
        new = posixpath.relpath(site_path(path), folder or ".")
        return f"{new}{hash_sign}{anchor}"

    return _LINK.sub(moved, text)


def title_of(text: str) -> str:
    r"""Return the first heading of a Markdown text.

    >>> title_of("# GPU\n\nText.")
    'GPU'
    """
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def folder_page(folder: str) -> str:
    """Return a page for a folder: links to its pages, and its profiles in full."""
    lines = [f"# {folder}/", ""]
    for path in matching(f"{folder}/*.md"):
        title = title_of((ROOT / path).read_text(encoding="utf-8"))
        lines.append(f"- [{title}]({Path(path).name})")

    for path in matching(f"{folder}/*/*.yaml"):
        content = (ROOT / path).read_text(encoding="utf-8").rstrip()
        lines += ["", f"## {path.removeprefix(f'{folder}/')}", "", "```yaml", content, "```"]
    return "\n".join(lines) + "\n"


def github_slug(heading: str, separator: str = "-") -> str:
    """Return the anchor of a heading as GitHub makes it.

    >>> github_slug("5. A format that rejects gold answers")
    '5-a-format-that-rejects-gold-answers'
    """
    kept = [letter for letter in heading.lower() if letter in "- " or _is_word(letter)]
    return "".join(kept).replace(" ", separator)


def _is_word(letter: str) -> bool:
    """Return whether Ruby, in which GitHub does it, takes a letter for a part of a word."""
    return bool(re.match(r"\w", letter)) and unicodedata.category(letter) != "No"  # such as ①
