"""The numbers of tasks on single images and few-shot episodes, by NumPy, of models made up here."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from memjax import data
from memjax.errors import UserError
from memjax.evaluation import few_shot
from memjax.evaluation.tasks import (
    addresses,
    classify,
    confounders,
    impute,
    likelihood,
    recall,
    table1,
)
from tests.evaluation.fakes import (
    CLASSES,
    MEMBERS,
    class_of,
    make_few_shot_run,
    make_images,
    make_run,
    number_of,
)


def few_votes(rng_key, query, memory):
    """Logits that favour one slot of the next class a little, and all three of a query's own.

    Only in sum over a class's slots is its own class ahead, and only for two of the six.
    """
    own = class_of(memory) == class_of(query)
    following = class_of(memory) == (class_of(query) + 1) % CLASSES
    first = jnp.arange(len(memory)) % 3 == 0
    ahead = jnp.where(class_of(query) % 3 == 0, 0.5, 1.5)
    return jnp.where(own, 0.0, jnp.where(following & first, ahead, -10.0))


def test_classes_are_told_by_the_sum_over_their_slots():
    run = make_few_shot_run(address_logits=few_votes, address_log_weights=few_votes)
    options = {"ways": CLASSES, "shots": 3, "num_queries": 2 * CLASSES + 1, "num_samples": 2}
    (row,) = classify.evaluate(run, **options).table
    assert row == {
        "ways": CLASSES,
        "shots": 3,
        "queries": 3 * CLASSES,  # whole episodes
        "accuracy by q(a|x)": 2 / 6,
        "accuracy by p(a|x)": 2 / 6,
    }


def test_the_exact_posterior_is_by_the_mean_of_the_weights_samples():
    """Of log weights that are N(0, 1), independent of each other: log E exp(w) = 1/2."""

    def draw(rng_key, query, memory):
        return few_votes(rng_key, query, memory) + jax.random.normal(rng_key, (len(memory),))

    run = make_few_shot_run(address_log_weights=few_votes)
    arguments = jax.random.key(0), *few_shot.draw(run, jax.random.key(1), CLASSES, 3)[:2]
    expected = np.stack([few_votes(None, query, arguments[2]) for query in arguments[1]])
    for num_samples in (1, 3):
        found = classify.log_joint(run, *arguments, num_samples)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    run = make_few_shot_run(address_log_weights=draw)
    error = classify.log_joint(run, *arguments, 20) - expected
    assert abs(np.mean(error) - 0.5) < 0.15 and 0.1 < np.std(error) < 0.6
    assert len(np.unique(error)) > 0.95 * error.size  # no slots or queries share their noise


def test_probabilities_and_entropy_of_addresses():
    def logits(rng_key, query, memory):
        return jnp.where(
            class_of(memory) == class_of(query), 200.0, -200.0 * (number_of(memory) > 9)
        )

    run = make_few_shot_run(address_logits=logits)
    report = addresses.evaluate(run, num_classes=3, num_shots=4, num_queries=2)
    (episode,) = run.fetched
    assert len(report.table) == 2
    assert report.curves["addresses"]["query 0"].borders == [3.5, 7.5]
    for row in report.table:
        query = report.grids["addresses_top"][f"query {row['query']}, top slots"][0]
        values = np.asarray(logits(None, query, episode.support), np.float64)
        probs = scipy.special.softmax(values)
        assert row["slots"] == f"{4 * (i := own_place(query, episode))} to {4 * i + 3}"
        assert row["probability of them"] == pytest.approx(probs[4 * i : 4 * i + 4].sum())
        assert row["entropy"] == pytest.approx(np.log(4), rel=1e-6)  # four slots alike, no other
        top = [probs[int(slot)] for slot in row["top slots"].split()]
        assert top == pytest.approx(sorted(probs)[: -1 - 5 : -1])


def own_place(query, episode):
    """Which of the episode's classes a query is of."""
    return int(np.argmax(class_of(np.asarray(episode.support)) == class_of(query))) // 4


