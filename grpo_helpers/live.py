"""A view of a training while it runs: the reward of every step so far, in a notebook's output.

In: the log rows of a run (:class:`grpo_helpers.run_folder.RunFolder`). Out: one figure, which is
drawn anew in the same place. Outside a notebook, nothing is shown.

The article shows nothing before the end; who waits for ten minutes wants to see something move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from grpo_helpers.health import EXACT_MATCH
from grpo_helpers.plots import draw
from grpo_helpers.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import TrainerControl, TrainerState, TrainingArguments


class LiveCurve(TrainerCallback):
    """Draws the curve of a run anew after every few steps.

    Give it to ``train``: ``train(settings, callbacks=[LiveCurve(RunFolder(settings.run_dir))])``.
    """

    def __init__(self, run: RunFolder, every: int = 1) -> None:
        """Take the run whose log is drawn.

        Args:
            run: The folder of the run that trains.
            every: Steps between two drawings.
        """
        self.run = run
        self.every = every
        self._place: Any = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Draw what the log has so far: the step that has just ended is logged a moment later."""
        is_due = state.global_step % self.every == 0
        if state.is_world_process_zero and is_due:
            self.draw(state.max_steps)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Draw the whole curve."""
        if state.is_world_process_zero:
            self.draw(state.max_steps)

    def draw(self, steps: int) -> None:
        """Show the curve so far, in the place of the one before.

        Args:
            steps: How many steps the run will have.
        """
        import matplotlib.pyplot as plt
        from IPython.display import display

        rows = self.run.log.step_rows()
        if not rows:
            return

        figure = curve_so_far(rows, steps)
        if self._place is None:
            self._place = display(figure, display_id=True)
        else:
            self._place.update(figure)
        plt.close(figure)  # or the notebook would show it a second time


def curve_so_far(rows: list[dict[str, Any]], steps: int) -> Figure:
    """Return a figure of the share of sampled answers that are right, step by step.

    Args:
        rows: Log rows of the steps so far, one or more.
        steps: How many steps the run will have; the axis is as long from the start.
    """
    import matplotlib.pyplot as plt

    last = rows[-1]

    figure, ax = plt.subplots(figsize=(8, 3))
    draw(ax, rows, EXACT_MATCH, "em")
    ax.set(xlim=(1, max(steps, 2)), ylim=(0, 1.02), xlabel="step")
    ax.set_ylabel("right answers among the samples")
    ax.set_title(
        f"step {last['step']} of {steps}: {last[EXACT_MATCH]:.0%} of the samples are right"
    )
    return figure
