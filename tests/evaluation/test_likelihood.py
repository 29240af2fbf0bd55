import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.evaluation import run
from memjax.evaluation.tasks import likelihood, samples
from tests import oracles

_GRID = np.linspace(-8, 8, 801)


def exact_nll(run, images):
    """By quadrature over the latent."""
    decode = run.model.bind(run.variables).image_decoder
    logits = decode(_GRID[:, None].astype(np.float32)).reshape(len(_GRID), -1)
    probs = scipy.special.expit(np.asarray(logits, np.float64))
    pixels = np.asarray(images, np.float64).reshape(len(images), 1, -1)
    log_likelihood = np.sum(np.log(np.where(pixels == 1, probs, 1 - probs)), axis=2)
    log_joint = log_likelihood + scipy.stats.norm.logpdf(_GRID)
    return -scipy.special.logsumexp(log_joint, axis=1) - np.log(_GRID[1] - _GRID[0])


@pytest.mark.slow
def test_nll_of_a_vae_is_exact_with_many_samples(vae_run):
    row = likelihood.evaluate(vae_run, num_samples=450, num_queries=40, batch_size=25).table[0]
    assert row["samples"] == 500 and row["queries"] == 40
    stage = vae_run.experiment.eval
    exact = exact_nll(vae_run, np.asarray(stage.arrays.images[:40]) / 255)
    assert row["nll"] == pytest.approx(exact.mean(), abs=0.05)
    assert row["standard_error"] == pytest.approx(exact.std() / np.sqrt(40), rel=0.05)


@pytest.mark.slow
def test_every_image_is_scored_once_unless_told_otherwise(vae_run):
    row = likelihood.evaluate(vae_run, num_samples=1).table[0]
    assert row["queries"] == 297
    assert {"nll", "kl_latent", "reconstruction"} <= row.keys()


@pytest.mark.slow
def test_more_images_than_there_are_and_whole_episodes(vae_run, kanerva_run):
    with pytest.raises(UserError, match="num_queries is 298; the split has 297 images"):
        likelihood.evaluate(vae_run, num_queries=298)
    (row,) = likelihood.evaluate(kanerva_run, num_samples=1).table
    assert row["queries"] == 80  # 75 episodes of 4 images hold the 297; ten batches of 8


def test_one_sample_is_the_elbo_and_more_are_tighter(vae_run):
    nll = [
        likelihood.evaluate(vae_run, num_samples=n, seed=1).table[0]["nll"] for n in (1, 10, 100)
    ]
    assert nll[0] > nll[1] > nll[2]


def test_more_samples_compile_nothing(vae_run):
    likelihood.evaluate(vae_run, num_samples=200, num_queries=10)
    compiled = run._ask._cache_size()
    likelihood.evaluate(vae_run, num_samples=5_000, num_queries=10)
    assert run._ask._cache_size() == compiled


def test_chunks_are_averaged_in_the_log_domain(vma_run):
    episode = vma_run.eval_episode(jax.random.key(0))
    score, num_samples = likelihood.make_score(vma_run, 300)
    rng_key = jax.random.key(1)
    found = score(rng_key, episode.query, episode.support)["nll"]
    memory = vma_run.write(rng_key, episode.support)
    chunks = [
        vma_run.map(
            "log_weights",
            jax.random.fold_in(rng_key, i),
            episode.query,
            memory,
            num_samples=100,
        )
        for i in range(3)
    ]
    log_weights = np.concatenate(chunks, axis=1)
    assert log_weights.shape == (len(found), num_samples) == (8, 300)
    expected = [-oracles.log_mean_exp(row) for row in log_weights]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_episodes_make_up_the_number_of_queries(vma_run):
    row = likelihood.evaluate(vma_run, num_samples=10, num_queries=20).table[0]
    assert row["queries"] == 24  # three batches of 8
    assert row["nll"] >= np.log(16) - 4 * row["standard_error"]


@pytest.mark.slow
def test_an_episodes_likelihood_is_the_mean_over_its_images(kanerva_run):
    (row,) = likelihood.evaluate(kanerva_run, num_samples=50, num_queries=16).table
    assert row["queries"] == 16
    np.testing.assert_allclose(
        row["bound"], row["reconstruction"] + row["kl_address"] + row["kl_latent"], rtol=1e-4
    )
    assert row["nll"] < row["bound"]
    episode = kanerva_run.eval_episode(jax.random.key(0))
    rng_key = jax.random.key(0)
    memories = kanerva_run.write_episodes(jax.random.fold_in(rng_key, 1), episode.query)
    log_weights = kanerva_run.map_episodes(
        "log_weights", jax.random.fold_in(rng_key, 0), episode.query, memories, num_samples=50
    )
    assert log_weights.shape == (8, 4, 50)
    log_likelihood = scipy.special.logsumexp(log_weights, axis=2) - np.log(50)
    score, _ = likelihood.make_score(kanerva_run, 50)
    found = score(rng_key, episode.query, None)["nll"]
    np.testing.assert_allclose(found, -log_likelihood.mean(axis=1), rtol=1e-5)


@pytest.mark.slow
def test_pictures_of_an_episode_are_its_images(kanerva_run):
    grids = samples.evaluate(kanerva_run, num_rows=1, num_columns=3).grids
    assert grids["reconstructions"]["query"].shape == (3, 8, 8, 1)
    assert grids["samples"]["sample 0"].shape == (3, 8, 8, 1)
