import numpy as np
import pytest
from PIL import Image

from memjax import plotting


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
