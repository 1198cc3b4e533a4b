"""A reward for short completions, thought included: what pays for silence (notebook 07).

``reward_module: tools/experiments/brevity.py`` registers it as ``brevity``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpo_helpers import rewards

FULL_LENGTH = 80  # characters from which a completion earns nothing


def brevity_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return 1 for nothing at all, 0 from :data:`FULL_LENGTH` characters on.

    >>> brevity_reward(["기" * 40, "기" * 100])
    [0.5, 0.0]
    """
    earned = []
    for completion in completions:
        length = len(rewards.completion_text(completion))
        earned.append(max(0.0, 1 - length / FULL_LENGTH))
    return earned


rewards.register("brevity", brevity_reward, label="brevity", sees_thought=True)
