"""Draw the coins of a run: ``python -m tools.pages.coins [--run seed_0] [--beside quoted]``.

In: ``data/reference_runs/coins/<run>.csv.gz``. Out: ``docs/coins.png``, the heat maps of the run
and of the one beside it (:func:`grpo_helpers.plots.plot_coins`), and ``docs/coins.gif``, the run as
a field of coins that turn.

Every coin is a word. It stands on its edge while the model is undecided between the two forms, and
turns as the model makes up its mind: its blue side shows for the right form, its orange side for
the wrong one. Width and colour say the same thing, so the picture can be read without colours.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.coins import (
    BLOCKS,
    CORRECTED,
    REWARDED,
    Coins,
    by_family,
    coins_file,
    examples,
    family_name,
    family_order,
    load_coins,
)
from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError, project_root
from grpo_helpers.plots import (
    plot_coins,
    save_figure,
    share_colors,
    turned_line,
    use_course_style,
)
from tools.experiments.recorded_runs import FOLDER

if TYPE_CHECKING:
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure
    from PIL.Image import Image

DOCS = project_root() / "docs"
RUN_TITLES = {"seed_0": "The default run", "quoted": "A run whose reward is gamed"}

LARGEST = 2_000_000  # bytes of the animation
FRAME = 60  # milliseconds of a frame, in tens: a GIF counts hundredths of a second
FIRST_PAUSE = 1_200  # milliseconds: the coins before training
LAST_PAUSE = 2_800
LONGEST = 12_000  # milliseconds of the animation
STRIDES = (1, 2, 3, 4)  # show all steps, or every second ..., until the animation is small enough
PALETTE = 32  # colours
LEVELS = 20  # of a share that are told apart: a coin that stays the same costs no bytes

SHOWN = [block for block in BLOCKS if block != CORRECTED]  # who swaps is always right there
PER_ROW = 12  # coins of a block in a row; further ones are in the next row
GAP = 1.3  # coins that would fit between two blocks
KIND_GAP = 0.45  # rows that would fit between two kinds of families
DIAMETER = 0.86  # of a coin; the next one is 1 away
EDGE = 0.17  # width of a coin that stands on its edge, as a share of the diameter
SIZE = (9.0, 6.7)  # inches
DPI = 100


# -- where the coins lie ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Where all coins lie; numbers count columns from the left and rows from the top.

    Attributes:
        places: The column and the row of each coin, (coins, 2).
        rows: The first row of each family.
        columns: The first column of each block.
        width: How many columns there are.
        height: How many rows there are.
    """

    places: np.ndarray
    rows: Mapping[str, float]
    columns: Mapping[str, float]
    width: float
    height: float


def lay_out(coins: Coins) -> Layout:
    """Return where coins lie: the families below each other, the blocks side by side.

    Args:
        coins: Words of :data:`SHOWN` in the order of :func:`grpo_helpers.coins.by_family`.
    """
    keys = list(zip(coins.words["block"], coins.families, strict=True))
    sizes = Counter(keys)

    rows = {}
    height = 0.0
    kinds = dict(zip(coins.families, coins.words["kind"], strict=True))
    for before, family in itertools.pairwise(["", *family_order(coins)]):
        if before and kinds[before] != kinds[family]:
            height += KIND_GAP
        rows[family] = height
        longest = max(sizes[block, family] for block in SHOWN)
        height += math.ceil(longest / PER_ROW)

    columns = {}
    width = -GAP
    for block in SHOWN:
        columns[block] = width + GAP
        longest = max((size for key, size in sizes.items() if key[0] == block), default=0)
        width = columns[block] + min(longest, PER_ROW)

    numbers: dict[tuple[str, str], Iterator[int]] = {key: itertools.count() for key in sizes}
    places = []
    for block, family in keys:
        down, right = divmod(next(numbers[block, family]), PER_ROW)
        places.append((columns[block] + right, rows[family] + down))
    return Layout(np.array(places), rows, columns, width=width, height=height)


