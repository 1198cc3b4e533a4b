"""Chat templates that behave as those of known models, and a clock that a test can move.

The texts are ours and short: what they imitate is when a template asks for the date, whether it has
a system text of its own, and whether it takes a system message.
"""

from __future__ import annotations

from datetime import date, datetime

TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

# Looks for date_string, then for a clock; prints the date in a built-in text before ours.
LIKE_MIDM = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '01 Jan 2025' %}{%- endif %}{%- endif %}"
    "<system>우리는 날마다 돕는다. 오늘은 {{ date_string }}이다." + TURNS
)

# The same question, but the system message is merged into the built-in text.
LIKE_LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{%- if messages[0].role == 'system' %}"
    "{%- set first = messages[0].content | trim %}{%- set messages = messages[1:] %}"
    "{%- else %}{%- set first = '' %}{%- endif %}"
    "<system>날짜: {{ date_string }}\n{{ first }}" + TURNS
)

# Knows no date_string: it asks the clock, whatever it is given.
LIKE_GPT_OSS = "<system>날짜: {{ strftime_now('%Y-%m-%d') }}" + TURNS

# Knows no date, and no system message.
LIKE_GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + TURNS
)

# Knows no date, but a switch.
LIKE_QWEN = TURNS + "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"

DATED = {"Midm": LIKE_MIDM, "Llama": LIKE_LLAMA, "gpt-oss": LIKE_GPT_OSS}
UNDATED = {"Gemma": LIKE_GEMMA, "Qwen": LIKE_QWEN, "plain": TURNS}
ALL = DATED | UNDATED


def move_clock(monkeypatch, day):
    """Let the course and transformers believe that it is another day.

    Args:
        monkeypatch: pytest's.
        day: Year, month and day.
    """
    from transformers.utils import chat_template_utils

    from grpo_helpers import chat_template

    class Calendar(date):
        @classmethod
        def today(cls):
            return date(*day)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(*day, 12, tzinfo=tz)

    monkeypatch.setattr(chat_template, "date", Calendar)
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    # Compiled templates are kept; a new process would not have them.
    chat_template_utils._compile_jinja_template.cache_clear()
