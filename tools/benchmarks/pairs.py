"""How many times faster one way is than another, from steps that were timed in turns.

In: the seconds of both ways, pair by pair. Out: the median ratio and its 95 % interval. A pair was
measured within the same minute, so a slow minute of the machine hardly changes its ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class TimesFaster:
    """The median ratio of pairs.

    Attributes:
        median: How many times faster.
        low: Lower end of the 95 % interval, by resampling pairs.
        high: Upper end.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, slow: Sequence[float], fast: Sequence[float]) -> TimesFaster:
        """Compare two ways pair by pair.

        Args:
            slow: The seconds of the way that is expected to be slower.
            fast: The seconds of the other one, in the same order.

        >>> TimesFaster.of([4.0, 9.0, 8.0], [2.0, 3.0, 4.0]).median
        2.0
        """
        ratios = np.array(slow) / np.array(fast)
        rng = np.random.default_rng(0)
        picks = rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))
        medians = np.median(ratios[picks], axis=1)

        low, high = np.percentile(medians, [2.5, 97.5])
        return cls(float(np.median(ratios)), float(low), float(high))

    @property
    def text(self) -> str:
        """The ratio with its interval.

        >>> TimesFaster(2.0, 1.9, 2.25).text
        '2.00 [1.90, 2.25]'
        """
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def facts(self) -> dict[str, object]:
        """The figures that are recorded."""
        interval = [round(self.low, 2), round(self.high, 2)]
        return {"times_faster": round(self.median, 2), "interval": interval}
