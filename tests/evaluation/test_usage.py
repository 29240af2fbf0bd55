"""How much of a learned memory is in use, beside a loop over its q(a|x)."""

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from tests.conftest import make_vma_config
from tests.evaluation.conftest import enlarged, not_trained


@pytest.fixture(scope="module")
def learned_run():
    config = make_vma_config()
    config.episodes = config.eval.episodes = {"name": "minibatch", "batch_size": 8}
    config.model.update(num_slots=6, slot_size=4)
    return enlarged(not_trained(config))


def test_usage_is_that_of_each_images_addresses(learned_run):
    report = learned_run.task("usage", num_images=20)
    (row,) = report.table
    model, variables = learned_run.model, learned_run.variables
    images = learned_run.experiment.eval.arrays.images[:20]
    memory = model.apply(variables, jax.random.key(0), None, method="write")

    def softmax(logits):
        shares = np.exp(np.float64(logits) - np.max(logits))
        return shares / shares.sum()

    @jax.jit
    def logits_of(image):
        return model.apply(variables, jax.random.key(0), image, memory, method="address_logits")

    posterior = [softmax(logits_of(np.float32(x) / 255)) for x in images]
    prior, mean = softmax(memory.prior_logits), np.mean(posterior, axis=0)
    entropy = -sum(p * np.log(p) for p in mean)
    information = entropy + np.mean([sum(q * np.log(q)) for q in posterior])
    kl = np.mean([sum(q * np.log(q / prior)) for q in posterior])
    assert information > 0.01 and kl - information > 0.01  # the test can tell
    expected = {
        "images": 20,
        "slots": 6,
        "slots_used": np.exp(entropy),
        "information": information,
        "kl_address": kl,
        "kl_mean": kl - information,
        "address_prior_entropy": -sum(prior * np.log(prior)),
    }
    assert list(row) == list(expected)
    np.testing.assert_allclose(list(row.values()), list(expected.values()), rtol=1e-4)
    (lines,) = (panel.lines for panel in report.curves["usage"].values())
    np.testing.assert_allclose(lines["mean q(a|x)"][1], -np.sort(-mean), rtol=1e-4)
    np.testing.assert_allclose(lines["p(a)"][1], prior[np.argsort(-mean)], rtol=1e-4)


@pytest.mark.parametrize("num_images", [0, 298])
def test_a_number_of_images_that_can_not_be_is_refused(learned_run, num_images):
    with pytest.raises(UserError, match=rf"num_images is {num_images}; it must be between 1 and"):
        learned_run.task("usage", num_images=num_images)


def test_a_memory_of_the_support_has_no_usage(vma_run):
    with pytest.raises(UserError, match="task usage needs a model that reads one learned slot"):
        vma_run.task("usage")
