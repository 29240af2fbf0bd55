"""The numbers of tasks on episodes and drawings, by NumPy, of models made up here."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.evaluation.tasks import (
    capacity,
    covariance,
    denoise,
    generate,
    interpolate,
    weights,
)
from memjax.models import Images, denoising
from tests.evaluation.fakes import class_of, halving_run, make_run, mean_error, number_of


@pytest.mark.slow
def test_denoising_errors_are_means_over_pixels_after_each_reading():
    run = halving_run()
    report = denoise.evaluate(run, num_images=24, num_iterations=2, episode_length=12)
    assert [(row["noise"], row["iteration"]) for row in report.table] == [
        (noise, k) for noise in ("block", "salt_and_pepper") for k in range(3)
    ]
    assert list(report.curves["denoise"]) == ["block, 24 images", "salt and pepper, 24 images"]
    rows, written = report.grids["denoise_block"], np.asarray(run.fetched[0].query)
    np.testing.assert_array_equal(rows["written"], written[0, :10])
    blocks = np.all(rows["corrupted"] == 1.0, axis=-1)
    np.testing.assert_array_equal(np.sum(blocks, axis=(1, 2)), 4)  # of a side that fits 4 pixels
    one = denoise.evaluate(halving_run(), num_images=3, num_iterations=4, episode_length=4)
    for noise in ("block", "salt_and_pepper"):
        rows = one.grids[f"denoise_{noise}"]
        names = ["1 reading", "2 readings", "3 readings", "4 readings"]
        assert list(rows) == ["written", "corrupted", *names]
        errors = {row["iteration"]: row["error"] for row in one.table if row["noise"] == noise}
        assert errors[0] == pytest.approx(mean_error(rows["corrupted"], rows["written"]), rel=1e-5)
        for k in (1, 2, 3, 4):
            read = 0.5 * 0.75 ** (k - 1) * rows["corrupted"]
            np.testing.assert_allclose(rows[names[k - 1]], read, rtol=1e-5)
            assert errors[k] == pytest.approx(mean_error(read, rows["written"]), rel=1e-5)
        panel = one.curves["denoise"][f"{noise.replace('_', ' ')}, 4 images"]
        x, y = panel.lines["samples"]
        assert list(x) == list(errors) and y == list(errors.values())


def test_ways_to_read_stand_side_by_side_with_whose_image_is_nearest():
    """By "samples" a reading halves an image, by "means" it is always the first written one."""

    def read(rng_key, query, memory, by="samples"):
        return Images(0.5 * query, 0.75 * query) if by == "samples" else Images(memory[0], query)

    report = denoise.evaluate(
        halving_run(read=read),
        num_images=4,
        num_iterations=1,
        episode_length=4,
        by="samples,means",
    )
    assert [(row["by"], row["iteration"]) for row in report.table[:4]] == [
        ("samples", 0), ("samples", 1), ("means", 0), ("means", 1)
    ]  # fmt: skip
    first, last = report.table[0], report.table[3]
    assert first["own"] == 1.0 and first["nearest"] == first["error"]
    assert (last["own"], last["nearest"]) == (0.25, 0.0)
    rows = report.grids["denoise_block_by_means"]
    errors = [mean_error(image, rows["written"][0]) for image in rows["written"]]
    assert last["error"] == pytest.approx(np.mean(errors), rel=1e-5)
    for panel in report.curves["denoise"].values():
        assert list(panel.lines) == ["samples", "means"]


@pytest.mark.parametrize(("height", "side"), [(28, 12), (56, 24), (8, 3), (4, 2), (1, 1)])
def test_a_block_is_12_of_28_pixels(height, side):
    assert denoising.block_size(height) == side


def test_a_block_may_lie_anywhere_and_covers_all_channels():
    block = np.asarray(denoising.block(jax.random.key(0), jnp.zeros((400, 3, 5, 2)), 2))
    np.testing.assert_array_equal(block[..., 0], block[..., 1])
    corners = {tuple(np.argwhere(image)[0]) for image in block[..., 0]}
    assert corners == {(row, column) for row in (0, 1) for column in (0, 1, 2, 3)}
    assert all(image.sum() == 4 for image in block[..., 0])


def test_salt_and_pepper_set_as_many_pixels_to_1_as_to_0():
    noisy = np.asarray(
        denoising.salt_and_pepper(jax.random.key(0), jnp.full((40, 16, 16, 2), 0.5), 0.3)
    )
    np.testing.assert_array_equal(noisy[..., 0], noisy[..., 1])
    for value, share in ((0.0, 0.15), (0.5, 0.7), (1.0, 0.15)):
        assert np.mean(noisy == value) == pytest.approx(share, abs=0.02)


def describe(row_cov):
    """The mean absolute correlation of different rows, and the mean variance."""
    scale = np.sqrt(np.diagonal(row_cov, axis1=1, axis2=2))
    correlation = row_cov / scale[:, :, None] / scale[:, None, :]
    others = ~np.eye(row_cov.shape[1], dtype=bool)
    mean = np.mean(np.abs(correlation[:, others])) if np.any(others) else 0.0
    return {
        "correlation": pytest.approx(mean, abs=1e-5),
        "variance": pytest.approx(np.mean(scale**2)),
    }


@pytest.mark.parametrize("num_slots", [1, 2, 5])
@pytest.mark.parametrize("diagonal", [False, True])
def test_covariance_is_described_by_correlation_and_variance(num_slots, diagonal):
    root = np.random.default_rng(0).standard_normal((3, num_slots, 7)).astype(np.float32)
    posterior = root @ root.swapaxes(1, 2)
    prior = np.float32(4.0) * np.eye(num_slots, dtype=np.float32) + 1.0
    if diagonal:
        prior, posterior = (np.diagonal(x, axis1=-2, axis2=-1) for x in (prior, posterior))

    class Memory(NamedTuple):
        row_cov: Any

    run = make_run(
        write=lambda rng_key, images: Memory(
            prior if images is None else jnp.asarray(posterior)[number_of(images[0]) % 3]
        ),
    )
    report = covariance.evaluate(run, num_episodes=9, episode_length=2, seed=1)
    written = number_of(np.asarray(run.fetched[0].query[:, 0])) % 3
    assert written[0] != written[1]
    posterior = posterior[written]
    if diagonal:
        prior, posterior = (
            prior[..., None] * np.eye(num_slots),
            posterior[..., None] * np.eye(num_slots),
        )
    assert report.table == [
        {"memory": "prior", **describe(prior[None])},
        {"memory": "posterior", **describe(posterior)},
    ]
    shown = report.matrices["covariance"]
    np.testing.assert_allclose(shown["prior: row covariance"], prior)
    np.testing.assert_allclose(shown["posterior: row covariance"], posterior[0], rtol=1e-6)


@pytest.mark.slow
def test_capacity_is_the_mean_over_episodes():
    def metrics(rng_key, query, memory, train):
        number = 1.0 * number_of(query)
        return 0.0, {"nll": number, "reconstruction": 2.0 * number}

    def memory_metrics(memory, num_images):
        return {"kl_memory": number_of(memory[0]) / num_images}

    run = halving_run(__call__=metrics, memory_metrics=memory_metrics)
    report = capacity.evaluate(run, episode_length=(2, 5), num_classes=(2, 0), num_episodes=3)
    assert len(run.fetched) == len(report.table) == 4
    for row, episode in zip(report.table, run.fetched, strict=True):
        numbers = number_of(np.asarray(episode.query))
        assert numbers.shape == (3, row["episode_length"])
        assert list(row)[:3] == ["num_classes", "episode_length", "nll"]
        assert row["nll"] == pytest.approx(np.mean(numbers), rel=1e-5)
        assert row["reconstruction"] == pytest.approx(2 * np.mean(numbers), rel=1e-5)
        share = np.mean(numbers[:, 0]) / row["episode_length"]
        assert row["kl_memory"] == pytest.approx(share, rel=1e-5)
        if row["num_classes"] == 2:
            assert all(len(set(classes)) <= 2 for classes in class_of(np.asarray(episode.query)))
    for name, panel in report.curves["capacity"].items():
        y = [row[name] for row in report.table]
        assert panel.lines == {"2 classes": ([2, 5], y[:2]), "any classes": ([2, 5], y[2:])}


def test_interpolated_images_lie_on_the_line_between_the_weights():
    """Weights are an image's pixels, and what they decode to is their square."""
    run = halving_run(
        weights=lambda rng_key, query, memory: query.reshape(-1),
        decode_weights=lambda memory, weights: weights.reshape(4, 7, 2) ** 2,
    )
    report = interpolate.evaluate(run, num_pairs=3, num_steps=4, episode_length=5)
    (row,), rows = report.table, np.stack(list(report.grids["interpolate"].values()))
    assert rows.shape == (3, 6, 4, 7, 2)
    first, decoded, last = rows[:, 0], rows[:, 1:-1], rows[:, -1]
    for i in range(4):
        between = (1 - i / 3) * first + i / 3 * last
        np.testing.assert_allclose(decoded[:, i], between**2, rtol=1e-4, atol=1e-6)
    steps = [[mean_error(pair[i + 1], pair[i]) for i in range(3)] for pair in decoded]
    ends = [mean_error(pair[0], pair[-1]) for pair in decoded]
    assert row == {
        "pairs": 3,
        "steps": 4,
        "start": pytest.approx(mean_error(decoded[:, 0], first), rel=1e-4),
        "end": pytest.approx(mean_error(decoded[:, -1], last), rel=1e-4),
        "largest_step": pytest.approx(np.mean(np.max(steps, axis=1) / ends), rel=1e-4),
    }


