"""What a chat template gets besides the messages, and the file that may take its place.

In: a run's parameters. Out: keyword arguments for chat templates, and the text of a jinja file.
Some templates print today's date (Midm 2.0, Llama 3.x, gpt-oss): the prompts of such a model would
change at midnight, when a run resumes, and in notebook 05. Here a run has one date, which is
decided when it starts, kept in its ``settings.json`` and handed to the template as
``date_string``; a template that asks for the time instead gets the beginning of that day. The
article takes no notice of the date.

Some models can think before they answer, and their templates switch it (``enable_thinking``: Qwen3,
EXAONE 4, SmolLM3 and others). It is off unless a run says otherwise; a model with another switch
takes it in ``chat_template_kwargs``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import InputError, read_text
from grpo_helpers.library_fixes import stop_clock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What chat templates get besides the messages and the date where there is no run. It makes Qwen3
# and similar models answer at once; other chat templates ignore it.
NO_THINK: Mapping[str, Any] = {"enable_thinking": False}

# The date where there is no run, or the run is older than the parameter date_string. It is the one
# that the templates of Llama 3.x print where nobody tells them the time.
DEFAULT_DATE = "26 Jul 2024"

# English in every locale, as in the templates' own text.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


# -- the date --------------------------------------------------------------------------------------


def today() -> str:
    """Return today's date in the form that chat templates use: ``27 Nov 2026``."""
    day = date.today()
    return f"{day.day:02d} {MONTHS[day.month - 1]} {day.year}"


def parse_date(text: str) -> datetime:
    """Return the beginning of a day.

    Raises:
        InputError: The text is no date of the form ``27 Nov 2026``.

    >>> parse_date("27 Nov 2026").isoformat()
    '2026-11-27T00:00:00'
    """
    parts = re.fullmatch(r"(\d{2}) (\w{3}) (\d{4})", text)

    with suppress(ValueError):  # no such month, or no such day in it
        if parts:
            month = MONTHS.index(parts[2]) + 1
            return datetime(int(parts[3]), month, int(parts[1]))

    raise InputError(
        f"date_string is {text!r}; write two digits, an English month of three letters, "
        f"and the year, as in {DEFAULT_DATE}"
    )


def recorded_date(parameters: Mapping[str, Any]) -> str:
    """Return the date of a run.

    Args:
        parameters: What its ``settings.json`` records; a run that is older than the parameter
            ``date_string`` has :data:`DEFAULT_DATE`.

    >>> recorded_date({"date_string": "27 Nov 2026"}), recorded_date({})
    ('27 Nov 2026', '26 Jul 2024')
    """
    return parameters.get("date_string") or DEFAULT_DATE


def freeze_clock(
    tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any]
) -> None:
    """Let the chat template of a tokenizer read the date of the run, also where it asks the clock.

    Args:
        tokenizer: The tokenizer whose template is about to be rendered, by us or by TRL.
        chat_template_kwargs: What the template gets; of a ``date_string`` in another form than ours
            only the template knows the meaning, so the clock then shows :data:`DEFAULT_DATE`.
    """
    moment = parse_date(DEFAULT_DATE)
    with suppress(InputError):
        moment = parse_date(str(dated(chat_template_kwargs)["date_string"]))

    stop_clock(tokenizer.get_chat_template(), moment)


# -- arguments -------------------------------------------------------------------------------------


def template_kwargs(extra_grpo_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run gives chat templates besides messages, date and thinking.

    Args:
        extra_grpo_args: The parameter of notebook 04; its ``chat_template_kwargs`` is a field of
            TRL's.

    Raises:
        InputError: ``chat_template_kwargs`` is not a mapping.

    >>> template_kwargs({}), template_kwargs({"chat_template_kwargs": {"skip": True}})
    ({}, {'skip': True})
    """
    kwargs = extra_grpo_args.get("chat_template_kwargs")

    if isinstance(kwargs, str):  # TRL takes JSON, too
        with suppress(json.JSONDecodeError):
            kwargs = json.loads(kwargs)
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise InputError(
            f"chat_template_kwargs is {kwargs!r}; give a mapping such as {{reasoning_effort: low}}"
        )
    return dict(kwargs)


def with_thinking(
    chat_template_kwargs: Mapping[str, Any], enable_thinking: bool = False
) -> dict[str, Any]:
    """Return the arguments of a chat template with the switch for thoughts.

    A switch that is there already stays.

    >>> with_thinking({"skip": True}, enable_thinking=True)
    {'enable_thinking': True, 'skip': True}
    """
    return {"enable_thinking": enable_thinking} | dict(chat_template_kwargs)


def dated(
    chat_template_kwargs: Mapping[str, Any], date_string: str = DEFAULT_DATE
) -> dict[str, Any]:
    """Return the arguments of a chat template with a date; one that is there already stays.

    >>> dated({"enable_thinking": False}, "27 Nov 2026")
    {'date_string': '27 Nov 2026', 'enable_thinking': False}
    """
    return {"date_string": date_string} | dict(chat_template_kwargs)


# -- a template of one's own -----------------------------------------------------------------------


def read_chat_template(path: str) -> str:
    """Return the text of a jinja file that takes the place of a model's chat template.

    Raises:
        InputError: The file cannot be read, or is empty.
    """
    text = read_text(path, "chat template")
    if not text.strip():
        raise InputError(
            f"chat template {path} is empty: write a template, or leave chat_template_path empty"
        )
    return text
