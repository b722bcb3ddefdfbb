"""What a benchmark has measured, as a picture."""

import dataclasses

import pytest

from fedmia_jax.engine.benchmarks import timing
from fedmia_jax.report import figures, speed

ROW = timing.Row("shadows", "fedmia_jax, 1 model", 32, 1, (3e-4, 5e-4, 4e-4), 2.0, 1.0, None, 0, 0, 0, 2**30, "cpu")
ROWS = [
    dataclasses.replace(ROW, case="PyTorch 2.13.0, 1 model", seconds=(2e-3, 3e-3, 2.5e-3)),
    ROW,
    dataclasses.replace(ROW, batch_size=128),
    dataclasses.replace(ROW, suite="sweep", case="100 points", batch_size=0),
]


def test_every_suite_and_batch_size_has_a_panel_in_which_peers_look_different(tmp_path):
    figure = speed.draw(ROWS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["shadows, batch 32", "shadows, batch 128", "sweep"]
    first, *_ = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["PyTorch 2.13.0, 1 model", "fedmia_jax, 1 model"]
    peer, ours = first.containers
    assert [point.get_xdata().tolist() for point, *_ in (peer, ours)] == [pytest.approx([2500]), pytest.approx([400])]
    assert peer[0].get_color() != ours[0].get_color()
    assert [lines.get_segments()[0][:, 0].tolist() for *_, (lines,) in (peer, ours)] == [
        pytest.approx([2000, 3000]),
        pytest.approx([300, 500]),
    ]
    figures.write(tmp_path / "speed.png", figure)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