@pytest.mark.slow
def test_of_two_steps_one_is_the_largest():
    run = halving_run(
        weights=lambda rng_key, query, memory: query.reshape(-1),
        decode_weights=lambda memory, weights: weights.reshape(4, 7, 2),
    )
    (row,) = interpolate.evaluate(run, num_pairs=3, num_steps=2, episode_length=2).table
    assert row["largest_step"] == 1.0


def test_slots_are_used_by_how_the_weights_are_spread():
    def draw(rng_key, query, memory):
        return jnp.where(number_of(query) % 2 == 0, spread[0], spread[1])

    spread = np.array([[1.0, -1.0, 0.0, 2.0], [0.0, 0.0, -3.0, 0.0]], np.float32)
    run = halving_run(weights=draw)
    report = weights.evaluate(run, num_episodes=3, episode_length=12)
    images = np.asarray(run.fetched[0].query)
    used = np.where(number_of(images) % 2 == 0, 16 / 6, 1.0)
    assert report.table == [
        {
            "images": 36,
            "num_slots": 4,
            "slots_used": pytest.approx(np.mean(used), rel=1e-5),
            "error": pytest.approx(mean_error(0.5 * images, images), rel=1e-5),
        }
    ]
    (shown,) = report.matrices["weights"].values()
    np.testing.assert_array_equal(shown, spread[number_of(images[0, :10]) % 2])
    np.testing.assert_array_equal(report.grids["weights_images"]["written"], images[0, :10])
    np.testing.assert_array_equal(report.grids["weights_images"]["read"], 0.5 * images[0, :10])


