"""A run, from a folder or from Python: what it is asked, and what it refuses."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest

from memjax import data, evaluation, models
from memjax.errors import UserError
from memjax.evaluation import load_run
from memjax.training import build, train
from tests.evaluation.conftest import make_own_run
from tests.evaluation.fakes import make_run
from tests.evaluation.own_model import Flips
from tests.robustness import config as smallest

_FOR_ANY_MODEL = ["confounders", "fewshot_samples", "impute", "likelihood", "samples", "table1"]


def test_tasks_are_the_files_of_the_package():
    assert evaluation.tasks.names() == [
        "addresses",
        "capacity",
        "classify",
        "confounders",
        "covariance",
        "denoise",
        "disable_memory",
        "fewshot_samples",
        "generate",
        "impute",
        "interpolate",
        "likelihood",
        "preference",
        "probe",
        "recall",
        "samples",
        "slots",
        "table1",
        "usage",
        "weights",
    ]
    with pytest.raises(UserError, match="task is 'run'; it must be one of addresses, capacity, "):
        evaluation.tasks.find("run")


@pytest.mark.parametrize("name", evaluation.tasks.names())
def test_a_task_says_what_it_needs_and_refuses_a_model_that_lacks_it(name, own_run):
    needs = evaluation.tasks.find(name).needs
    if name in _FOR_ANY_MODEL:
        assert needs is None
        return
    with pytest.raises(UserError) as error:
        own_run.task(name)
    does = (needs.__doc__ or "").partition(".\n")[0].split("\n")[0].rstrip(".")
    message = f"task {name} needs a model that {does[0].lower()}{does[1:]}; this is a Flips"
    assert str(error.value) == message


def test_what_a_task_needs_our_models_have():
    able = {
        models.AddressesSlots: partial(models.VMA, num_slots=4),
        models.AddressesSupport: models.VMA,
        models.WritesEpisodes: models.KanervaMachine,
        models.ReadsByWeights: models.KanervaMachine,
        models.HasLayerSlots: models.MemVAE,
        models.HasFeatures: models.MemVAE,
    }
    needs = [evaluation.tasks.find(name).needs for name in evaluation.tasks.names()]
    assert set(needs) == {None, *able}
    for protocol, model in able.items():
        assert models.does(model(image_shape=(8, 8, 1)), protocol)


def test_generate_gives_images_of_a_memory(own_run, own_recall_run):
    rng_key = jax.random.key(0)
    white = np.ones((3, 8, 8, 1), np.float32)
    images = own_run.generate(rng_key, 5, white)
    assert images.shape == (5, 8, 8, 1) and images.mean() > 0.85  # one pixel of 20 is flipped
    assert len(np.unique(images.reshape(5, -1), axis=0)) == 5
    np.testing.assert_array_equal(own_run.generate(rng_key, 5, white), images)
    # Of what the evaluation's episode brings: digits; or of the model's own two slots.
    digits, plain = (run.generate(rng_key, 40).mean() for run in (own_recall_run, own_run))
    assert abs(digits - own_recall_run.experiment.eval.arrays.images.mean() / 255) < 0.1
    assert abs(plain - 0.5) < 0.2
    with pytest.raises(UserError, match="num_images is 0; it must be at least 1"):
        own_run.generate(rng_key, 0)


def test_reconstruct_reads_the_images_themselves_or_the_support(own_run):
    images = np.random.default_rng(0).integers(0, 2, (4, 8, 8, 1)).astype(np.float32)
    rng_key = jax.random.key(0)
    np.testing.assert_array_equal(own_run.reconstruct(rng_key, images), images)
    support = images[:1]
    np.testing.assert_array_equal(
        own_run.reconstruct(rng_key, images, support), np.repeat(support, 4, 0)
    )
    with pytest.raises(UserError, match=r"images range from 0 to 255; they must be in \[0, 1\]"):
        own_run.reconstruct(rng_key, 255 * images)
    with pytest.raises(UserError, match=r"range from 0 to 255; they must be in \[0, 1\]"):
        own_run.reconstruct(rng_key, images, 255 * images)
    with pytest.raises(UserError, match=r"range from 0 to 255; they must be in \[0, 1\]"):
        own_run.generate(rng_key, 1, 255 * images)
    for call in (own_run.reconstruct, lambda *rest: own_run.generate(rest[0], 1, rest[1])):
        with pytest.raises(UserError, match=r"is \[4, 8, 8\]; it must be \[n, 8, 8, 1\]"):
            call(rng_key, images[..., 0])


def test_map_is_the_model_applied_to_each_query(vma_run):
    rng_key = jax.random.key(0)
    episode = vma_run.eval_episode(rng_key)
    memory = vma_run.write(rng_key, episode.support)
    logits = vma_run.map("address_logits", rng_key, episode.query, memory)

    @jax.jit
    def one(query):
        return vma_run.model.apply(
            vma_run.variables, rng_key, query, memory, method="address_logits"
        )

    for query, found in zip(episode.query, logits, strict=True):
        expected = one(query)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_each_memory_and_each_query_has_a_key_and_its_own_memory():
    """Of what a method is given, of queries that are numbers."""
    run = make_run(
        write=lambda rng_key, support: (jax.random.uniform(rng_key), support),
        ask=lambda rng_key, query, memory: (jax.random.uniform(rng_key), memory[0], query),
        draw=lambda rng_key, memory: (jax.random.uniform(rng_key), memory[0]),
    )
    rng_key, numbers = jax.random.key(0), np.arange(6.0).reshape(2, 3)
    memories = run.write_episodes(rng_key, numbers)
    noise, of_memory, queries = run.map_episodes("ask", rng_key, numbers, memories)
    np.testing.assert_array_equal(queries, numbers)
    np.testing.assert_array_equal(of_memory, np.repeat(memories[0][:, None], 3, 1))
    assert len(np.unique(noise)) == 6 and len(np.unique(memories[0])) == 2
    drawn = run.sample_episodes("draw", rng_key, 4, memories)
    np.testing.assert_array_equal(drawn[1], np.repeat(memories[0][:, None], 4, 1))
    assert len(np.unique(drawn[0])) == 8
    memory = run.write(rng_key, numbers[0])
    noise, of_memory, queries = run.map("ask", rng_key, numbers[0], memory)
    np.testing.assert_array_equal(queries, numbers[0])
    assert len(np.unique(noise)) == 3 and set(np.unique(of_memory)) == {float(memory[0])}
    assert len(np.unique(run.sample("draw", rng_key, 4, memory)[0])) == 4


def test_a_users_own_model_works_with_the_tasks_for_any_model(own_run):
    """It needs no folder, no config, and nothing beyond the contract."""
    (row,) = own_run.task("likelihood", num_samples=2, num_queries=20, batch_size=10).table
    images = np.asarray(own_run.experiment.eval.arrays.images[:20]).reshape(20, -1) / 255
    ink = images.sum(axis=1)  # in a memory of an image of 0 and one of 1
    white, black = (n * np.log(0.95) + (64 - n) * np.log(0.05) for n in (ink, 64 - ink))
    exact = -np.mean(np.logaddexp(white, black) - np.log(2))
    assert row["nll"] == pytest.approx(exact, rel=1e-5) and row["queries"] == 20
    report = own_run.task("samples", num_rows=2, num_columns=3)
    assert [row.shape for row in report.grids["samples"].values()] == [(3, 8, 8, 1)] * 2
    assert list(report.grids["reconstructions"]) == ["query", "reconstruction"]
    table = own_run.task("impute", num_rounds=2, num_queries=10).table
    assert [row["noise"] for row in table] == ["RECT-3", "RAND-0.6", "HALF"]


def test_a_users_own_model_of_few_shot_episodes():
    sampler = partial(data.few_shot, num_classes=2, num_support=2, num_queries=2)
    run = make_own_run(Flips, sampler)
    (row,) = run.task("table1", num_classes=2, num_shots=3, num_samples=1, num_queries=4).table
    assert row["classes"] == 2 and 0 < row["3"] < 100
    rows = run.task("fewshot_samples", num_rows=2, num_columns=2).grids["fewshot_samples"]
    for row in rows.values():  # at most a few pixels of the slot are flipped
        assert row.shape == (3, 8, 8, 1) and np.mean(row[1:] != row[0]) < 0.2


def test_folders_without_a_run_are_refused(tmp_path, vae_run):
    with pytest.raises(UserError, match=r"holds no run: it has no config\.json"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json can't be read"):
        load_run(tmp_path)
    config = vae_run.experiment.config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="holds no checkpoint; train it first"):
        load_run(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_is_loaded_by_its_config_or_with_its_experiment(tmp_path):
    config = smallest.get_config()
    config.training.num_steps = config.training.log_every = 2
    config.training.eval_every = config.training.checkpoint_every = 2
    experiment = dataclasses.replace(build(config), config=None)
    state = train(experiment, tmp_path / "python")
    with pytest.raises(UserError, match="was trained from Python: give its experiment too"):
        load_run(tmp_path / "python")
    run = load_run(tmp_path / "python", experiment=experiment)
    assert run.step == 2 and run.experiment is experiment
    for found, expected in zip(
        jax.tree.leaves(run.variables), jax.tree.leaves(state.eval_variables), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert run.task("samples", num_rows=1, num_columns=2).table == [{"step": 2, "images": 2}]
    # A folder of the same run that has the config.
    (tmp_path / "python" / "config.json").write_text(config.to_json())
    again = load_run(tmp_path / "python")
    assert again.step == 2 and again.experiment.name == "vae.VAE"
