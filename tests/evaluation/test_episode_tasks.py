"""The evaluations of models that write episodes into a memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation import reading
from memjax.evaluation.tasks import (
    capacity,
    covariance,
    denoise,
    generate,
    interpolate,
    weights,
)
from memjax.models import denoising


@pytest.mark.slow
def test_denoise_measures_each_reading(kanerva_run):
    report = denoise.evaluate(kanerva_run, num_images=7, num_iterations=2, episode_length=4)
    assert [row["iteration"] for row in report.table] == [0, 1, 2] * 2
    # A block of 3 x 3 on 8 x 8 changes at most 9 of 64 pixels, salt and pepper half of its share.
    assert 0 < report.table[0]["error"] <= 9 / 64
    assert 0 < report.table[3]["error"] < 0.15
    assert list(report.grids) == ["denoise_block", "denoise_salt_and_pepper"]
    rows = report.grids["denoise_block"]
    assert list(rows) == ["written", "corrupted", "1 reading", "2 readings"]
    assert all(images.shape == (4, 8, 8, 1) for images in rows.values())
    x, y = report.curves["denoise"]["block, 8 images"].lines["samples"]
    assert list(x) == [0, 1, 2] and y == [row["error"] for row in report.table[:3]]


def test_corruptions_change_what_they_say():
    images = jnp.zeros((3, 5, 28, 28, 1))
    block = denoising.block(jax.random.key(0), images, denoising.block_size(28))
    np.testing.assert_array_equal(jnp.sum(block, axis=(2, 3, 4)), 144.0)
    assert len(np.unique(np.asarray(block).reshape(15, -1), axis=0)) == 15
    rows = np.asarray(jnp.max(block, axis=(3, 4)))
    assert np.all(np.sum(rows, axis=-1) == 12)
    noisy = denoising.salt_and_pepper(jax.random.key(0), images, 0.4)
    assert abs(float(jnp.mean(noisy)) - 0.2) < 0.02
    np.testing.assert_array_equal(denoising.salt_and_pepper(jax.random.key(0), images, 0.0), images)


def test_a_reading_asks_with_what_was_read_before(kanerva_run):
    images = kanerva_run.draw_episodes(jax.random.key(0), 2, 4)
    memories = kanerva_run.write_episodes(jax.random.key(1), images)
    one, two = (reading.repeat(kanerva_run, jax.random.key(2), memories, images, n) for n in (1, 2))
    assert len(two) == 2 and two[1].shape == images.shape
    np.testing.assert_array_equal(one[0], two[0])
    other = reading.repeat(kanerva_run, jax.random.key(2), memories, 1 - images, 1)
    assert np.any(other[0] != one[0])


@pytest.mark.slow
def test_generate_has_a_row_for_each_reading(kanerva_run, vae_run, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "load_run", lambda workdir, data_dir: vae_run)
    report = generate.evaluate(
        kanerva_run,
        num_classes=(2, 0),
        episode_length=3,
        num_iterations=2,
        num_episodes=2,
        beside=str(tmp_path),
    )
    assert len(report.table) == 2 * 2 * 3
    assert {row["system"] for row in report.table} == {"memory", "VAE"}
    assert all(0 < row["nearest"] < 1 for row in report.table)
    with pytest.raises(UserError, match="num_classes is 11; the data set has 10"):
        generate.evaluate(kanerva_run, num_classes=11)
    rows = report.grids["generate_memory_2_classes"]
    assert list(rows) == ["written", "0 readings", "2 readings"]
    assert rows["0 readings"].shape == (3, 8, 8, 1)


def test_nearest_is_to_the_most_alike_of_the_same_episode():
    written = jnp.stack([jnp.zeros((2, 1, 1, 1)), jnp.ones((2, 1, 1, 1))])
    written = written.at[0, 1].set(0.5)
    images = jnp.array([[0.1, 0.6], [0.0, 0.9]]).reshape(2, 2, 1, 1, 1)
    assert generate.nearest(images, written) == pytest.approx((0.1 + 0.1 + 1.0 + 0.1) / 4)


def test_capacity_is_of_no_more_classes_than_there_are(kanerva_run):
    with pytest.raises(UserError, match="num_classes is 11; the data set has 10"):
        capacity.evaluate(kanerva_run, num_classes=11)


def test_interpolate_ends_at_what_is_read(kanerva_run):
    report = interpolate.evaluate(kanerva_run, num_pairs=2, num_steps=3, episode_length=4)
    rows = report.grids["interpolate"]
    assert rows["pair 1"].shape == (5, 8, 8, 1)
    (row,) = report.table
    first = [np.mean(np.abs(images[0] - images[1])) for images in rows.values()]
    assert row["start"] == pytest.approx(np.mean(first), rel=1e-5)
    assert row["largest_step"] + 1e-6 >= 0.5
    with pytest.raises(UserError, match="num_steps is 1; it must be at least 2"):
        interpolate.evaluate(kanerva_run, num_steps=1)


def test_weights_counts_the_slots_that_are_read(kanerva_run):
    report = weights.evaluate(kanerva_run, num_episodes=2, episode_length=4)
    (row,) = report.table
    assert row["images"] == 8 and 1 <= row["slots_used"] <= row["num_slots"] == 4
    (matrix,) = report.matrices["weights"].values()
    assert matrix.shape == (4, 4)


def test_covariance_falls_with_the_write(kanerva_run):
    report = covariance.evaluate(kanerva_run, num_episodes=2, episode_length=4)
    prior, posterior = report.table
    assert posterior["variance"] < prior["variance"] and 0 <= prior["correlation"] < 1
    for matrix in report.matrices["covariance"].values():
        assert matrix.shape == (4, 4) and np.linalg.eigvalsh(matrix).min() > 0