# -- one picture -----------------------------------------------------------------------------------


class Field:
    """A figure with a coin for each word, which can show any step.

    Attributes:
        figure: The figure.
        steps: The steps that can be shown.
    """

    def __init__(self, coins: Coins, title: str) -> None:
        """Draw what is the same at all steps.

        Args:
            coins: The coins of a run.
            title: What the figure calls the run.
        """
        import matplotlib.pyplot as plt

        self.coins = by_family(coins.of_blocks(*SHOWN))
        self.steps = coins.steps
        self.layout = lay_out(self.coins)
        self.figure: Figure = plt.figure(figsize=SIZE, dpi=DPI)
        self.ax = self.figure.add_axes((0.235, 0.08, 0.755, 0.77))
        self.ax.set(xlim=(-0.6, self.layout.width - 0.4), ylim=(self.layout.height - 0.4, -0.6))
        self.ax.axis("off")

        text = self.figure.text
        text(0.012, 0.98, f"{title}: every coin is a word", va="top", fontsize=15)
        self.clock = text(0.988, 0.98, "", va="top", ha="right", fontsize=15)
        self._label_families()
        self.counts = {block: self._heading(block) for block in SHOWN}
        self.ellipses = self._draw_coins(self.layout.places)
        self._legend()

    def show(self, column: int) -> None:
        """Show one of the steps.

        Args:
            column: Its place in :attr:`steps`.
        """
        _turn(self.ellipses, self.coins.shares[:, column])
        for block, count in self.counts.items():
            of_block = self.coins.of_blocks(block)
            count.set_text(turned_line(of_block, column))

        step = self.steps[column]
        self.clock.set_text(f"step {step} of {self.steps[-1]}" if step else "before training")

    def _label_families(self) -> None:
        words = examples(self.coins) | examples(self.coins.of_blocks(REWARDED))
        for family, row in self.layout.rows.items():
            label = f"{family_name(family)}  {words[family]}"
            self.ax.text(-0.9, row, label, ha="right", va="center", fontsize=8.5)

    def _heading(self, block: str) -> Any:
        """Write what a block is; return the text below it, which counts its coins."""
        x = self.layout.columns[block] - 0.45
        what, _, which = BLOCKS[block].partition(", ")
        heading = f"{what},\n{which}"
        self.ax.text(x, -1.6, heading, va="bottom", fontsize=9.5)
        return self.ax.text(x, -0.75, "", va="bottom", fontsize=9.5, color="#555555")

    def _draw_coins(self, places: np.ndarray) -> EllipseCollection:
        from matplotlib.collections import EllipseCollection

        ellipses = EllipseCollection(
            widths=np.ones(len(places)),
            heights=np.full(len(places), DIAMETER),
            angles=np.zeros(len(places)),
            units="x",  # columns, for the heights too: the coins are round
            offsets=places,
            offset_transform=self.ax.transData,
            cmap=share_colors(),
            clim=(0, 1),
            edgecolors="#7a7a7a",
            linewidths=0.5,
            clip_on=False,
        )
        self.ax.add_collection(ellipses)
        return ellipses

    def _legend(self) -> None:
        """Draw three coins below the field, and what they stand for."""
        meanings = {0.0: "sure of the wrong form", 0.5: "undecided", 1.0: "sure of the right form"}
        row = self.layout.height + 0.5
        columns = self.layout.width * np.array([0.05, 0.42, 0.63])

        samples = self._draw_coins(np.column_stack([columns, np.full(3, row)]))
        _turn(samples, np.array(list(meanings)))
        for column, meaning in zip(columns, meanings.values(), strict=True):
            self.ax.text(column + 0.8, row, meaning, va="center", fontsize=9.5)


def _turn(ellipses: EllipseCollection, shares: np.ndarray) -> None:
    """Turn coins as far as the model is decided, and colour them."""
    levels = np.round(shares * LEVELS) / LEVELS
    decided = abs(2 * levels - 1)
    ellipses.set_widths(DIAMETER * (EDGE + (1 - EDGE) * decided))
    ellipses.set_array(levels)


