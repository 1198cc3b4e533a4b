"""The page of answers: whatever an answer holds, the page shows it as text and runs none of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from colour_vision import contrast, distance

from grpo_helpers.questions import Item
from grpo_helpers.report import PARTS, ReportSplit, write_report

PAYLOADS = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 1</script>",
    "<!--<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe>",
    "<a href='javascript:window.hit=1'>click</a>",
    "<style>body { display: none }</style>",
    "<meta http-equiv=refresh content='0; url=https://example.org'>",
    "<base href=https://example.org>",
    "\u2028\u2029</SCRIPT ><ScRiPt>window.hit = 1</ScRiPt>",
    "]]><script>window.hit = 1</script>",
    '"; window.hit = 1; //',
    "${window.hit = 1} `${window.hit = 1}`",
    "&lt;script&gt;window.hit = 1&lt;/script&gt;",
    "\ud800 \x00 \x1b[31m \u202e 며칠",
    "{{constructor.constructor('window.hit = 1')()}}",
    "<form><button formaction=javascript:window.hit=1>x</button></form>",
]
GOLD = '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
OTHER_PARTICLE = '"며칠이 걸렸다."이 옳다. 소리 대로 적는다.'  # and one more space
TAGS = ("script", "img", "svg", "iframe", "a", "style")


def item_with(payload: str, number: int) -> Item:
    """Return a question that holds a payload in each of its texts but the gold answer."""
    return Item(
        id=f"item-{number} {payload}",
        question_type="선택형",
        question=f"{payload} {{며칠/몇일}}",
        answer=GOLD,
        extra={"category": payload, "gloss": payload},
    )


def scores_by_gold(texts: list[str]) -> dict[str, list[float]]:
    """Return scores that are 1 where an answer is the gold one."""
    right = [float(text == GOLD) for text in texts]
    return {part: right for part in PARTS}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page in which every text there is holds a payload; three checkpoints."""
    answers = {
        "epoch_0": PAYLOADS,
        "epoch_1": [GOLD] * len(PAYLOADS),
        "epoch_2": [OTHER_PARTICLE] * len(PAYLOADS),
    }
    split = ReportSplit(
        items=[item_with(payload, number) for number, payload in enumerate(PAYLOADS)],
        answers=answers,
        scores={name: scores_by_gold(texts) for name, texts in answers.items()},
    )
    title = PAYLOADS[0]
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(path, {title: split}, "epoch_1", title)


# -- the file --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(source):
    return json.loads(source.split('id="data">')[1].split("</script>")[0])


def test_page_has_no_script_tag_of_an_answer(source):
    assert source.lower().count("<script") == 2
    assert source.lower().count("</script") == 2


def test_page_policy_forbids_the_network(source):
    assert "default-src 'none'" in source


def test_page_refers_to_no_other_file(source):
    head = source.split("PAGE")[0][:4000]

    assert not re.search(r"(src|href)\s*=\s*[\"']?https?:", head)


def test_page_holds_every_question(data):
    assert len(data["items"]) == len(PAYLOADS)


def test_page_lists_checkpoints_in_training_order(data):
    assert data["checkpoints"] == ["epoch_0", "epoch_1", "epoch_2"]


def test_page_keeps_an_answer_as_it_is(data):
    assert data["items"][0]["answers"]["epoch_0"]["text"] == PAYLOADS[0]


# -- colours ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colours(source):
    """The colours that the page gives a name."""
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", source))


def test_right_and_wrong_are_far_apart_for_every_reader(colours):
    assert distance(colours["good"], colours["bad"]) > 30


def test_added_and_missing_are_far_apart_for_every_reader(colours):
    assert distance(colours["added"], colours["missing"]) > 15


@pytest.mark.parametrize("name", ["added", "missing"])
def test_mark_is_seen_beside_unmarked_text(colours, name):
    assert distance(colours[name], "#ffffff") > 10


@pytest.mark.parametrize("name", ["good", "bad"])
def test_score_can_be_read_on_the_page(colours, name):
    assert contrast(colours[name], "#ffffff") > 4.5


# -- in a browser ----------------------------------------------------------------------------------

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}


@dataclass
class OpenPage:
    """The page in a window, with what it logged and requested."""

    tab: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        return self.tab.locator(selector).count()

    def shown(self) -> str:
        """Return how many questions the page says it shows."""
        return self.tab.locator("#count").inner_text()

    def row(self, checkpoint: str) -> Any:
        """Return the first question's row of a checkpoint."""
        return self.tab.locator("article").first.locator("tr", has_text=checkpoint)


