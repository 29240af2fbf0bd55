import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation.tasks import impute


def test_noises_are_those_of_table_2():
    square = impute.hide_rectangle(28, 28, 12)
    assert square.sum() == 144 and square[8:20, 8:20].all()
    assert (
        impute.hide_rectangle(5, 8, 3).tolist()
        == np.pad(np.ones((3, 3), bool), ((1, 1), (2, 3))).tolist()
    )
    half = impute.hide_half(28, 28)
    assert half.sum() == 14 * 28 and half[:, :14].all()


def images_and_mask(count=6):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(count, 8, 8, 1)).astype(np.float32)
    return images, rng.uniform(size=(count, 8, 8)) < 0.5


def test_a_round_replaces_hidden_pixels_by_a_reconstruction(mem_vae_run):
    images, hidden = images_and_mask()
    rng_key = jax.random.key(0)
    started, imputed, errors = impute.impute(mem_vae_run, rng_key, images, hidden, num_rounds=1)
    for result in (started, imputed):
        np.testing.assert_array_equal(result[~hidden], images[~hidden])
    start, first_round = jax.random.split(jax.random.fold_in(rng_key, 0))
    noise = jax.random.uniform(start, images.shape)
    np.testing.assert_array_equal(started[hidden], noise[hidden])
    rng_keys = jax.random.split(jax.random.split(first_round, 1)[0], len(images))

    @jax.jit
    def explain(rng_key, image):
        return mem_vae_run.model.apply(
            mem_vae_run.variables, rng_key, image, None, method="explain"
        )

    for i, image in enumerate(started):
        pictures = explain(rng_keys[i], image)
        expected = np.asarray(pictures["reconstruction"])[hidden[i]]
        np.testing.assert_allclose(imputed[i][hidden[i]], expected, rtol=1e-4, atol=1e-5)
    squares = (imputed - images)[hidden] ** 2
    assert errors.tolist() == pytest.approx([squares.mean()])


def test_many_images_are_imputed_in_chunks(mem_vae_run, monkeypatch):
    images, hidden = images_and_mask()
    monkeypatch.setattr(impute, "_CHUNK", 4)
    started, imputed, errors = impute.impute(mem_vae_run, jax.random.key(0), images, hidden, 3)
    assert len(started) == len(imputed) == 6 and errors.shape == (3,)
    assert errors[-1] == pytest.approx(np.mean((imputed - images)[hidden] ** 2))


def test_a_row_and_a_picture_for_each_noise(mem_vae_run):
    options = {"rect_size": 4, "num_rounds": 2, "num_queries": 20}
    report = impute.evaluate(mem_vae_run, **options)
    assert [row["noise"] for row in report.table] == ["RECT-4", "RAND-0.6", "HALF"]
    curves = report.curves["impute"][""].lines
    for row in report.table:
        grid = report.grids[f"impute_{row['noise']}"]
        assert list(grid) == ["original", "perturbed", "imputed"]
        assert curves[row["noise"]] == ([1, 2], pytest.approx([row["first_mse"], row["mse"]]))
    assert impute.evaluate(mem_vae_run, **options).table == report.table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rect_size": 12}, "RECT-12 hides all of an image; it must leave some pixels"),
        ({"rect_size": -1}, "RECT--1 hides nothing; it must hide some pixels"),
        ({"rect_size": 4, "drop_rate": 1.0}, "RAND-1.0 hides all of an image"),
        ({"rect_size": 4, "num_rounds": 0}, "num_rounds is 0; it must be at least 1"),
    ],
)
def test_noise_that_leaves_nothing_to_do_is_refused(mem_vae_run, options, message):
    with pytest.raises(UserError, match=message):
        impute.evaluate(mem_vae_run, num_queries=4, **options)


def test_what_is_no_image_is_refused(mem_vae_run, own_recall_run):
    images, hidden = images_and_mask()
    with pytest.raises(UserError, match=r"they must be in \[0, 1\]"):
        impute.impute(mem_vae_run, jax.random.key(0), 255 * images, hidden, 1)
    with pytest.raises(UserError, match="needs a run of single images; this one draws episodes"):
        impute.evaluate(own_recall_run)
