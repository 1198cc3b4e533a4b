"""The group inspector in a browser: its numbers are the package's, its texts stay texts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from grpo_helpers.inspector import (
    DIVISORS,
    Group,
    ScoredCompletion,
    Start,
    group_advantages,
    inspect_groups,
    token_pushes,
    weighted_sums,
)
from grpo_helpers.questions import Item
from grpo_helpers.report import PARTS, ReportSplit, write_report
from grpo_helpers.rewards import PRESETS

pytestmark = pytest.mark.browser

PAYLOADS = [
    "</script><script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "\u2028${window.hit = 1} \\u003cscript>window.hit = 1</script>",
]
LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
LONGEST = 60


def scored(text, *scores):
    """Return a completion with its scores for format, exact match, ROUGE-1 and BERTScore."""
    names = ("format", "em", "rouge1", "bertscore")
    return ScoredCompletion(text, dict(zip(names, scores, strict=True)))


ITEM = Item("1", "선택형", '"{며칠/몇일} 뒤에 봬요."', extra={"gloss": "See you in a few days."})
RIGHT = '"며칠 뒤에 봬요."가 옳다. 소리대로 적는다.'
WRONG = '"몇일 뒤에 봬요."가 옳다. 소리대로 적는다.'
TAUGHT = Group(
    ITEM.question,
    (
        scored(RIGHT, 1.0, 1.0, 1.0, 0.97),
        scored(WRONG, 1.0, 0.0, 0.9, 0.95),
        scored(f"{WRONG} 몇일은 없는 말이다.", 1.0, 0.0, 0.4, None),
        scored("".join(PAYLOADS), 0.0, 0.0, 0.0, 0.3),
        scored("", None, None, None, None),
    ),
    ITEM,
)
SILENT = Group(ITEM.question, (scored(RIGHT, 1.0, 1.0, 0.7, 0.9),) * 4)


@dataclass
class OpenPage:
    """The page in a window, with what it logged and requested."""

    tab: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def press(self, words: str) -> None:
        """Press the button, or choose the option, that is called ``words``."""
        script = "(words) => [...document.querySelectorAll('button, .gi-choice label')]"
        self.tab.evaluate(f"{script}.find((each) => each.textContent === words).click()", words)

    def weigh(self, name: str, weight: float) -> None:
        """Drag the slider of a reward to a weight."""
        script = """([name, weight]) => {
            const slider = document.querySelector(`[data-weight="${name}"]`);
            slider.value = weight;
            slider.dispatchEvent(new Event("input"));
        }"""
        self.tab.evaluate(script, [name, weight])

    def numbers(self, kind: str) -> list[float | None]:
        """Return the ``reward``, ``advantage`` or ``push`` of each completion, unrounded."""
        script = (
            "(kind) => [...document.querySelectorAll('.gi-row')].map((row) => row.dataset[kind])"
        )
        texts = self.tab.evaluate(script, kind)
        return [None if text == "null" else float(text) for text in texts]

    def text(self, selector: str) -> str:
        return self.tab.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def colours(self, row: int) -> list[str]:
        """Return the background of each stretch of a completion."""
        script = """(row) => [...document.querySelectorAll(".gi-row")[row]
            .querySelectorAll(".gi-text span")].map((span) => span.style.backgroundColor)"""
        return self.tab.evaluate(script, row)


def open_page(browser, path, viewport):
    tab = browser.new_page(viewport=viewport)
    opened = OpenPage(tab)
    tab.on("console", lambda message: opened.messages.append(message.text))
    tab.on("pageerror", lambda error: opened.messages.append(str(error)))
    tab.on("request", lambda request: opened.requests.append(request.url))
    tab.goto(path.as_uri())
    return opened


def write_page(folder, *inspectors):
    """Write a page that has only these inspectors."""
    path = folder / "page.html"
    body = "".join(inspector.html for inspector in inspectors)
    path.write_text(f'<!doctype html><meta charset="utf-8"><body>{body}', encoding="utf-8")
    return path


@pytest.fixture(params=[LAPTOP, PHONE], ids=["laptop", "phone"])
def everywhere(browser, tmp_path, request):
    """The inspector of both groups, in a wide and in a narrow window."""
    inspector = inspect_groups([TAUGHT, SILENT], Start(max_completion_length=LONGEST))
    opened = open_page(browser, write_page(tmp_path, inspector), request.param)
    yield opened
    opened.tab.close()


@pytest.fixture
def opened(browser, tmp_path):
    """The inspector of both groups, on a laptop."""
    inspector = inspect_groups([TAUGHT, SILENT], Start(max_completion_length=LONGEST))
    opened = open_page(browser, write_page(tmp_path, inspector), LAPTOP)
    yield opened
    opened.tab.close()


# -- numbers ---------------------------------------------------------------------------------------

CASES = {
    "article": PRESETS["article"],
    "code": PRESETS["code"],
    "own": {"format": 0.25, "em": 0.0, "rouge1": 1.0, "bertscore": 0.5},
}


@pytest.mark.parametrize("loss_type", DIVISORS)
@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("weights", CASES)
def test_numbers_of_the_page_are_those_of_the_package(opened, weights, scale, loss_type):
    sums = weighted_sums(TAUGHT, CASES[weights])
    advantages = group_advantages(sums, scale)
    lengths = [len(each.text) + (len(each.text) < LONGEST) for each in TAUGHT.completions]
    pushes = token_pushes(advantages, lengths, loss_type, LONGEST)

    if weights == "own":
        for name, weight in CASES[weights].items():
            opened.weigh(name, weight)
    else:
        opened.press(weights)
    opened.press(scale)
    opened.press(loss_type)

    assert opened.numbers("reward")[:-1] == pytest.approx(sums[:-1], abs=1e-12)
    assert opened.numbers("reward")[-1] is None
    assert opened.numbers("advantage") == pytest.approx(advantages, abs=1e-12)
    assert opened.numbers("push") == pytest.approx(pushes, abs=1e-12)


def test_key_moves_a_slider(opened):
    before = opened.numbers("reward")
    opened.tab.evaluate("document.querySelector('[data-weight=em]').focus()")
    opened.tab.keyboard.press("ArrowRight")

    assert opened.numbers("reward")[0] > before[0]


def test_controls_keep_their_keys_from_jupyterlab(opened):
    script = "document.querySelectorAll('input, button').length"
    kept = "document.querySelectorAll('[data-lm-suppress-shortcuts]').length"

    assert opened.tab.evaluate(script) == opened.tab.evaluate(kept) > 0


def test_page_says_that_equal_rewards_teach_nothing(opened):
    opened.press("next group ›")

    assert "teaches nothing" in opened.text(".gi-says")
    assert opened.numbers("advantage") == pytest.approx([0.0] * 4, abs=1e-9)


# -- texts -----------------------------------------------------------------------------------------


def test_no_payload_runs(opened):
    opened.tab.wait_for_timeout(300)

    assert opened.tab.evaluate("window.hit") is None
    assert opened.messages == []


def test_payload_is_shown_as_text(opened):
    assert PAYLOADS[1] in opened.text(".gi-row:nth-child(4) .gi-text")


def test_page_requests_nothing_else(opened):
    opened.tab.wait_for_timeout(300)

    assert len(opened.requests) == 1


def test_question_comes_with_its_gloss(opened):
    assert opened.text(".gi-gloss") == "See you in a few days."


def test_missing_gloss_is_said(opened):
    opened.press("next group ›")

    assert opened.text(".gi-gloss") == "no English gloss in this file"


def test_letters_that_differ_are_marked(opened):
    assert opened.text(".gi-row .gi-differs") == "며칠"


def test_formula_colours_a_completion_evenly(opened):
    assert len(set(opened.colours(0))) == 1


def test_common_beginning_keeps_another_colour_than_the_rest(opened):
    opened.press("what is left when they add up")

    assert len(set(opened.colours(0))) == 2


# -- where it is shown -----------------------------------------------------------------------------


def test_page_fits_its_window(everywhere):
    assert everywhere.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_same_inspector_twice_on_a_page_works_twice(browser, tmp_path):
    inspector = inspect_groups([SILENT])
    opened = open_page(browser, write_page(tmp_path, inspector, inspector), LAPTOP)

    assert len(opened.numbers("reward")) == 8
    opened.tab.close()


def test_report_runs_the_inspector_under_its_policy(browser, tmp_path):
    answer = {"epoch_0": [RIGHT]}
    split = ReportSplit([ITEM], answer, {"epoch_0": {part: [1.0] for part in PARTS}})
    inspector = inspect_groups([TAUGHT])
    page = write_report(tmp_path / "report.html", {"dev": split}, "epoch_0", inspector=inspector)

    opened = open_page(browser, page, LAPTOP)

    assert len(opened.numbers("reward")) == len(TAUGHT.completions)
    assert opened.messages == []
    opened.tab.close()