def test_the_nll_of_few_shot_queries_and_its_error():
    def score(rng_key, queries, support):
        asked.append(np.asarray(queries))
        return {"nll": number_of(asked[-1]).astype(float)}

    asked: list = []
    run = make_few_shot_run()
    few_shot.few_shot_nll(run, score, 4, 2, 8, 0)
    assert len(asked) == 2  # no more than it takes
    asked.clear()
    mean, error = few_shot.few_shot_nll(run, score, 4, 2, 9, 0)
    numbers = number_of(np.concatenate(asked))
    assert len(asked) == 3 and len(numbers) == 12
    assert mean == pytest.approx(np.mean(numbers))
    assert error == pytest.approx(np.sqrt(np.var(numbers) / 12))
    assert len({tuple(map(int, number_of(queries))) for queries in asked}) == 3  # drawn anew


def test_the_most_few_shot_episodes_can_hold():
    """Beside a query of each class; one of each where there is nothing."""
    assert few_shot.limits(make_few_shot_run()) == (CLASSES, MEMBERS - 1)
    run, arrays = make_run(), SimpleNamespace(class_sizes=(), smallest_class=1)
    vars(run.experiment)["eval"] = SimpleNamespace(arrays=arrays)
    assert few_shot.limits(run) == (1, 1)


def test_single_images_are_no_few_shot_episodes():
    few_shot.check_few_shot(make_few_shot_run(), "table1")
    with pytest.raises(UserError, match="task table1 needs a run of episodes with a support"):
        few_shot.check_few_shot(make_run(), "table1")


def test_the_papers_tables_have_their_numbers_in_place(monkeypatch):
    """Scored by how many slots a memory has, so that every cell tells which memory it is of."""

    def make_score(run, num_samples):
        return lambda rng_key, q, memory: {"nll": np.full(len(q), float(len(memory)))}, 1

    for module in (confounders, table1):
        monkeypatch.setattr(module, "make_score", make_score)
    run = make_few_shot_run()
    report = table1.evaluate(run, num_classes=(2, 3), num_shots=(1, 2), num_queries=3)
    assert report.table == [{"classes": 2, "1": 2, "2": 4}, {"classes": 3, "1": 3, "2": 6}]
    (panel,) = report.curves["table1"].values()
    assert panel.lines == {"2 classes": ([1, 2], [2, 4]), "3 classes": ([1, 2], [3, 6])}

    report = confounders.evaluate(run, num_classes=(4, 2), num_shots=(1, 3), num_queries=3)
    rows = [tuple(row.values()) for row in report.table]
    ideal = 4 + np.log([2, 1, 3, 3])  # the fewest classes are 2, of 2 shots: 4 slots
    expected = [(4, 2, 8), (2, 2, 4), (CLASSES, 1, 6), (CLASSES, 3, 18)]
    assert rows == [
        (*row, 0.0, pytest.approx(line)) for row, line in zip(expected, ideal, strict=True)
    ]
    by_classes, by_shots = report.curves["confounders"].values()
    x = pytest.approx(np.log([4, 2]))
    assert by_classes.lines == {"nll": (x, [8, 4]), "ideal": (x, pytest.approx(ideal[:2]))}
    assert by_shots.lines == {"nll": ([1, 3], [6, 18])}


def likelihood_run(**options):
    def metrics(rng_key, query, memory, train):
        return 0.0, {"nll": 3.0 * number_of(query), "kl_latent": 2.0 * number_of(query)}

    def log_weights(rng_key, query, memory, num_samples):
        return jnp.full(num_samples, -1.0 * number_of(query))

    return make_run(__call__=metrics, log_weights=log_weights, **options)


@pytest.mark.parametrize("num_samples", [1, pytest.param(100, marks=pytest.mark.slow), 101])
def test_the_mean_nll_its_error_and_the_bound(num_samples):
    run = likelihood_run()
    (row,) = likelihood.evaluate(run, num_samples=num_samples, num_queries=48, batch_size=9).table
    numbers = np.arange(48)  # each image once, in order
    assert list(row)[:4] == ["queries", "samples", "nll", "standard_error"]
    assert row == {
        "queries": 48,
        "samples": 200 if num_samples == 101 else num_samples,
        "nll": pytest.approx(numbers.mean(), abs=1e-4),
        "standard_error": pytest.approx(numbers.std() / np.sqrt(48), rel=1e-4),
        "bound": pytest.approx(3 * numbers.mean(), rel=1e-5),
        "kl_latent": pytest.approx(2 * numbers.mean(), rel=1e-5),
    }


