"""Targets: a figure, its limit, one printed line, one exit code, one recorded row."""

from __future__ import annotations

import json
import math

import pytest

from tools.benchmarks.targets import Target, record, report

REACHED = Target("gain", 25.04, ">=", 25, "points")
MISSED = Target("ratio", 1.1, "<=", 1.03)


@pytest.mark.parametrize(
    ("relation", "reached"), [(">=", True), ("<=", True), (">", False), ("<", False)]
)
def test_figure_on_its_limit_is_reached_by(relation, reached):
    assert Target("share", 0.5, relation, 0.5).is_reached == reached


@pytest.mark.parametrize("relation", [">=", "<=", ">", "<"])
def test_missing_figure_is_never_reached(relation):
    assert not Target("share", math.nan, relation, 0.5).is_reached


def test_text_names_limit_and_unit():
    assert REACHED.text == "gain >= 25 points"


def test_report_prints_one_line_per_target(capsys):
    report([REACHED, MISSED])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["reached  gain >= 25 points: 25", "MISSED   ratio <= 1.03: 1.1"]


def test_report_uses_the_given_precision(capsys):
    report([REACHED], precision=".2f")
    assert capsys.readouterr().out.endswith(": 25.04\n")


@pytest.mark.parametrize(("targets", "code"), [([REACHED], 0), ([REACHED, MISSED], 1), ([], 0)])
def test_one_missed_target_fails(targets, code):
    assert report(targets) == code


@pytest.fixture
def file(tmp_path):
    """A file with another benchmark's figures and one recorded part."""
    file = tmp_path / "bench.json"
    file.write_text('{"rewards": {"targets": []}}', encoding="utf-8")
    record("training", [REACHED, MISSED], {"questions": 64}, file)
    return file


def test_record_writes_text_figure_and_verdict(file):
    targets = json.loads(file.read_text(encoding="utf-8"))["training"]["targets"]
    assert targets == [
        {"target": "gain >= 25 points", "figure": 25.0, "reached": True},
        {"target": "ratio <= 1.03", "figure": 1.1, "reached": False},
    ]


def test_record_adds_facts(file):
    assert json.loads(file.read_text(encoding="utf-8"))["training"]["questions"] == 64


def test_record_leaves_other_parts_alone(file):
    assert json.loads(file.read_text(encoding="utf-8"))["rewards"] == {"targets": []}


def test_part_that_is_not_whole_keeps_its_other_figures(tmp_path):
    file = tmp_path / "bench.json"
    record("part", [Target("a", 1.0, ">", 0)], {"a": 1}, file)
    record("part", [Target("b", 2.0, ">", 0)], {"b": 2}, file, is_whole=False)

    part = json.loads(file.read_text(encoding="utf-8"))["part"]
    assert (part["a"], part["b"]) == (1, 2)
    assert [row["figure"] for row in part["targets"]] == [1.0, 2.0]
