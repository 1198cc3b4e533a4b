"""The completions browser: whatever an answer holds, the page shows it as text and runs nothing of it."""

import json
import re

import pytest

from grpo_helpers.questions import Item
from grpo_helpers.report import PARTS, write_report

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


def scores_of(answers, gold):
    return {part: [float(answer == gold) for answer in answers] for part in PARTS}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report in which every text there is holds a payload; three checkpoints."""
    gold = '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
    items = [
        Item(
            f"item-{i} {payload}",
            "선택형",
            f"{payload} {{며칠/몇일}}",
            gold,
            {"category": payload, "gloss": payload},
        )
        for i, payload in enumerate(PAYLOADS)
    ]
    answers = {
        "epoch_0": PAYLOADS,
        "epoch_1": [gold] * len(items),
        "epoch_2": ['"며칠이 걸렸다."이 옳다. 소리 대로 적는다.'] * len(items),
    }
    scores = {name: scores_of(texts, gold) for name, texts in answers.items()}
    folder = tmp_path_factory.mktemp("report")
    return write_report(
        folder / "report.html", {PAYLOADS[0]: (items, answers, scores)}, "epoch_1", PAYLOADS[0]
    )


def test_the_page_is_one_file_that_asks_for_nothing_and_holds_no_tag_of_an_answer(page):
    text = page.read_text(encoding="utf-8")
    assert text.lower().count("<script") == 2 and text.lower().count("</script") == 2
    assert "default-src 'none'" in text and not re.search(
        r"(src|href)\s*=\s*[\"']?https?:", text.split("PAGE")[0][:4000]
    )
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert len(data["items"]) == len(PAYLOADS) and data["checkpoints"] == [
        "epoch_0",
        "epoch_1",
        "epoch_2",
    ]
    assert data["items"][0]["answers"]["epoch_0"]["text"] == PAYLOADS[0]


@pytest.fixture
def opened(browser, page):
    """The page in a window of a laptop's width; what it logs and asks for is kept."""
    tab = browser.new_page(viewport={"width": 1366, "height": 768})
    tab.told, tab.asked = [], []
    tab.on("console", lambda message: tab.told.append(message.text))
    tab.on("pageerror", lambda error: tab.told.append(str(error)))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    tab.close()


@pytest.mark.browser
def test_no_payload_runs_in_a_real_browser_and_each_is_shown_as_text(opened, page):
    opened.wait_for_timeout(500)
    assert opened.evaluate("window.hit") is None
    assert opened.asked == [page.as_uri()] and opened.told == []
    assert opened.locator("article").count() == len(PAYLOADS)
    assert (
        opened.locator(
            "article script, article img, article svg, article iframe, article a, article style"
        ).count()
        == 0
    )
    shown = opened.locator("article").nth(3).inner_text()
    assert PAYLOADS[3] in shown
    assert opened.evaluate(
        "document.documentElement.scrollWidth <= window.innerWidth"
    )  # nothing sticks out


@pytest.mark.browser
def test_filters_sorting_and_the_diff_do_what_they_say(opened):
    count = opened.locator("#count")
    opened.select_option("#change", "right")
    assert count.inner_text() == f"{len(PAYLOADS)} of {len(PAYLOADS)} questions"
    opened.select_option("#change", "wrong")
    assert count.inner_text() == f"0 of {len(PAYLOADS)} questions"
    opened.select_option("#change", "")
    opened.fill("#find", "onerror")
    assert count.inner_text() == f"1 of {len(PAYLOADS)} questions"
    row = opened.locator("article").first.locator("tr", has_text="epoch_2")
    assert row.locator("del").all_inner_texts() == ["가"]  # the particle
    assert row.locator("ins").all_inner_texts() == ["이", "␣"]  # and a space
    opened.fill("#find", "")
    opened.select_option("#sort", "lowest score first")
    assert opened.locator("article").count() == len(PAYLOADS)
