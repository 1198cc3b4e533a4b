"""The pictures of the coins: where a coin lies, how it turns, how long and large the animation."""

import numpy as np
import pytest
from helpers import made_up_coins
from matplotlib import pyplot as plt
from PIL import Image

from grpo_helpers.coins import FAMILIES, by_family
from grpo_helpers.files import InputError
from tools.experiments.coins import write_coins
from tools.pages import coins as page

SIZES = {"rewarded": 12, "real": 6, "invented": 8}  # words of a two-way family
MANY = {"rewarded": 20, "real": 6, "invented": 3}
STEPS = 126  # of the default run, with the state before


@pytest.fixture
def field():
    field = page.Field(made_up_coins(), "a run")
    yield field
    plt.close(field.figure)


def test_no_two_coins_lie_in_the_same_place():
    layout = page.lay_out(by_family(made_up_coins(2, MANY)))

    assert len(np.unique(layout.places, axis=0)) == len(layout.places) == 29 * len(FAMILIES)


def test_coins_lie_inside_the_field():
    layout = page.lay_out(by_family(made_up_coins(2, MANY)))

    assert layout.places.min() == 0
    assert (layout.places.max(axis=0) < (layout.width, layout.height)).all()


def test_undecided_coin_stands_on_its_edge(field):
    page._turn(field.ellipses, np.array([0.0, 0.5, 1.0]))

    widths = 2 * field.ellipses._widths  # matplotlib keeps half of them
    assert widths == pytest.approx(page.DIAMETER * np.array([1, page.EDGE, 1]))


def test_clock_begins_before_training(field):
    field.show(0)
    assert field.clock.get_text() == "before training"

    field.show(3)
    assert field.clock.get_text() == "step 3 of 8"


def test_counts_are_those_of_the_step(field):
    rewarded = field.coins.of_blocks("rewarded")
    field.show(4)

    counted = f"{rewarded.turned(4)} of {len(rewarded.words)} words above .9"
    assert field.counts["rewarded"].get_text() == counted


def test_example_of_a_family_is_a_rewarded_word():
    coins = made_up_coins(2)
    is_invented = coins.words["block"] == "invented"
    coins.words.loc[is_invented, "word"] = "갿"
    field = page.Field(coins, "a run")

    labels = [text.get_text() for text in field.ax.texts]
    plt.close(field.figure)

    assert not any("갿" in label for label in labels)


@pytest.mark.parametrize("count", [2, STEPS, 1000])
def test_animation_is_at_most_twelve_seconds_long(count):
    frames = page.frame_columns(count)

    seconds = page.FIRST_PAUSE + page.LAST_PAUSE + page.FRAME * (len(frames) - 2)
    assert seconds <= page.LONGEST
    assert frames[0] == 0
    assert frames[-1] == count - 1


@pytest.fixture(scope="module")
def animation(tmp_path_factory):
    """The animation of a few steps with as many coins as the default run has."""
    file = tmp_path_factory.mktemp("animation") / "coins.gif"
    return page.animate(made_up_coins(7, SIZES), "a run", file)


@pytest.mark.parametrize("file", sorted(page.DOCS.glob("coins.gif")))
def test_committed_animation_is_small_enough_for_a_readme(file):
    assert file.stat().st_size <= page.LARGEST


def test_animation_begins_and_ends_with_a_pause(animation):
    durations = []
    with Image.open(animation) as image:
        for number in range(image.n_frames):
            image.seek(number)
            durations.append(image.info["duration"])

    assert durations[0] == page.FIRST_PAUSE
    assert durations[-1] == page.LAST_PAUSE


def test_animation_that_would_be_too_large_shows_fewer_steps(tmp_path, monkeypatch):
    file = tmp_path / "coins.gif"
    coins = made_up_coins(5)
    whole = page.animate(coins, "a run", file).stat().st_size
    monkeypatch.setattr(page, "LARGEST", whole - 1)

    page.animate(coins, "a run", file)

    with Image.open(file) as image:
        assert image.n_frames == 3


def test_animation_that_is_too_large_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LARGEST", 1000)

    with pytest.raises(InputError, match=r"coins\.gif would have \d+ bytes"):
        page.animate(made_up_coins(3), "a run", tmp_path / "coins.gif")
    assert not list(tmp_path.iterdir())


def test_command_without_coins_says_how_to_make_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "FOLDER", tmp_path)

    assert page.main(["--run", "seed_0"]) == 2
    assert "python -m tools.experiments.coins seed_0 records them" in capsys.readouterr().err


def test_pictures_are_drawn_of_what_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    for name in ("seed_0", "quoted"):
        write_coins(page.coins_file(tmp_path, name), made_up_coins(3))

    files = page.draw("seed_0", ["quoted"], docs=tmp_path)

    assert [file.name for file in files] == ["coins.png", "coins.gif"]
    assert all(file.is_file() for file in files)
