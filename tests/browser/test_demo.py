"""The models in the browser say what they say in Python: answers, probabilities, rewards.

    pip install -e .[browser,site]   # and Chromium, e.g. apt install chromium
    python -m tools.site.demo.engine   # needs npm
    pytest -m browser tests/browser/test_demo.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

from __future__ import annotations

import base64
import json
import os

import numpy as np
import pytest
from site_pages import SCREENSHOTS, WINDOWS, OpenPage, open_in_window, served

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import resolve_path
from grpo_helpers.inference import AnswerOptions, generate_answers
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer, load_with_adapter
from grpo_helpers.questions import question_sentences
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings
from tools.experiments.begun_answers import QUOTE
from tools.experiments.form_probability import measure
from tools.experiments.probes import choice_probes, encode_probes
from tools.site.demo import export, questions, weights
from tools.word_chain.build import FOLDER as WORD_CHAIN

pytestmark = pytest.mark.browser

PAGE = "demo/index.html"
THINKING_PAGE = "demo/thinking.html"
SECONDS = 180  # for the page to answer, on a machine that is busy with something else
COUNT = 100  # of questions
CHAIN_COUNT = 30  # of word chains, each of which has two answers
THINKING_RUN = os.environ.get("THINKING_RUN", "data/demo_runs/thinking")  # as in mkdocs.yml
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
    """Opens a page in a window, and waits until it has answered."""
    tabs = []

    def open_in(window: str, page: str = PAGE) -> OpenPage:
        opened = open_in_window(browser, window, demo_address + page)
        tabs.append(opened.tab)
        wait_for_answers(opened.tab)
        return opened

    yield open_in
    for tab in tabs:
        tab.close()


def wait_for_answers(tab):
    """Wait until every checkpoint has answered."""
    folder = "thinking/" if tab.url.endswith(THINKING_PAGE) else ""
    data = f"fetch('{folder}demo.json').then((answer) => answer.json())"
    count = 1 + tab.evaluate(f"{data}.then(({{ checkpoints }}) => checkpoints.length)")
    ready = "(count) => document.querySelectorAll('#demo-results li').length === count"
    tab.wait_for_function(ready, arg=count, timeout=SECONDS * 1000)


def ask(tab, sentence):
    """Type a sentence, and ask it."""
    tab.locator("#demo-sentence").fill(sentence)
    tab.locator("#demo-ask").click()


# -- the pages -------------------------------------------------------------------------------------

every_page = pytest.mark.parametrize("page", [PAGE, THINKING_PAGE])


@every_page
@every_window
def test_page_fits_its_window(open_demo, window, page):
    tab = open_demo(window, page).tab
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = page.removesuffix(".html").replace("/index", "").replace("/", "-")
    tab.screenshot(path=SCREENSHOTS / f"site-{name}-{window}.png", full_page=True)

    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@every_page
def test_page_logs_nothing(open_demo, page):
    assert open_demo("laptop", page).messages == []


@every_page
def test_page_asks_no_other_host(open_demo, demo_address, page):
    asked = open_demo("laptop", page).requests

    inside = (demo_address, "data:", "blob:")
    assert [request for request in asked if not request.startswith(inside)] == []


def test_first_page_loads_nothing_of_the_model_that_can_think(open_demo):
    asked = open_demo("laptop").requests

    assert [request for request in asked if "thinking" in request] == []


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


# -- the model that can think ----------------------------------------------------------------------


def test_page_says_whether_the_base_answers_alone(open_demo):
    tab = open_demo("laptop", THINKING_PAGE).tab

    is_alone = tab.locator("#demo-results li").count() == 1
    assert ("only the base model is here" in tab.locator("article").inner_text()) == is_alone


@every_window
def test_each_way_to_answer_is_shown_with_its_reward(open_demo, window):
    tab = open_demo(window, THINKING_PAGE).tab
    row = tab.locator("#demo-results li").first

    assert "P(it thinks first) = 0." in row.locator(".demo-odds").inner_text()
    assert "chain)" in row.locator(".demo-thought").inner_text()
    ways = row.locator(".demo-way").all_inner_texts()
    assert [way.split(":")[0].split(",")[0] for way in ways] == [
        "then it answers",
        "If it answers at once",
    ]
    assert all("Paid: format" in way for way in ways)
    assert sum("its greedy answer" in way for way in ways) == 1


def test_each_word_of_the_question_and_of_the_thought_has_its_gloss(open_demo):
    tab = open_demo("laptop", THINKING_PAGE).tab
    glosses = tab.locator("#demo-words rt").all_inner_texts()
    thought = tab.locator("#demo-results .demo-thought").first.locator("rt").all_inner_texts()

    assert len(glosses) >= 10
    assert len(thought) >= 5
    assert set(thought) <= set(glosses)


def test_another_question_is_answered(open_demo):
    tab = open_demo("laptop", THINKING_PAGE).tab
    options = tab.locator("#demo-pick option")
    tab.locator("#demo-pick").select_option(index=options.count() - 1)
    wait_for_answers(tab)

    start = tab.locator("#demo-pick option:checked").inner_text().partition("에서")[0]
    assert f'"{start}에서' in tab.locator("#demo-results .demo-answer").first.inner_text()


@pytest.fixture(scope="module")
def thinking_tab(browser, demo_address):
    """The page of the model that can think, open for tests that only compute with its scripts."""
    page = open_in_window(browser, "laptop", demo_address + THINKING_PAGE)
    yield page.tab
    page.tab.close()


CONSIDERED = """async ([name, count]) => {
    const { Model } = await import("./model.js");
    const { consideredBy } = await import("./answering.js");
    const { pickedQuestion } = await import("./asking.js");
    const model = await Model.load("thinking/");
    const checkpoint = await model.checkpoint(name);
    const considered = [];
    for (const pick of model.data.asking.picks.slice(0, count)) {
        const question = pickedQuestion(pick, model.data.asking);
        considered.push(await consideredBy(checkpoint, question, model));
    }
    return considered;
}"""


@pytest.fixture(scope="module", params=["base", export.TRAINED])
def considered(request, thinking_tab):
    """What a checkpoint says in the page to the first word chains; the same model in Python."""
    if request.param == "base":
        model = load_model(export.THINKING_MODEL)
    elif export.has_run(THINKING_RUN):
        run = RunFolder(THINKING_RUN)
        adapter = run.adapter_folder(run.checkpoints()[-1])
        model = load_with_adapter(export.THINKING_MODEL, str(adapter))
    else:
        pytest.skip("no run of the model that can think is kept")
    return thinking_tab.evaluate(CONSIDERED, [request.param, CHAIN_COUNT]), model.eval()


@pytest.fixture(scope="module")
def chain_prompts():
    """The prompts of the first word chains that the page offers."""
    asking = questions.collect(export.thinking_options(""), questions.CHAINS)
    picks = asking.picks[:CHAIN_COUNT]
    return [asking.heads[pick.head] + pick.question + asking.tail for pick in picks]


@pytest.mark.parametrize(
    ("way", "start"), [("greedy", ""), ("thinking", "<think>"), ("atOnce", QUOTE)]
)
def test_answers_to_word_chains_are_those_of_python(considered, chain_prompts, way, start):
    said, model = considered
    expected = generate_answers(
        model,
        load_tokenizer(export.THINKING_MODEL),
        [prompt + start for prompt in chain_prompts],
        max_new_tokens=export.thinking_options("").max_new_tokens,
    )
    if start == QUOTE:  # what generate_answers leaves out
        expected = [QUOTE + answer for answer in expected]

    assert [each[way] for each in said] == expected


def test_probability_of_a_thought_is_that_of_training_samples(considered, chain_prompts):
    import torch

    said, model = considered
    tokenizer = load_tokenizer(export.THINKING_MODEL)
    opening = tokenizer.convert_tokens_to_ids("<think>")
    expected = []
    for prompt in chain_prompts:
        tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(tokens).logits[0, -1]
        expected.append(torch.softmax(logits / TrainSettings.temperature, -1)[opening].item())

    assert np.allclose([each["thinks"] for each in said], expected, atol=1e-4)


CHAINED = """async () => {
    const { followed, listedWords } = await import("./chain.js");
    const { asking } = await fetch("thinking/demo.json").then((answer) => answer.json());
    return Object.fromEntries(asking.picks.map(({ id, question, sentence }) => [
        id, followed(listedWords(question), sentence).join(" "),
    ]));
}"""


def test_chains_of_the_page_are_the_true_ones(thinking_tab):
    chains = {}
    for split in questions.CHAIN_GROUPS:
        for item in load_items(f"{WORD_CHAIN}/{split.file}"):
            chains[item.id] = item.extra["chain"]

    assert thinking_tab.evaluate(CHAINED) == chains
