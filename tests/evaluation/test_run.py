import json

import jax
import numpy as np
import pytest

from memjax import evaluation
from memjax.errors import UserError
from memjax.evaluation import load_run, samples, task


def test_tasks_are_the_files_of_the_package():
    assert evaluation.tasks() == [
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
        "weights",
    ]
    assert task("samples") is samples.evaluate
    with pytest.raises(UserError, match="task is 'run'; it must be one of addresses, capacity, "):
        task("run")


def test_samples_draws_generated_images_and_reconstructions(vae_run):
    report = samples.evaluate(vae_run, num_rows=2, num_columns=3)
    assert [row.shape for row in report.grids["samples"].values()] == [(3, 8, 8, 1)] * 2
    assert list(report.grids["reconstructions"]) == ["query", "reconstruction"]


def test_map_is_the_model_applied_to_each_query(recall_run):
    rng_key = jax.random.key(0)
    episode = recall_run.eval_episode(rng_key)
    logits = recall_run.map("address_logits", rng_key, episode.query, episode.support)
    for query, found in zip(episode.query, logits, strict=True):
        expected = recall_run.model.apply(
            recall_run.variables, rng_key, query, episode.support, method="address_logits"
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_folders_without_a_run_are_refused(tmp_path, recall_run):
    with pytest.raises(UserError, match=r"holds no run: it has no config\.json"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json can't be read"):
        load_run(tmp_path)
    config = recall_run.experiment.config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="holds no checkpoint; train it first"):
        load_run(tmp_path)
