"""The dev answers of a run: lines of progress, and answers that several processes keep."""

from __future__ import annotations

import pytest

from grpo_helpers import dev_answers
from grpo_helpers.dev_answers import Progress
from grpo_helpers.inference import PartialAnswers

# -- progress --------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: a list with the seconds."""
    seconds = [0.0]
    monkeypatch.setattr(dev_answers.time, "monotonic", lambda: seconds[0])
    return seconds


def lines_of(capsys):
    """Return the lines that were printed since the last call."""
    return capsys.readouterr().out.splitlines()


def test_answers_say_when_they_begin_and_when_they_are_done(clock, capsys):
    progress = Progress("epoch_1", questions=100, known=0, processes=1)
    progress.begin()
    clock[0] = 12.0
    progress.end()

    assert lines_of(capsys) == [
        "answering dev, epoch_1: 100 questions",
        "answering dev, epoch_1: done in 12.0 s",
    ]


def test_line_says_how_far_the_answers_are_and_how_long_they_will_take(clock, capsys):
    progress = Progress("epoch_1", questions=100, known=0, processes=1)
    clock[0] = 60.0
    progress.report(25)

    assert lines_of(capsys) == ["answering dev, epoch_1: 25/100, about 3.0 min left"]


def test_lines_are_not_closer_than_half_a_minute(clock, capsys):
    progress = Progress("epoch_1", questions=100, known=0, processes=1)
    for second in range(100):
        clock[0] = float(second)
        progress.report(second)

    assert len(lines_of(capsys)) == 3


def test_answers_that_are_there_already_took_no_time(clock, capsys):
    progress = Progress("epoch_1", questions=100, known=50, processes=1)
    progress.begin()
    clock[0] = 60.0
    progress.report(75)

    assert lines_of(capsys) == [
        "answering dev, epoch_1: 100 questions, 50 of them are there",
        "answering dev, epoch_1: 75/100, about 1.0 min left",
    ]


def test_other_processes_are_about_as_far(clock, capsys):
    progress = Progress("epoch_1", questions=100, known=0, processes=4)
    clock[0] = 60.0
    progress.report(20)

    assert lines_of(capsys) == ["answering dev, epoch_1: 80/100, about 0.2 min left"]


# -- several processes -----------------------------------------------------------------------------


def test_answers_of_every_process_are_read_back(tmp_path):
    output = tmp_path / "inference_epoch1.json"
    PartialAnswers(output, "same", rank=0).write({0: "가"})
    PartialAnswers(output, "same", rank=1).write({1: "나"})

    assert PartialAnswers(output, "same", rank=1).read() == {0: "가", 1: "나"}


def test_answers_to_other_questions_are_not_read_back(tmp_path):
    output = tmp_path / "inference_epoch1.json"
    PartialAnswers(output, "other").write({0: "가"})

    assert PartialAnswers(output, "same").read() == {}


def test_answers_of_every_process_are_removed(tmp_path):
    output = tmp_path / "inference_epoch1.json"
    for rank in range(2):
        PartialAnswers(output, "same", rank).write({rank: "가"})
    PartialAnswers(output, "same").remove()

    assert list(tmp_path.iterdir()) == []


def test_answers_so_far_are_no_answer_file(tmp_path):
    """Notebook 05 reads every ``*.json`` of the folder."""
    PartialAnswers(tmp_path / "inference_epoch1.json", "same").write({0: "가"})

    assert list(tmp_path.glob("*.json")) == []
