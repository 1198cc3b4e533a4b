"""GRPO by hand: the five functions do what TRL does, and their checks tell the usual mistakes."""

from __future__ import annotations

import copy
import statistics
from dataclasses import replace

import pytest
import torch
from exercises import solutions
from helpers import TINY_MODEL

from grpo_helpers import by_hand, by_hand_checks
from grpo_helpers.files import InputError
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.rewards import em_reward
from grpo_helpers.settings import ByHandSettings

SETTINGS = ByHandSettings(num_generations=4, num_questions=4, max_completion_length=80)
FUNCTIONS = ("sample", "score", "advantage", "loss", "step")  # exercises 8.1 to 8.5
TRAINS = ("loss", "step")  # their checks compute gradients, which takes seconds
G = SETTINGS.num_generations


@pytest.fixture(scope="module")
def model():
    return load_model(TINY_MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY_MODEL)


@pytest.fixture(scope="module")
def questions(tokenizer):
    return by_hand.load_questions(SETTINGS, tokenizer)


@pytest.fixture(scope="module")
def prompts(tokenizer, questions):
    return by_hand.encode(tokenizer, questions[:2])


@pytest.fixture(scope="module")
def batch(model, prompts):
    torch.manual_seed(0)
    return by_hand.sample(model, prompts, SETTINGS)


# -- the questions ------------------------------------------------------------------------------


def test_questions_are_the_first_ones_of_the_file(questions):
    assert len(questions) == 4
    assert all(question.gold and question.prompt for question in questions)


