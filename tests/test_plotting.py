import itertools

import numpy as np
import pytest
from PIL import Image

from experiments import reporting
from memjax import plotting
from memjax.evaluation import Curves
from memjax.training import metrics


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_shows_ink_dark_and_every_row(tmp_path, channels):
    rows = {
        "empty": np.zeros((3, 8, 8, channels)),
        "full": np.ones((2, 8, 8, channels)),
    }
    plotting.image_grid(tmp_path / "grid.png", rows, "title")
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    assert picture.shape[0] > 100 and picture.shape[1] > 150
    # Two full images of one row, of 84 pixels or so: in grey, ink is dark; in colour, 1 is white.
    dark = np.mean(picture < 50)
    assert 0.05 < dark < 0.6


@pytest.mark.parametrize("ink", [True, False])
def test_grey_images_are_ink_on_paper_or_photographs(ink):
    figure = plotting.image_grid(None, {"row": np.array([0.0, 1.0]).reshape(2, 1, 1, 1)}, ink=ink)
    black, white = (
        image.cmap(image.norm(image.get_array()))[0, 0, 0] for image in figure.axes[0].images
    )
    assert (black, white) == ((1.0, 0.0) if ink else (0.0, 1.0))


def test_colours_beyond_black_and_white_are_drawn_as_these():
    colours = np.array([-0.1, 1.2]).repeat(3).reshape(2, 1, 1, 3)
    figure = plotting.image_grid(None, {"row": colours})
    black, white = (image.get_array() for image in figure.axes[0].images)
    assert not np.any(black) and np.all(white == 1)


def test_learning_curves_draw_training_and_evaluation(tmp_path):
    entries = [
        {"step": 1, "nll": 3.0, "kl_latent": 1.0, "steps_per_second": 9.0},
        {"step": 2, "nll": 2.0, "kl_latent": 2.0, "eval/nll": 2.5, "steps_per_second": 9.0},
    ]
    plotting.learning_curves(tmp_path / "curves.png", entries)
    with_evaluation = (tmp_path / "curves.png").read_bytes()
    del entries[1]["eval/nll"]
    plotting.learning_curves(tmp_path / "curves.png", entries)
    assert (tmp_path / "curves.png").read_bytes() != with_evaluation


def test_metrics_stand_in_one_order_everywhere(tmp_path, caplog):
    names = ["kl_latent", "steps_per_second", "eval/nll", "address_entropy", "nll", "excess"]
    ordered = ["nll", "excess", "address_entropy", "kl_latent"]
    entry = dict.fromkeys(names, 1.0)
    figure = plotting.learning_curves(None, [{"step": 1} | entry])
    assert [axis.get_title() for axis in figure.axes[:4]] == ordered
    assert reporting.column_names([entry])[2:] == ordered
    writer = metrics.MetricWriter(tmp_path, 0, 1)
    with caplog.at_level("INFO", "memjax"):
        writer.write(1, entry)
    writer.close()
    told = [text.split()[0] for text in caplog.messages[-1].partition(": ")[2].split(", ")]
    assert told == [*ordered, "eval/nll", "steps_per_second"]


def test_a_run_without_metrics_has_an_empty_picture(tmp_path):
    figure = plotting.learning_curves(tmp_path / "curves.png", [])
    assert (tmp_path / "curves.png").exists() and len(figure.axes) == 1


def test_without_a_path_a_figure_is_for_a_notebook():
    lines = {"": ([0, 1], [0.0, 1.0])}
    figure = plotting.curves(None, {"panel": Curves("x", "y", lines)}, "title")
    assert figure.axes[0].get_title() == "panel" and figure.get_suptitle() == "title"


def test_curves_draw_every_line(tmp_path):
    one = Curves("x", "y", {"rising": ([0, 1, 2], [0.0, 1.0, 2.0])})
    both = Curves("x", "y", {**one.lines, "falling": ([0, 1, 2], [2.0, 1.0, 0.0])})
    plotting.curves(tmp_path / "one.png", {"panel": one})
    plotting.curves(tmp_path / "both.png", {"panel": both})
    plotting.curves(tmp_path / "two_panels.png", {"panel": one, "other": both})
    widths = [Image.open(tmp_path / f"{n}.png").width for n in ("one", "both", "two_panels")]
    assert widths[0] == widths[1] < widths[2]
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "both.png").read_bytes()
    (axis,) = plotting.curves(None, {"panel": one._replace(scale="log")}).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"


def test_panels_of_one_quantity_have_one_scale_and_every_name_fits():
    low, high = ({"a line with a long name": ([1, 2], [y, y + 1.0])} for y in (0.0, 9.0))
    other = {"another line with a long name": ([1, 2], [99.0, 98.0]), "one more": ([1], [98.0])}
    panels = {"a": Curves("x", "y", low), "b": Curves("x", "y", high), "c": Curves("x", "z", other)}
    figure = plotting.curves(None, panels)
    a, b, c = figure.axes
    assert a.get_ylim() == b.get_ylim() and a.get_ylim()[1] < 11 < c.get_ylim()[0]
    assert all(float(x).is_integer() for x in a.get_xticks())
    figure = plotting.curves(None, {"c": panels["c"]})
    (legend,) = figure.legends
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_the_steps_of_a_long_run_stand_apart(tmp_path):
    steps = [500, *range(10_000, 1_000_001, 10_000)]
    for last in (8, 15, 71, 101):
        line = steps[:last], np.linspace(60.0, 160.0, last)
        panels = {name: Curves("step", "nats", {"": line}) for name in "abc"}
        figure = plotting.curves(tmp_path / "curves.png", panels)
        for axis in figure.axes:
            labels = [label for label in axis.get_xticklabels() if label.get_visible()]
            boxes = [label.get_window_extent() for label in labels]
            inside = [b for b in boxes if axis.bbox.x0 <= (b.x0 + b.x1) / 2 <= axis.bbox.x1]
            assert len(inside) > 2
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(inside))


def test_slots_are_drawn_as_steps_without_markers():
    panel = Curves("slot", "q(a|x)", {"": (range(99), [0.0] * 99)}, borders=[9.5])
    figure = plotting.curves(None, dict.fromkeys("abcd", panel))
    assert {axis.get_subplotspec().rowspan.start for axis in figure.axes} == {0, 1}
    line = figure.axes[0].lines[0]
    assert line.get_drawstyle() == "steps-mid" and not line.get_marker()


def test_matrices_are_drawn_with_the_sign_in_the_colour(tmp_path):
    """Blue is below zero, red above, white zero."""
    plotting.matrices(tmp_path / "matrix.png", {"panel": np.diag([1.0, -1.0])})
    picture = np.asarray(Image.open(tmp_path / "matrix.png").convert("RGB")).reshape(-1, 3)
    for colour in ((103, 0, 31), (5, 48, 97)):
        assert np.mean(np.all(np.abs(picture - np.array(colour, np.int32)) < 3, axis=1)) > 0.05
    panels = {"small": np.eye(2), "large": -9.0 * np.eye(2)}
    figure = plotting.matrices(None, panels, axes=("slot", "class"))
    shown = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.images[0].get_clim() for axis in shown] == [(-9.0, 9.0)] * 2
    assert all((axis.get_xlabel(), axis.get_ylabel()) == ("slot", "class") for axis in shown)
    plotting.matrices(tmp_path / "zeros.png", {"panel": np.zeros((1, 2))})
    assert (tmp_path / "zeros.png").exists()
