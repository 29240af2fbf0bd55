"""What a memory makes of a drawing."""

import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation import drawing
from tests.evaluation.fakes import halving_run

_LEFT_EDGE = [(0.0625, 0.1), (0.0625, 0.9)]  # the middle of the first of 8 columns


def test_a_stroke_inks_the_pixels_under_it():
    image = drawing.rasterize([_LEFT_EDGE], (8, 8, 1), binary=True)
    expected = np.zeros((8, 8, 1), np.float32)
    expected[:, 0] = 1.0
    expected[[0, -1], 0] = image[[0, -1], 0]  # the pen's round ends
    np.testing.assert_array_equal(image, expected)
    grey = drawing.rasterize([_LEFT_EDGE, [(0.5, 0.5)]], (8, 16, 3), binary=False)
    assert grey.shape == (8, 16, 3) and np.any((grey > 0) & (grey < 1))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert not np.any(drawing.rasterize([], (8, 8, 1), binary=True))


def test_up_is_up():
    image = drawing.rasterize([[(0.5, 0.95)]], (8, 8, 1), binary=False)
    assert np.sum(image[:2]) == np.sum(image) > 0


def test_a_stroke_is_a_pixel_wide_at_least():
    assert drawing.pen_width(8) == 1 / 8 and drawing.pen_width(100) == 0.09


@pytest.mark.slow
def test_every_row_answers_the_drawing(kanerva_run):
    image = drawing.rasterize([_LEFT_EDGE], (8, 8, 1), binary=True)
    options = {"num_images": 3, "num_iterations": 2}
    rows = drawing.respond(kanerva_run, image, **options)
    assert {name: len(row) for name, row in rows.items()} == {
        "written": 3,
        "drawing, read": 1 + 2,
        "corrupted, read": 1 + 2,
        "samples": 3,
        "2 readings": 3,
    }
    for row in rows.values():
        assert row.shape[1:] == (8, 8, 1) and np.all((row >= 0) & (row <= 1))
    np.testing.assert_array_equal(rows["drawing, read"][0], image)
    assert 0 < np.mean(rows["corrupted, read"][0] != image) < 0.5

    same = drawing.respond(kanerva_run, image, **options)
    other = drawing.respond(kanerva_run, 1.0 - image, **options)
    elsewhere = drawing.respond(kanerva_run, image, **options, seed=1, flip_rate=0.0)
    for name, row in rows.items():
        np.testing.assert_array_equal(same[name], row)
        assert np.any(other[name] != row) == (name != "written")
        if not name.startswith("drawing"):
            assert np.any(elsewhere[name] != row)
    np.testing.assert_array_equal(elsewhere["corrupted, read"][0], image)


def test_what_can_not_be_answered_is_refused(own_run):
    image, run = np.zeros((4, 7, 2), np.float32), halving_run()
    with pytest.raises(
        UserError, match=r"playground needs a model that writes .*; this is a Flips"
    ):
        drawing.respond(own_run, image)
    with pytest.raises(ValueError, match=r"drawing has shape \(28, 28, 1\); .* \(4, 7, 2\)"):
        drawing.respond(run, np.zeros((28, 28, 1)))
    for field in ("num_images", "num_iterations"):
        with pytest.raises(UserError, match=rf"{field} is 0; it must be at least 1"):
            drawing.respond(run, image, **{field: 0})
    for rate in (-0.1, 1.1):
        with pytest.raises(UserError, match=rf"flip_rate is {rate}; it must be in \[0, 1\]"):
            drawing.respond(run, image, flip_rate=rate)


def test_a_pen_inks_the_area_of_its_stroke():
    """A dot is a disc and a line has round ends; by area and centre of mass, in a share of 60."""
    pen = drawing.pen_width(60)
    assert pen == 0.09
    for strokes, area, centre in (
        ([[(0.3, 0.6)]], np.pi * pen**2 / 4, (0.3, 0.6)),
        ([[(0.2, 0.7), (0.6, 0.7)]], np.pi * pen**2 / 4 + 0.4 * pen, (0.4, 0.7)),
        ([[(0.3, 0.2), (0.3, 0.8)]], np.pi * pen**2 / 4 + 0.6 * pen, (0.3, 0.5)),
    ):
        grey = drawing.rasterize(strokes, (60, 60, 1), binary=False)[..., 0].astype(np.float64)
        assert grey.max() == 1.0 and grey.mean() == pytest.approx(area, rel=0.05)
        rows, columns = np.mgrid[:60, :60] / 60 + 1 / 120
        mass = grey / grey.sum()
        found = np.sum(columns * mass), 1 - np.sum(rows * mass)
        np.testing.assert_allclose(found, centre, atol=0.003)
        inked = drawing.rasterize(strokes, (60, 60, 1), binary=True)[..., 0]
        np.testing.assert_array_equal(inked, grey >= 0.5)


def test_a_drawing_is_retrieved_denoised_and_generated_from():
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, size=(4, 7, 2)).astype(np.float32)
    run = halving_run()
    options = {"num_images": 3, "num_iterations": 2, "flip_rate": 0.25}
    rows = drawing.respond(run, drawn, **options)
    np.testing.assert_array_equal(rows["written"], run.fetched[0].query[0])
    expected = np.stack([drawn, 0.5 * drawn, 0.375 * drawn])
    np.testing.assert_allclose(rows["drawing, read"], expected, rtol=1e-6)
    corrupted = rows["corrupted, read"][0]
    changed = np.any(corrupted != drawn, axis=-1)
    assert 0 < np.mean(changed) < 0.6 and set(np.unique(corrupted[changed])) <= {0.0, 1.0}
    np.testing.assert_allclose(rows["corrupted, read"][2], 0.375 * corrupted, rtol=1e-6)
    for i in range(3):  # of a memory of one image
        np.testing.assert_allclose(rows["samples"][i], drawn + 1.0, rtol=1e-6)
        np.testing.assert_allclose(rows["2 readings"][i], 0.375 * (drawn + 2.0), rtol=1e-6)
    same = drawing.respond(run, drawn, **(options | {"flip_rate": 0.0}))["corrupted, read"][0]
    np.testing.assert_array_equal(same, drawn)
    every = drawing.respond(run, drawn, **(options | {"flip_rate": 1.0}))["corrupted, read"][0]
    assert set(np.unique(every)) == {0.0, 1.0}


def test_drawings_are_written_and_asked_for_with_noise():
    drawings = np.random.default_rng(0).uniform(0.1, 0.9, size=(2, 4, 7, 2)).astype(np.float32)
    run = halving_run()
    rows = drawing.recall(run, drawings, num_iterations=2, flip_rate=0.25, by="samples")
    assert list(rows) == ["in memory", "with noise", "1 reading", "2 readings"]
    assert all(row.shape == (drawing.PLACES, 4, 7, 2) for row in rows.values())
    np.testing.assert_array_equal(rows["in memory"][:2], drawings)
    np.testing.assert_array_equal(rows["in memory"][2:], run.fetched[0].query[0][2:])
    changed = np.any(rows["with noise"] != rows["in memory"], axis=-1)
    assert 0 < np.mean(changed) < 0.3
    np.testing.assert_allclose(rows["2 readings"], 0.375 * rows["with noise"], rtol=1e-6)
    none = drawing.recall(run, drawings[:0], num_iterations=1, flip_rate=0.0, by="samples")
    np.testing.assert_array_equal(none["with noise"], none["in memory"])
    assert "2 readings" not in none
    with pytest.raises(UserError, match="drawings are 11; they must be at most 10"):
        drawing.recall(run, np.zeros((11, 4, 7, 2)))