def test_file_with_too_few_questions_is_refused(tokenizer):
    settings = replace(SETTINGS, num_questions=1000, prompts_per_step=1000)

    with pytest.raises(InputError, match="lower prompts_per_step"):
        by_hand.load_questions(settings, tokenizer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_generations": 1}, "num_generations is 1"),
        ({"prompts_per_step": 9, "num_questions": 8}, "num_questions is only 8"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_setting_that_cannot_work_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        ByHandSettings(**change)


# -- the five functions -------------------------------------------------------------------------


def test_same_seed_draws_the_same_completions(model, prompts, batch):
    torch.manual_seed(0)

    again = by_hand.sample(model, prompts, SETTINGS)

    assert torch.equal(again.input_ids, batch.input_ids)


def test_reward_is_at_most_the_exact_match_of_the_course():
    answers = [answer for _, answer, _ in by_hand_checks.SCORED]
    golds = [by_hand_checks.GOLD] * len(answers)

    ours = by_hand.score(answers, golds).tolist()

    assert ours == em_reward(None, answers, golds)


def test_cut_off_verdict_earns_nothing():
    before_verdict = by_hand_checks.GOLD.partition(by_hand.VERDICT)[0]

    assert by_hand.score([before_verdict], [by_hand_checks.GOLD]).item() == 0


def test_advantages_are_those_of_the_definition():
    rewards = [0.0, 1.0, 0.5, 0.0]
    mean, std = statistics.mean(rewards), statistics.stdev(rewards)

    found = by_hand.advantage(torch.tensor(rewards), 4).tolist()

    assert found == pytest.approx([(reward - mean) / (std + 1e-4) for reward in rewards])


@pytest.mark.heavy
def test_step_makes_rewarded_completions_likelier(model, tokenizer, questions, monkeypatch):
    # Of each group, the first completion earns a reward and the others earn none.
    rewards = torch.zeros(4 * G)
    rewards[::G] = 1.0
    monkeypatch.setattr(by_hand, "score", lambda answers, golds: rewards)
    prompts = by_hand.encode(tokenizer, questions)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)

    torch.manual_seed(1)
    drawn = by_hand.sample(model, prompts, SETTINGS)
    torch.manual_seed(1)
    by_hand.step(trained, optimizer, tokenizer, questions, SETTINGS)

    with torch.no_grad():
        before = by_hand.log_probabilities(model, drawn, SETTINGS.temperature)
        after = by_hand.log_probabilities(trained, drawn, SETTINGS.temperature)
    gained = ((after - before) * drawn.completion_mask).sum(dim=1)
    advantages = by_hand.advantage(rewards, G)
    assert (gained * advantages).sum() > 0


# -- TRL as the yardstick -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def trl_trainer(batch, tokenizer, tmp_path_factory):
    """TRL's trainer of the same model; only its loss is asked for."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        per_device_train_batch_size=len(batch.input_ids),
        num_generations=G,
        max_completion_length=SETTINGS.max_completion_length,
        temperature=SETTINGS.temperature,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    return GRPOTrainer(
        load_model(TINY_MODEL),
        lambda completions, **_: [0.0] * len(completions),
        args,
        Dataset.from_list([{"prompt": "며칠"}] * len(batch.input_ids)),
        processing_class=tokenizer,
    )


def trl_inputs(batch, advantages):
    """Return a batch as TRL's loss takes it."""
    prompt_length = batch.input_ids.shape[1] - batch.completion_mask.shape[1]
    return {
        "prompt_ids": batch.input_ids[:, :prompt_length],
        "prompt_mask": batch.attention_mask[:, :prompt_length],
        "completion_ids": batch.completion_ids,
        "completion_mask": batch.completion_mask,
        "advantages": advantages,
        "num_items_in_batch": batch.completion_mask.sum(),
    }


@pytest.mark.heavy
@pytest.mark.parametrize("has_moved", [False, True], ids=["on-policy", "after an update"])
def test_loss_and_its_gradient_are_those_of_trl(model, batch, trl_trainer, has_moved):
    temperature = SETTINGS.temperature
    advantages = by_hand_checks.made_up_advantages(batch, G)
    old = by_hand_checks.moved(model, batch, temperature) if has_moved else None
    earlier = {"old_per_token_logps": old} if has_moved else {}

    ours = by_hand.loss(model, batch, advantages, temperature, old=old)
    inputs = trl_inputs(batch, advantages) | earlier
    theirs = trl_trainer.compute_loss(trl_trainer.model, inputs)

    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    gradient = by_hand_checks.gradients(model, ours)
    expected = by_hand_checks.gradients(trl_trainer.model, theirs)
    assert gradient.keys() == expected.keys()
    assert by_hand_checks.relative_difference(gradient, expected) <= 1e-5


# -- the checks: solutions pass -----------------------------------------------------------------


def marked(case, name):
    """Return a case of a test, marked as heavy if it checks one of the functions that train."""
    return pytest.param(case, marks=pytest.mark.heavy if name in TRAINS else ())


every_function = pytest.mark.parametrize("name", [marked(name, name) for name in FUNCTIONS])


def namespace():
    """Return what the notebook has when a solution is pasted into it."""
    names = {"torch": torch, "by_hand": by_hand}
    return names | {"encode": by_hand.encode, "decode": by_hand.decode}


@pytest.fixture(scope="module")
def solved():
    """The five functions of the page of solutions."""
    names = namespace()
    for code in solutions("08_write_grpo_yourself").values():
        exec(code, names)
    return {name: names[name] for name in FUNCTIONS}


@pytest.fixture
def faults(model, tokenizer, questions, prompts, batch):
    """The check of each function, by its name: a function of a reader's function."""
    checks = by_hand_checks
    return {
        "sample": lambda mine: checks.fault_of_sample(mine, model, prompts, SETTINGS),
        "score": checks.fault_of_score,
        "advantage": checks.fault_of_advantage,
        "loss": lambda mine: checks.fault_of_loss(mine, model, batch, SETTINGS),
        "step": lambda mine: checks.fault_of_step(mine, model, tokenizer, questions, SETTINGS),
    }


@every_function
def test_solution_passes_its_check(faults, solved, name):
    assert faults[name](solved[name]) == ""


@every_function
def test_empty_function_is_told_that_it_returns_none(faults, name):
    assert f"{name}() returns None" in faults[name](lambda *args, **kwargs: None)


@pytest.mark.heavy
def test_check_leaves_the_model_as_it_was(model, faults, solved):
    before = copy.deepcopy(model.state_dict())

    for name in ("loss", "step"):
        faults[name](solved[name])

    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


# -- the checks: mistakes are told --------------------------------------------------------------

# Function, what stands in its solution, what is written instead, and a part of what the check says.
MISTAKES = {
    "groups not together": (
        "sample",
        "return by_hand.Batch(sequences, attention_mask, completion_mask)",
        "return by_hand.Batch(*(t.flip(0) for t in (sequences, attention_mask, completion_mask)))",
        "the G rows of a prompt follow one another",
    ),
    "one completion each": (
        "sample",
        "return by_hand.Batch(sequences, attention_mask, completion_mask)",
        "return by_hand.Batch(*(t[::4] for t in (sequences, attention_mask, completion_mask)))",
        "prompts with G = 4 make 8 rows, not 2",
    ),
    "end token left out": ("sample", "(ends_before == 0)", "(ends.cumsum(dim=1) == 0)", "with it"),
    "padding counted": ("sample", "(ends_before == 0)", "(ends_before >= 0)", "first end token"),
    "temperature left out": (
        "sample",
        "temperature=settings.temperature,",
        "",
        "most completions begin alike",
    ),
    "usual top_k": ("sample", "top_k=0", "top_k=50", "top_k=0 lets all in"),
    "a list of rewards": ("score", "torch.tensor(rewards)", "rewards", "should return a tensor"),
    "only the verdict compared": ("score", "[:2]", "[1]", "the wrong form should earn 0, not 1"),
    "mean of the batch": (
        "advantage",
        "groups.mean(dim=1, keepdim=True)",
        "groups.mean()",
        "rewards 1, 0, 0, 0 give",
    ),
    "divided by G": (
        "advantage",
        "groups.std(dim=1, keepdim=True)",
        "groups.std(dim=1, keepdim=True, correction=0)",
        "rewards 1, 0, 0, 0 give 1.5",
    ),
    "division by zero": ("advantage", " + 1e-4", "", "rewards 0.3, 0.3, 0.3, 0.3 give 0"),
    "groups not flattened": ("advantage", ".view(-1)\n", "\n", "should return the shape (12,)"),
    "no temperature": ("loss", " / temperature", "", "divide the logits by the temperature"),
    "no clipping": (
        "loss",
        "-torch.minimum(ratio * of_answer, clipped * of_answer)",
        "-ratio * of_answer",
        "no ratio is clipped",
    ),
    "no mask": (
        "loss",
        "mask = batch.completion_mask",
        "mask = torch.ones_like(new)",
        "padding counts",
    ),
    "answers count alike": (
        "loss",
        "return (token_losses * mask).sum() / mask.sum()",
        "return ((token_losses * mask).sum(1) / mask.sum(1)).mean()",
        "tokens count alike, not answers",
    ),
    "one place off": ("loss", "-length - 1 : -1", "-length:", "a batch has the loss "),
    "no detach": ("loss", "new.detach()", "new", "must have a gradient"),
    "no gradient": ("loss", ".squeeze(2)", ".squeeze(2).detach()", "the loss has no gradient"),
    "golds in another order": (
        "step",
        "    for question in questions:\n"
        "        golds += [question.gold] * settings.num_generations",
        "    golds = [question.gold for question in questions] * settings.num_generations",
        "the gold answer of its own question",
    ),
    "gradients kept": ("step", "    optimizer.zero_grad()\n", "", "zero_grad() first"),
    "no update": ("step", "    optimizer.step()\n", "", "no weight has changed"),
    "rewards not returned": ("step", "return rewards", "return rewards.mean()", "(16,)"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", [marked(key, MISTAKES[key][0]) for key in MISTAKES])
def test_frequent_mistake_is_told(faults, solved, mistake):
    name, right, wrong, message = MISTAKES[mistake]
    number = f"8.{FUNCTIONS.index(name) + 1}"
    code = solutions("08_write_grpo_yourself")[number]
    assert right in code
    names = namespace() | solved

    exec(code.replace(right, wrong), names)

    assert message in faults[name](names[name])