def open_page(browser, page, viewport):
    tab = browser.new_page(viewport=viewport)
    opened = OpenPage(tab)
    tab.on("console", lambda message: opened.messages.append(message.text))
    tab.on("pageerror", lambda error: opened.messages.append(str(error)))
    tab.on("request", lambda request: opened.requests.append(request.url))
    tab.goto(page.as_uri())
    return opened


@pytest.fixture
def opened(browser, page):
    """The page in a window as wide as a laptop's screen."""
    opened = open_page(browser, page, LAPTOP)
    yield opened
    opened.tab.close()


@pytest.fixture
def phone(browser, page):
    """The page in a window as wide as a phone's screen."""
    opened = open_page(browser, page, PHONE)
    yield opened
    opened.tab.close()


@pytest.mark.browser
def test_no_payload_runs(opened):
    opened.tab.wait_for_timeout(500)

    assert opened.tab.evaluate("window.hit") is None
    assert opened.messages == []


@pytest.mark.browser
def test_open_page_requests_nothing_else(opened, page):
    opened.tab.wait_for_timeout(500)

    assert opened.requests == [page.as_uri()]


@pytest.mark.browser
def test_every_question_is_shown(opened):
    assert opened.count("article") == len(PAYLOADS)


@pytest.mark.browser
def test_no_payload_becomes_a_tag(opened):
    assert opened.count(", ".join(f"article {tag}" for tag in TAGS)) == 0


@pytest.mark.browser
def test_payload_is_shown_as_text(opened):
    assert PAYLOADS[3] in opened.tab.locator("article").nth(3).inner_text()


@pytest.mark.browser
def test_page_fits_a_laptop_screen(opened):
    assert opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_page_fits_a_phone_screen(phone):
    assert phone.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_answer_needs_no_scrolling_sideways_on_a_phone(phone):
    script = (
        "[...document.querySelectorAll('article')].every((a) => a.scrollWidth <= a.clientWidth)"
    )

    assert phone.tab.evaluate(script)


@pytest.mark.browser
def test_score_has_its_name_beside_it_on_a_phone(phone):
    script = "(cell) => getComputedStyle(cell, '::before').content"
    cells = phone.row("epoch_1").locator("td.num").all()

    assert [cell.evaluate(script) for cell in cells] == [f'"{part} "' for part in PARTS]


@pytest.mark.browser
@pytest.mark.parametrize(("change", "matches"), [("right", len(PAYLOADS)), ("wrong", 0)])
def test_filter_shows_what_changed(opened, change, matches):
    opened.tab.select_option("#change", change)

    assert opened.shown() == f"{matches} of {len(PAYLOADS)} questions"


@pytest.mark.browser
def test_thought_is_folded_until_it_is_asked_for(browser, tmp_path):
    texts = [f"<think>{payload}</think>{GOLD}" for payload in PAYLOADS]
    items = [item_with(payload, number) for number, payload in enumerate(PAYLOADS)]
    split = ReportSplit(items, {"epoch_0": texts}, {"epoch_0": scores_by_gold(texts)})
    path = write_report(tmp_path / "report.html", {"dev": split}, "epoch_0")
    tab = browser.new_page()
    tab.goto(path.as_uri())

    first = tab.locator("article").first.locator("details")
    body = first.locator("div")
    assert not body.is_visible()
    first.locator("summary").click()
    assert body.inner_text() == PAYLOADS[0]
    assert tab.locator("article details").count() == len(PAYLOADS)
    assert tab.evaluate("window.hit") is None
    tab.close()


@pytest.mark.browser
def test_search_finds_a_text(opened):
    opened.tab.fill("#find", "onerror")

    assert opened.shown() == f"1 of {len(PAYLOADS)} questions"


@pytest.mark.browser
def test_difference_marks_what_is_missing(opened):
    opened.tab.fill("#find", "onerror")

    assert opened.row("epoch_2").locator("del").all_inner_texts() == ["가"]  # the particle


@pytest.mark.browser
def test_difference_marks_what_was_added(opened):
    opened.tab.fill("#find", "onerror")

    added = opened.row("epoch_2").locator("ins").all_inner_texts()
    assert added == ["이", "␣"]  # the particle, and a space


@pytest.mark.browser
def test_sorting_loses_no_question(opened):
    opened.tab.fill("#find", "onerror")
    opened.tab.fill("#find", "")
    opened.tab.select_option("#sort", "lowest score first")

    assert opened.count("article") == len(PAYLOADS)