# -- the animation ---------------------------------------------------------------------------------


def frame_columns(count: int) -> list[int]:
    """Return which of the measured steps are shown: all, or evenly spaced ones if time is short.

    >>> frame_columns(4)
    [0, 1, 2, 3]
    """
    room = (LONGEST - FIRST_PAUSE - LAST_PAUSE) // FRAME
    return thinned(range(count), math.ceil(count / room))


def thinned(values: Sequence[Any], stride: int) -> list[Any]:
    """Return every so many of the values, the first and the last among them.

    >>> thinned([10, 11, 12, 13], 2)
    [10, 12, 13]
    """
    last = len(values) - 1
    return [values[place] for place in sorted({*range(0, last, stride), last})]


def animate(coins: Coins, title: str, file: Path) -> Path:
    """Write the coins of a run as a GIF that repeats.

    Where it would be too large, it shows fewer of the steps, each for longer.

    Args:
        coins: The coins.
        title: What the picture calls the run.
        file: Where the animation goes.

    Raises:
        InputError: It is larger than :data:`LARGEST` even so; nothing is written then.
    """
    import matplotlib.pyplot as plt

    field = Field(coins, title)
    frames = []
    for column in frame_columns(len(coins.steps)):
        field.show(column)
        frames.append(_picture(field.figure))
    plt.close(field.figure)
    frames = _with_one_palette(frames)

    partial = file.with_name(f".{file.name}.partial")
    for stride in STRIDES:
        _write_gif(partial, thinned(frames, stride), FRAME * stride)
        if partial.stat().st_size <= LARGEST:
            os.replace(partial, file)
            return file

    size = partial.stat().st_size
    partial.unlink()
    raise InputError(f"{file.name} would have {size} bytes, at most {LARGEST}: lower LEVELS")


def _write_gif(file: Path, frames: Sequence[Image], milliseconds: int) -> None:
    """Write frames as a GIF, each shown for so many milliseconds, the first and last for longer."""
    first, *others = frames
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=[FIRST_PAUSE, *[milliseconds] * (len(frames) - 2), LAST_PAUSE],
        loop=0,
        optimize=True,  # what stays the same from frame to frame is left out
    )


def _picture(figure: Figure) -> Image:
    """Return a figure as an image."""
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _with_one_palette(frames: Sequence[Image]) -> list[Image]:
    """Return images with the same few colours, those of the first, the middle and the last."""
    from PIL import Image

    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    width, height = frames[0].size
    together = Image.new("RGB", (width, height * len(chosen)))
    for number, frame in enumerate(chosen):
        together.paste(frame, (0, number * height))

    palette = together.quantize(PALETTE, dither=Image.Dither.NONE)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


# -- the command -----------------------------------------------------------------------------------


def draw(run: str, beside: Sequence[str], docs: Path = DOCS) -> list[Path]:
    """Draw the pictures of a run; return the files.

    Args:
        run: The run of the animation, and of the first heat map.
        beside: Runs whose heat maps are drawn beside it.
        docs: The folder of the files.
    """
    use_course_style()
    coins = {name: load_coins(coins_file(FOLDER, name)) for name in (run, *beside)}
    titled = {RUN_TITLES.get(name, name): each for name, each in coins.items()}

    still = docs / "coins.png"
    save_figure(plot_coins(titled), still)
    moving = animate(coins[run], RUN_TITLES.get(run, run), docs / "coins.gif")
    return [still, moving]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the pictures; return 0, or 2 if a run has no coins."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pages.coins", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", default="seed_0", help="the run of the animation")
    parser.add_argument("--beside", nargs="*", default=["quoted"], help="further heat maps")
    args = parser.parse_args(argv)

    def body() -> int:
        for file in draw(args.run, args.beside):
            print(file, flush=True)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