def test_drawn_episodes_are_as_many_as_make_up_the_split():
    run = likelihood_run(sampler=partial(data.recall, num_slots=16, batch_size=5))
    (row,) = likelihood.evaluate(run, num_samples=1).table
    assert row["queries"] == 50 and len(run.fetched) == 10  # 48 images
    numbers = number_of(np.concatenate([episode.query for episode in run.fetched]))
    assert row["nll"] == pytest.approx(numbers.mean(), abs=1e-4)
    assert len(np.unique(numbers)) > 25  # each batch is another one


def test_drawn_queries_that_are_episodes_hold_as_many_images_as_the_split():
    run = likelihood_run(sampler=partial(data.unstructured, num_episodes=2, episode_length=5))
    assert likelihood._num_queries(run, 0) == 10  # 48 images
    assert likelihood._num_queries(run, 3) == 3


def test_recall_counts_the_queries_that_find_their_own_slot(monkeypatch):
    monkeypatch.setattr(recall, "_CHUNK", 7)

    def logits(rng_key, query, memory):
        found = number_of(query) + jnp.where(number_of(query) < 12, 1, 0)
        return jnp.where(number_of(memory) == found, 1.0, 0.0)

    def metrics(rng_key, query, memory, train):
        return 0.0, {"nll": number_of(query) / 4.0}

    def pictures(rng_key, query, memory):
        return {"query": query}

    run = make_run(address_logits=logits, explain=pictures, __call__=metrics)
    options = {"num_slots": CLASSES * MEMBERS, "num_memories": 2}
    report = recall.evaluate(run, **options)
    assert len(report.grids["recall"]["query"]) == 10
    (row,) = report.table
    nll, floor = 47 / 2 / 4, np.log(48)
    assert list(row) == ["num_slots", "nll", "floor", "excess", "accuracy"]
    assert row["num_slots"] == 48 and row["accuracy"] == 36 / 48
    found = [row[name] for name in ("nll", "floor", "excess")]
    assert found == pytest.approx([nll, floor, nll - floor], rel=1e-5)


def test_imputation_errors_are_means_over_hidden_pixels_and_channels():
    """Of a model that makes every image 0.25 brighter."""
    run = make_run(explain=lambda rng_key, q, memory: {"reconstruction": q + 0.25})
    images = make_images()[:6].astype(np.float32) / 255
    hidden = np.random.default_rng(1).uniform(size=images.shape[:3]) < 0.5
    started, imputed, errors = impute.impute(run, jax.random.key(0), images, hidden, 2)
    np.testing.assert_allclose(imputed[hidden], started[hidden] + 0.5, rtol=1e-5)
    expected = [np.mean((started + shift - images)[hidden] ** 2) for shift in (0.25, 0.5)]
    np.testing.assert_allclose(errors, expected, rtol=1e-5)
    report = impute.evaluate(run, rect_size=2, drop_rate=0.25, num_rounds=3, num_queries=40)
    grids = report.grids
    np.testing.assert_allclose(
        grids["impute_HALF"]["original"], make_images()[:10] / 255, rtol=1e-6
    )
    changed = [np.mean(g["perturbed"] != g["original"]) for g in grids.values()]
    assert changed[0] == 4 / 28 and 0.15 < changed[1] < 0.35 and changed[2] == 3 / 7
    lines = report.curves["impute"][""].lines
    for row in report.table:
        x, y = lines[row["noise"]]
        assert x == [1, 2, 3] and (y[0], y[-1]) == (row["first_mse"], row["mse"])
    assert len(impute.evaluate(run, rect_size=2, num_rounds=1).table) == 3


def test_all_images_are_mapped_in_order(monkeypatch):
    monkeypatch.setattr("memjax.evaluation.run._CHUNK", 7)
    run = make_run(both=lambda rng_key, q, memory: (q, jax.random.uniform(rng_key)))
    images, noise = run.map_images("both", jax.random.key(0), make_images())
    np.testing.assert_allclose(images, make_images() / 255, rtol=1e-6)
    assert len(np.unique(noise)) == len(images)


def test_few_shot_draws_are_of_the_classes_and_places_they_say():
    run = make_few_shot_run()
    queries, support, places, slot_places = few_shot.draw(run, jax.random.key(0), 4, 3)
    (episode,) = run.fetched
    assert slot_places.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(support, episode.support)
    np.testing.assert_array_equal(queries, episode.query[places])
    np.testing.assert_array_equal(
        class_of(np.asarray(queries)), class_of(np.asarray(support))[3 * np.asarray(places)]
    )
