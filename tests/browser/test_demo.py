"""The model in the browser says what it says in Python: answers, probabilities, rewards.

    pip install -e .[browser,site]   # and Chromium, e.g. apt install chromium
    python -m tools.site.demo.engine   # needs npm
    pytest -m browser tests/browser/test_demo.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from site_pages import SCREENSHOTS, WINDOWS, OpenPage, open_in_window, served

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import resolve_path
from grpo_helpers.inference import AnswerOptions, generate_answers
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.questions import question_sentences
from grpo_helpers.settings import TrainSettings
from tools.experiments.form_probability import measure
from tools.experiments.probes import choice_probes, encode_probes
from tools.site.demo import export, questions, weights

pytestmark = pytest.mark.browser

PAGE = "demo/index.html"
SECONDS = 180  # for the page to answer, on a machine that is busy with something else
COUNT = 100  # of questions
every_window = pytest.mark.parametrize("window", WINDOWS)


@pytest.fixture(scope="module")
def demo_address(site):
    """The address of the site; skipped where it was built without the page."""
    if why := export.why_not():
        pytest.skip(why)
    with served(site) as address:
        yield address


@pytest.fixture
def open_demo(browser, demo_address):
    """Opens the page in a window, and waits until it has answered."""
    tabs = []

    def open_in(window: str) -> OpenPage:
        opened = open_in_window(browser, window, demo_address + PAGE)
        tabs.append(opened.tab)
        wait_for_answers(opened.tab)
        return opened

    yield open_in
    for tab in tabs:
        tab.close()


def wait_for_answers(tab):
    """Wait until every checkpoint has answered."""
    data = "fetch('demo.json').then((answer) => answer.json())"
    count = 1 + tab.evaluate(f"{data}.then(({{ checkpoints }}) => checkpoints.length)")
    ready = "(count) => document.querySelectorAll('#demo-results li').length === count"
    tab.wait_for_function(ready, arg=count, timeout=SECONDS * 1000)


def ask(tab, sentence):
    """Type a sentence, and ask it."""
    tab.locator("#demo-sentence").fill(sentence)
    tab.locator("#demo-ask").click()


# -- the page --------------------------------------------------------------------------------------


@every_window
def test_page_fits_its_window(open_demo, window):
    tab = open_demo(window).tab
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"site-demo-{window}.png", full_page=True)

    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_page_logs_nothing(open_demo):
    assert open_demo("laptop").messages == []


def test_page_asks_no_other_host(open_demo, demo_address):
    asked = open_demo("laptop").requests

    inside = (demo_address, "data:", "blob:")
    assert [request for request in asked if not request.startswith(inside)] == []


@every_window
def test_typed_sentence_is_answered(open_demo, window):
    tab = open_demo(window).tab
    ask(tab, "{며칠/몇일} 뒤에 만나자.")
    wait_for_answers(tab)

    row = tab.locator("#demo-results li").first
    assert "며칠" in row.locator(".demo-odds").inner_text()
    assert "뒤에 만나자" in row.locator(".demo-answer").inner_text()


def test_spelling_that_shall_be_paid_decides_the_reward(open_demo):
    tab = open_demo("laptop").tab
    ask(tab, "{며칠/몇일} 뒤에 만나자.")
    wait_for_answers(tab)
    reward = tab.locator("#demo-results li .demo-reward").first
    paid = []
    for radio in tab.locator("#demo-right input").all():
        radio.check()
        paid.append(reward.inner_text())

    assert sorted("exact match 1" in words for words in paid) == [False, True]


def test_sentence_without_a_choice_is_asked_to_be_corrected(open_demo):
    tab = open_demo("laptop").tab
    ask(tab, "몇일 뒤에 만나자.")
    wait_for_answers(tab)

    row = tab.locator("#demo-results li").first
    assert row.locator(".demo-odds").count() == 0
    assert "format" in row.locator(".demo-reward").inner_text()


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("", "Type a sentence"),
        ("{며칠/몇일} 뒤에 {봬요/뵈요}.", "exactly one choice"),
        ("{며칠/며칠} 뒤에.", "are the same"),
        ("{며칠, 몇일} 뒤에.", "exactly one choice"),
    ],
)
def test_sentence_that_cannot_be_asked_is_refused_in_one_line(open_demo, sentence, words):
    tab = open_demo("laptop").tab
    ask(tab, sentence)

    assert words in tab.locator("#demo-status").inner_text()


def test_character_that_the_model_has_never_seen_is_named(open_demo):
    tab = open_demo("laptop").tab
    ask(tab, "{며칠/몇일} 뒤에 龍이 온다.")
    wait_for_answers(tab)
    tab.wait_for_function("document.querySelector('#demo-status').textContent.includes('龍')")


# -- what the model says ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(browser, demo_address):
    """The page, open for all tests that only compute with its scripts."""
    page = open_in_window(browser, "laptop", demo_address + PAGE)
    yield page.tab
    page.tab.close()


SAID = """async (count) => {
    const { Model } = await import("./model.js");
    const { saidBy } = await import("./answering.js");
    const { pickedQuestion } = await import("./asking.js");
    const model = await Model.load();
    const checkpoint = await model.checkpoint("base");
    const said = {};
    for (const pick of model.data.asking.picks.slice(0, count)) {
        said[pick.id] = await saidBy(checkpoint, pickedQuestion(pick, model.data.asking), model);
    }
    return said;
}"""


@pytest.fixture(scope="module")
def said(opened):
    """What the base model says in the page to the first questions, by id."""
    return opened.evaluate(SAID, COUNT)


def test_greedy_answers_are_those_of_python(said):
    asking = questions.collect(AnswerOptions(model_id=export.MODEL))
    picks = asking.picks[:COUNT]
    prompts = [asking.heads[pick.head] + pick.question + asking.tail for pick in picks]
    expected = generate_answers(
        load_model(export.MODEL),
        load_tokenizer(export.MODEL),
        prompts,
        max_new_tokens=asking.max_new_tokens,
    )

    answers = [said[pick.id]["answer"] for pick in picks]

    assert len(answers) == COUNT
    assert answers == expected


def test_probabilities_are_those_of_the_recorded_coins(said):
    probes = choice_probes(load_items("data/embedded/dev.json"))
    probes = [probe for probe in probes if probe.item.id in said]
    tokenizer = load_tokenizer(export.MODEL)
    encoded = encode_probes(probes, tokenizer, TrainSettings())
    measured = measure(load_model(export.MODEL), encoded, tokenizer.pad_token_id)

    right = []
    wrong = []
    for probe in probes:
        probabilities = said[probe.item.id]["probabilities"]
        first, _, _ = question_sentences(probe.item.question)[0].partition("/")
        if not probe.right.startswith(first.replace("{", "")):
            probabilities = probabilities[::-1]
        right.append(probabilities[0])
        wrong.append(probabilities[1])

    assert len(right) == COUNT
    assert np.allclose(right, measured.shares * measured.masses, atol=1e-4)
    assert np.allclose(wrong, (1 - measured.shares) * measured.masses, atol=1e-4)


# -- rewards ---------------------------------------------------------------------------------------

SCORED = """async (cases) => {
    const { formatScore, exactMatch } = await import("./reward.js");
    return cases.map(({ answer, asked, right }) => [
        formatScore(answer, asked, right),
        exactMatch(answer, right),
    ]);
}"""


def variants(gold, wrong):
    """Return a gold answer, and what a model might make of it."""
    return [
        gold,
        wrong,
        gold.replace('"', ""),
        gold.replace('"', "“", 1).replace('"', "”", 1),
        gold.replace("옳다", "맞다"),
        gold.replace("옳다. ", "옳다.\n"),
        gold.replace("가 옳다", "로 고쳐 쓴다").replace("이 옳다", "으로 고쳐 쓴다"),
        gold.split("옳다.")[0] + "옳다.",
        f"{gold} {gold}",
        f"정답: {gold}",
        f"정답은 {gold}",
        f"<think>음</think>{gold}",
        f"<think>음{gold}",
        f"{gold}</think>{gold}",
        f"<think>가<think>나</think>{gold}",
        f"<think></think><think></think>{gold}",
        f"{gold.split('옳다.')[0].rstrip('가이 ')} 또는 {gold}",
        '""가 옳다. 까닭.',
        "",
    ]


def test_rewards_of_the_page_are_those_of_the_package(opened):
    cases = []
    expected = []
    for item in load_items("data/embedded/dev.json") + load_items("data/embedded/few_shot.json"):
        (right,) = parse_gold(item.answer).sentences
        sentence = question_sentences(item.question)[0]
        wrong = item.answer.replace(right, sentence)
        asked = {"type": item.question_type, "sentence": sentence}
        for answer in variants(item.answer, wrong):
            cases.append({"answer": answer, "asked": asked, "right": right})
            expected.append([format_score(answer, item), exact_match(answer, item.answer)])

    scores = opened.evaluate(SCORED, cases)

    assert {tuple(pair) for pair in expected} == {(0, 0), (1, 0), (0, 1), (1, 1)}
    for case, score, wanted in zip(cases, scores, expected, strict=True):
        assert score == wanted, case


# -- weights ---------------------------------------------------------------------------------------

MERGED = """async ([factors, checkpoint]) => {
    const { Model } = await import("./model.js");
    const { merged } = await import("./weights.js");
    const model = await Model.load();
    const bytes = Uint8Array.from(atob(factors), (letter) => letter.charCodeAt(0));
    const numbers = new Float32Array(bytes.buffer);
    const weights = merged(model.base, model.data.tensors, numbers, checkpoint);
    return Object.fromEntries(checkpoint.pairs.map(({ weight }) => {
        const { start, shape } = model.data.tensors.find((tensor) => tensor.name === weight);
        return [weight, [...weights.subarray(start, start + shape[0] * shape[1])]];
    }));
}"""


def test_page_merges_an_adapter_as_the_package_does(opened):
    layers = ("self_attn.q_proj", "mlp.down_proj")
    names = [f"model.layers.1.{layer}.weight" for layer in layers]
    base = weights.read_base(resolve_path(export.MODEL))
    adapter = made_up_adapter(base, names)
    described = json.loads(json.dumps(export.described(export.Checkpoint("epoch_1", adapter))))

    merged = opened.evaluate(MERGED, [base64.b64encode(adapter.content).decode(), described])

    expected = weights.merged(base, adapter)
    for name in names:
        assert np.allclose(merged[name], expected[name].ravel(), atol=1e-6)


def made_up_adapter(base, names, rank=2):
    """Return an adapter of random numbers for some layers."""
    rng = np.random.default_rng(0)
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    arrays = {}
    for name in names:
        rows, width = shapes[name]
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        arrays[f"{layer}.lora_A.weight"] = rng.normal(size=(rank, width))
        arrays[f"{layer}.lora_B.weight"] = rng.normal(size=(rows, rank))
    return weights.packed_adapter(arrays, scale=2.0)
