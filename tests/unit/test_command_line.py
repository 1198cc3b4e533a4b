"""How commands end."""

import pytest

from grpo_helpers.command_line import BAD_INPUT, FAILURE, print_error, run_command
from grpo_helpers.files import InputError


def refuse():
    raise InputError("rows.json has no rows: add one")


def test_exit_code_of_the_body_is_passed_on():
    assert run_command(lambda: FAILURE) == FAILURE


def test_bad_input_gives_exit_code_two():
    assert run_command(refuse) == BAD_INPUT == 2


def test_bad_input_is_one_line_on_stderr(capsys):
    run_command(refuse)
    assert capsys.readouterr().err == "error: rows.json has no rows: add one\n"


def test_bad_input_prints_nothing_on_stdout(capsys):
    run_command(refuse)
    assert capsys.readouterr().out == ""


def test_other_exceptions_are_passed_on():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_printed_error_has_the_common_prefix(capsys):
    print_error("skipped: a.json")
    assert capsys.readouterr().err == "error: skipped: a.json\n"