def test_generation_begins_at_random_keys_and_reads_what_it_sampled():
    written = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5, 3, 3, 1)), jnp.float32)
    steps = generate.from_memory(halving_run(), jax.random.key(1), written, 4, 2)
    first = steps[0] + 1.0  # images of the memory's, and 2: each key its own
    chosen = np.asarray(steps[0] - 1.0)[:, :, None] - np.asarray(written)[:, None]
    found = np.argmin(np.abs(chosen).max(axis=(3, 4, 5)), axis=2)
    np.testing.assert_allclose(np.abs(chosen).max(axis=(3, 4, 5)).min(axis=2), 0.0, atol=1e-6)
    assert all(len(set(row)) > 1 for row in found) and len(set(map(tuple, found))) == 2
    for step, expected in zip(steps, (first - 1.0, 0.5 * first, 0.375 * first), strict=True):
        np.testing.assert_allclose(step, expected, rtol=1e-6)
    report = generate.evaluate(
        halving_run(), num_classes=(2, 0), episode_length=3, num_iterations=2, num_episodes=1
    )
    for i, row in enumerate(report.table):
        rows = report.grids[f"generate_memory_{row['num_classes']}_classes"]
        assert row["system"] == "memory" and row["iteration"] == i % 3
        if row["iteration"] in (0, 2):
            read, written = rows[f"{row['iteration']} readings"], rows["written"]
            nearest = [min(mean_error(image, other) for other in written) for image in read]
            assert row["nearest"] == pytest.approx(np.mean(nearest), rel=1e-5)
    assert list(report.curves["generate"]["to the nearest written image"].lines) == [
        "memory, 2 classes",
        "memory",
    ]


@pytest.mark.parametrize(
    ("num_iterations", "shown"),
    [pytest.param(1, [0], marks=pytest.mark.slow), (8, [0, 2, 4, 6, 8])],
)
def test_the_first_episodes_readings_are_shown(num_iterations, shown):
    run = halving_run()
    options = {"num_classes": 0, "episode_length": 3, "num_episodes": 2}
    report = generate.evaluate(run, num_iterations=num_iterations, **options)
    rows, written = report.grids["generate_memory_0_classes"], run.fetched[0].query[0]
    assert list(rows) == ["written", *(f"{i} readings" for i in shown)]
    np.testing.assert_array_equal(rows["written"], written)
    for i in shown[1:]:
        read = 0.5 * 0.75 ** (i - 1) * (rows["0 readings"] + 1.0)
        np.testing.assert_allclose(rows[f"{i} readings"], read, rtol=1e-5)


def test_a_vaes_samples_are_read_again_within_the_range_of_images():
    """Figure 8's twin: what is out of [0, 1] is cut before it is encoded, and never sampled."""
    run = make_run(
        generate=lambda rng_key, memory: jax.random.uniform(
            rng_key, (2, 2, 1), minval=-1, maxval=2
        ),
        explain=lambda rng_key, query, memory: {"reconstruction": query - 0.25},
        likelihood="gaussian",
    )
    steps = generate._from_vae(run, jax.random.key(0), (3, 4), 2)
    assert [step.shape for step in steps] == [(3, 4, 2, 2, 1)] * 3
    first = np.clip(steps[0], 0, 1) - 0.25
    np.testing.assert_allclose(steps[1], first, atol=1e-6)
    np.testing.assert_allclose(steps[2], np.clip(first, 0, 1) - 0.25, atol=1e-6)
    run = make_run(**{**vars(run.model), "likelihood": "bernoulli"})
    steps = generate._from_vae(run, jax.random.key(0), (30, 4), 1)
    assert set(np.unique(steps[1])) == {-0.25, 0.75}
    assert np.mean(steps[1]) + 0.25 == pytest.approx(np.mean(np.clip(steps[0], 0, 1)), abs=0.06)
