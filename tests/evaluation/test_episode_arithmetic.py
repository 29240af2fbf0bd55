"""The numbers of tasks on episodes and drawings, by NumPy, of models made up here."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.evaluation import (
    capacity,
    covariance,
    denoise,
    drawing,
    generate,
    interpolate,
    weights,
)
from tests.evaluation.fakes import class_of, make_run, number_of


class Images(NamedTuple):
    mean: Any
    sample: Any


def halving_run(**methods):
    """A memory is what was written; a reading has half of what asks, and samples 3/4 of it."""
    fields = {
        "write": lambda rng_key, episode: episode,
        "read": lambda rng_key, memory, query: Images(0.5 * query, 0.75 * query),
        "generate_from": lambda rng_key, memory, num_samples: Images(
            memory[:num_samples] + 1.0, memory[:num_samples] + 2.0
        ),
    }
    return make_run(**(fields | methods))


def mean_error(images, others):
    return np.mean(np.abs(np.asarray(images, np.float64) - np.asarray(others, np.float64)))


def test_denoising_errors_are_means_over_pixels_after_each_reading():
    report = denoise.evaluate(halving_run(), num_images=9, num_iterations=4, episode_length=3)
    assert [(row["noise"], row["iteration"]) for row in report.table] == [
        (noise, k) for noise in ("block", "salt_and_pepper") for k in range(5)
    ]
    assert list(report.curves["denoise"]) == ["9 images"]
    one = denoise.evaluate(halving_run(), num_images=3, num_iterations=4, episode_length=4)
    for noise in ("block", "salt_and_pepper"):
        rows = one.grids[f"denoise_{noise}"]
        assert list(rows) == ["written", "corrupted", *(f"{k} readings" for k in (1, 2, 3, 4))]
        errors = {row["iteration"]: row["error"] for row in one.table if row["noise"] == noise}
        assert errors[0] == pytest.approx(mean_error(rows["corrupted"], rows["written"]), rel=1e-5)
        for k in (1, 2, 3, 4):
            read = 0.5 * 0.75 ** (k - 1) * rows["corrupted"]
            np.testing.assert_allclose(rows[f"{k} readings"], read, rtol=1e-5)
            assert errors[k] == pytest.approx(mean_error(read, rows["written"]), rel=1e-5)
        x, y = one.curves["denoise"]["4 images"].lines[noise]
        assert list(x) == list(errors) and y == list(errors.values())


@pytest.mark.parametrize(("height", "side"), [(28, 12), (56, 24), (8, 3), (4, 2), (1, 1)])
def test_a_block_is_12_of_28_pixels(height, side):
    assert denoise.block_size(height) == side


def test_a_block_may_lie_anywhere_and_covers_all_channels():
    block = np.asarray(denoise.block(jax.random.key(0), jnp.zeros((400, 3, 5, 2)), 2))
    np.testing.assert_array_equal(block[..., 0], block[..., 1])
    corners = {tuple(np.argwhere(image)[0]) for image in block[..., 0]}
    assert corners == {(row, column) for row in (0, 1) for column in (0, 1, 2, 3)}
    assert all(image.sum() == 4 for image in block[..., 0])


def test_salt_and_pepper_set_as_many_pixels_to_1_as_to_0():
    noisy = np.asarray(
        denoise.salt_and_pepper(jax.random.key(0), jnp.full((40, 16, 16, 2), 0.5), 0.3)
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
        diagonal=diagonal,
        memory_prior=lambda: Memory(jnp.asarray(prior)),
        write=lambda rng_key, images: Memory(jnp.asarray(posterior)[number_of(images[0]) % 3]),
    )
    report = covariance.evaluate(run, num_episodes=9, episode_length=2)
    written = number_of(np.asarray(run.fetched[0].query[:, 0])) % 3
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


def test_capacity_is_the_mean_over_episodes():
    def metrics(rng_key, query, support, train):
        numbers = number_of(query)
        return 0.0, {"nll": jnp.mean(numbers), "reconstruction": jnp.mean(2.0 * numbers)}

    run = make_run(__call__=metrics)
    report = capacity.evaluate(run, episode_length=(2, 5), num_classes=(2, 0), num_episodes=3)
    assert len(run.fetched) == len(report.table) == 4
    for row, episode in zip(report.table, run.fetched, strict=True):
        numbers = number_of(np.asarray(episode.query))
        assert numbers.shape == (3, row["episode_length"])
        assert list(row)[:3] == ["num_classes", "episode_length", "nll"]
        assert row["nll"] == pytest.approx(np.mean(numbers), rel=1e-5)
        assert row["reconstruction"] == pytest.approx(2 * np.mean(numbers), rel=1e-5)
        if row["num_classes"] == 2:
            assert all(len(set(classes)) <= 2 for classes in class_of(np.asarray(episode.query)))
    for name, panel in report.curves["capacity"].items():
        y = [row[name] for row in report.table]
        assert panel.lines == {"2 classes": ([2, 5], y[:2]), "any classes": ([2, 5], y[2:])}


def test_interpolated_images_lie_on_the_line_between_the_weights():
    """Weights are an image's pixels, and what they decode to is their square."""
    run = halving_run(
        weights=lambda rng_key, memory, images: images.reshape(len(images), -1),
        decode_weights=lambda rng_key, memory, weights: weights.reshape(-1, 4, 5, 2) ** 2,
    )
    report = interpolate.evaluate(run, num_pairs=3, num_steps=4, episode_length=5)
    (row,), rows = report.table, np.stack(list(report.grids["interpolate"].values()))
    assert rows.shape == (3, 6, 4, 5, 2)
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


def test_slots_are_used_by_how_the_weights_are_spread():
    def draw(rng_key, memory, images):
        return jnp.where(number_of(images)[:, None] % 2 == 0, spread[0], spread[1])

    spread = np.array([[1.0, -1.0, 0.0, 2.0], [0.0, 0.0, -3.0, 0.0]], np.float32)
    run = halving_run(weights=draw)
    report = weights.evaluate(run, num_episodes=3, episode_length=4)
    images = np.asarray(run.fetched[0].query)
    used = np.where(number_of(images) % 2 == 0, 16 / 6, 1.0)
    assert report.table == [
        {
            "images": 12,
            "num_slots": 4,
            "slots_used": pytest.approx(np.mean(used), rel=1e-5),
            "error": pytest.approx(mean_error(0.5 * images, images), rel=1e-5),
        }
    ]


def test_generation_begins_at_random_keys_and_reads_what_it_sampled():
    written = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5, 3, 3, 1)), jnp.float32)
    steps = generate.from_memory(halving_run(), jax.random.key(0), written, 4, 2)
    first = written[:, :4] + 2.0
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
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, size=(4, 5, 2)).astype(np.float32)
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
    assert len(rows["samples"]) == len(rows["2 readings"]) == 1  # of a memory of one image
    np.testing.assert_allclose(rows["samples"][0], drawn + 1.0, rtol=1e-6)
    np.testing.assert_allclose(rows["2 readings"][0], 0.375 * (drawn + 2.0), rtol=1e-6)
    same = drawing.respond(run, drawn, **(options | {"flip_rate": 0.0}))["corrupted, read"][0]
    np.testing.assert_array_equal(same, drawn)
    every = drawing.respond(run, drawn, **(options | {"flip_rate": 1.0}))["corrupted, read"][0]
    assert set(np.unique(every)) == {0.0, 1.0}
