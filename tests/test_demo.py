"""The demo: its numbers are the published ones, and its network learns to read."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import demo
from chainrule.data import digits
from chainrule.terminal import Screen


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_demo_learns_to_read() -> None:
    stream = io.StringIO()
    assert demo.main(Screen(stream)) >= 0.97
    shown = stream.getvalue()
    assert re.findall(r"^(\d)  ", shown, re.M) == list("1234567")
    explained = shown[shown.index("7  One number") :]
    assert "per sample (b counts 5 samples)" in explained
    assert "terms are 0:" in explained
    assert len(explained.splitlines()) <= 36  # 30 for the explanation, 6 to introduce it
    assert shown.count("  epoch ") == demo.EPOCHS
    assert "\x1b" not in shown


def test_the_demo_shows_the_derivation_and_the_published_numbers() -> None:
    stream = io.StringIO()
    demo.worked_example(Screen(stream))
    shown = stream.getvalue()
    assert "result  = sum[i,j](δx[i,j]*o[i+m,j+n])" in shown
    assert "δw =  0.0448  0.0944" in shown
    assert "0.0113  0.0686" in shown
    assert "E falls from 0.042500 to 0.031901" in shown


def test_worked_numbers_to_all_published_digits() -> None:
    gradient = cr.Program(demo.WORKED).gradient(of="E", wrt=["w", "b"])
    values = gradient.run(**demo.worked_inputs())
    np.testing.assert_allclose(
        values["δw"], [[0.044757279, 0.094384569], [0.01129613, 0.068561809]], atol=5e-10
    )
    np.testing.assert_allclose(values["δb"], 0.083937186, atol=5e-10)


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_terminal_gets_colour_unless_it_says_no(
    monkeypatch: pytest.MonkeyPatch, no_colour: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = Terminal()
    screen = Screen(stream)
    demo.worked_example(screen)
    screen.table(["name", "value"], [["[bold]x", "1\n2"]])
    with screen.progress("working", 2) as progress:
        progress.step("half")
        progress.step()
    shown = stream.getvalue()
    assert "[bold]x" in shown  # a cell is not markup
    assert "half" in shown
    colours = re.search(r"\x1b\[(3[0-7]|9[0-7]|38)", shown)
    assert (colours is None) == bool(no_colour)


def test_the_digits() -> None:
    images, labels = digits(np.float32)
    assert (images.dtype, images.shape) == (np.float32, (1797, 8, 8))
    assert (labels.dtype, np.bincount(labels).tolist()) == (
        np.int64,
        [178, 182, 177, 183, 181, 182, 181, 179, 174, 180],
    )
    assert set(np.unique(images * 16)) == set(range(17))
