"""The front page: the README's beginning, its commands and its results, with doors into the course.

In: the README, and ``pages/index.md`` with a name in braces for each part of it. Out: Markdown. The
page has no number of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from grpo_helpers.files import InputError
from tools.site.sources import ROOT

COINS = "docs/coins.gif"
REPORT = ROOT / "runs/default/report.html"  # only where the default run has been made
REPORT_PAGE = "reports/default.html"
REPORT_DOOR = f"""\
- **[Read every answer]({REPORT_PAGE})**

    Before and after, beside the gold answer; and the groups of the training.
"""
DEMO_PAGE = "demo/index.md"
THINKING_PAGE = "demo/thinking.md"
DEMO_DOOR = f"""\
- **[Ask the model]({DEMO_PAGE})**

    It answers in your browser, before and after training. Another one
    [may think first]({THINKING_PAGE}).
"""
_PARTS = re.compile(
    r"""^\#\ (?P<title>[^\n]+)\n
    (?P<lead>.*?)
    ^(?P<curve>!\[[^\n]+\n)
    (?P<terms>.*?)
    ^<!--\ results:begin\ -->\n (?P<results>.*?) ^<!--\ results:end\ -->
    .*? ^\#\#\ Start\n .*?
    (?P<commands>^```bash\n.*?^```$)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Parts:
    """What the front page takes from the README.

    Attributes:
        title: The README's title.
        lead: What the course is, in three paragraphs.
        curve: The picture of the learning curve.
        terms: What the words in the table of results mean.
        results: The table of results, with intervals.
        commands: The commands to begin with.
    """

    title: str
    lead: str
    curve: str
    terms: str
    results: str
    commands: str


def parts_of(readme: str) -> Parts:
    """Return the parts of the README that the front page shows.

    Raises:
        InputError: The README lacks one of them.
    """
    found = _PARTS.search(readme)
    if found is None:
        raise InputError("README.md: title, picture, results and commands, in this order, are gone")
    return Parts(**{name: text.strip() for name, text in found.groupdict().items()})


def front_page(template: str, readme: str, has_demo: bool = False) -> str:
    """Return the front page.

    Args:
        template: ``pages/index.md``.
        readme: The README.
        has_demo: Whether the site has the pages with a model.
    """
    parts = parts_of(readme)
    coins = ""
    if (ROOT / COINS).is_file():
        coins = f"![Each word of the training turns from the wrong form to the right one]({COINS})"

    report = REPORT_DOOR if REPORT.is_file() else ""

    demo = DEMO_DOOR if has_demo else ""
    filled = template.format(**vars(parts), coins=coins, report=report, demo=demo)
    return re.sub(r"\n{3,}", "\n\n", filled)
