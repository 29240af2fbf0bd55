import dataclasses

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation import Run
from memjax.evaluation.tasks import disable_memory, preference, slots


def clone(run, **fields):
    """The run with other fields of its model."""
    model = run.model.clone(**fields)
    experiment = dataclasses.replace(run.experiment, model=model)
    return dataclasses.replace(run, experiment=experiment)


def test_shares_are_means_over_a_class_of_sum_one(mem_vae_run, monkeypatch):
    labels = np.asarray(mem_vae_run.experiment.eval.arrays.labels)
    rng = np.random.default_rng(0)
    activations = {"layer 1": rng.uniform(size=(len(labels), 4)) + np.eye(10)[labels][:, :4]}
    monkeypatch.setattr(Run, "map_images", lambda *_: activations)
    report = preference.evaluate(mem_vae_run)
    shares = report.matrices["preference"]["layer 1"]
    for c in range(10):
        members = [a for a, label in zip(activations["layer 1"], labels, strict=True) if label == c]
        mean = sum(members) / len(members)
        np.testing.assert_allclose(shares[c], mean / mean.sum(), rtol=1e-6)
        row = report.table[c]
        assert row["class"] == c and row["slot"] == np.argmax(mean)
        assert row["share"] == pytest.approx(shares[c].max())
        others = {
            other: np.corrcoef(shares[c], shares[other])[0, 1] for other in range(10) if other != c
        }
        assert row["nearest_class"] == max(others, key=others.get)
        assert row["correlation"] == pytest.approx(max(others.values()))
    assert [row["slot"] for row in report.table[:4]] == [0, 1, 2, 3]


def test_every_layer_with_slots_is_looked_at(mem_vae_run):
    report = preference.evaluate(mem_vae_run)
    shares = report.matrices["preference"]
    assert {name: matrix.shape for name, matrix in shares.items()} == {
        "layer 1": (10, 5),
        "layer 2": (10, 3),
    }
    for matrix in shares.values():
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-5)
    correlation = report.matrices["preference_correlation"]["layer 1"]
    np.testing.assert_allclose(correlation, correlation.T, rtol=1e-6)
    assert len(report.table) == 20


def test_slots_of_each_class_are_ranked_and_drawn(mem_vae_run):
    report = slots.evaluate(mem_vae_run, num_slots=2)
    shares = preference.evaluate(mem_vae_run).matrices["preference"]
    assert [(row["layer"], row["rank"]) for row in report.table] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for layer in (1, 2):
        matrix, grid = shares[f"layer {layer}"], report.grids[f"slots_layer_{layer}"]
        images = mem_vae_run.model.apply(mem_vae_run.variables, layer, method="slot_images")
        for c in range(10):
            ranked = sorted(range(matrix.shape[1]), key=lambda n, row=matrix[c]: -row[n])
            for rank in (1, 2):
                slot = ranked[rank - 1]
                (row,) = (r for r in report.table if (r["layer"], r["rank"]) == (layer, rank))
                assert row[str(c)] == pytest.approx(matrix[c, slot])
                np.testing.assert_allclose(grid[f"rank {rank}"][c], images[slot], rtol=1e-5)


@pytest.mark.slow
def test_disabling_memories_changes_the_same_images(mem_vae_run):
    report = disable_memory.evaluate(mem_vae_run, num_images=10)
    grid = report.grids["disable_memory"]
    names = ["whole", "without layer 1", "without layers 1 to 2"]
    assert list(grid) == [row["memories"] for row in report.table] == names
    generate = jax.jit(
        jax.vmap(
            lambda k: mem_vae_run.model.apply(mem_vae_run.variables, k, None, method="generate")
        )
    )
    expected = generate(jax.random.split(jax.random.key(0), 10))
    np.testing.assert_allclose(grid["whole"], expected, rtol=1e-5)
    assert report.table[0]["change"] == 0
    for row in report.table[1:]:
        change = np.mean(np.abs(grid[row["memories"]] - grid["whole"]))
        assert row["change"] == pytest.approx(change) and change > 0.01


def test_layers_without_slots_are_passed_over(mem_vae_run):
    report = disable_memory.evaluate(mem_vae_run, num_images=2)
    assert len(report.table) == 3
    params = dict(mem_vae_run.variables["params"])
    params["generation_0"] = {k: params["generation_0"][k] for k in ("dense", "norm")}
    run = clone(mem_vae_run, num_slots=(0, 3))
    run = dataclasses.replace(run, variables={**run.variables, "params": params})
    table = disable_memory.evaluate(run, num_images=2).table
    assert [row["memories"] for row in table] == ["whole", "without layers 1 to 2"]


@pytest.mark.parametrize("name", ["preference", "slots", "disable_memory"])
def test_models_without_slots_are_refused(mem_vae_run, name):
    with pytest.raises(UserError, match=rf"task {name} needs a model that reads learned slots in"):
        clone(mem_vae_run, num_slots=(0, 0)).task(name)


def test_slots_that_are_not_added_or_not_there_are_refused(mem_vae_run):
    with pytest.raises(UserError, match=r"needs model\.composition 'sum'; this run's is 'mlp'"):
        slots.evaluate(clone(mem_vae_run, composition="mlp"))
    with pytest.raises(UserError, match="num_slots is 4; it must be between 1 and 3"):
        slots.evaluate(mem_vae_run, num_slots=4)
    with pytest.raises(UserError, match="num_images is 0; it must be at least 1"):
        disable_memory.evaluate(mem_vae_run, num_images=0)
