import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.models import MemVAE
from tests import oracles
from tests.model_examples import Decoder, Encoder
from tests.models.common import apply, assert_mean_is, assert_refused, images, initialize, shapes

_SHAPE = (3, 3, 1)
_GRID = np.linspace(-8, 8, 401)  # of the latent: a Riemann sum of smooth, decaying functions
_BN_EPSILON = 1e-5


def tiny(**fields):
    defaults = {
        "hidden_sizes": (6, 4),
        "latent_size": 1,
        "num_slots": (3, 2),
    }
    return MemVAE(_SHAPE, **(defaults | fields))


def queries(count=64):
    return images(0, count, *_SHAPE)


@partial(jax.jit, static_argnums=0)
def train_step(model, variables, images):
    """Objectives `[B]`, metrics, new statistics of a batch, as the training loop takes them."""
    model = model.clone(batch_axes=("batch",))

    @partial(jax.vmap, axis_name="batch", out_axes=(0, None))
    def one(rng_key, query):
        return model.apply(variables, rng_key, query, train=True, mutable=["batch_stats"])

    (objective, metrics), state = one(jax.random.split(jax.random.key(1), len(images)), images)
    return objective, metrics, state["batch_stats"]


def oracle_logits(model, variables, latent, num_disabled=0):
    """The decoder's logits `[pixels]`, and each layer's h_a."""
    hidden, activations = np.asarray(latent, np.float64), {}
    for i in reversed(range(len(model.hidden_sizes))):
        name = f"generation_{i}"
        hidden, activations[f"layer {i + 1}"] = oracles.memory_layer(
            variables["params"][name],
            variables["batch_stats"][name],
            hidden,
            model.attention,
            model.composition,
            disabled=i < num_disabled,
        )
    pixels = variables["params"]["pixels"]
    logits = np.asarray(pixels["kernel"], np.float64).T @ hidden + np.asarray(pixels["bias"])
    return logits, activations


def exact_log_likelihood(model, variables, query):
    """By quadrature, with the oracle's decoder."""
    logits = np.stack([oracle_logits(model, variables, [z])[0] for z in _GRID])
    probs = scipy.special.expit(logits)
    likelihood = np.prod(np.where(query.reshape(-1) == 1, probs, 1 - probs), axis=1)
    return np.log(np.sum(scipy.stats.norm.pdf(_GRID) * likelihood) * (_GRID[1] - _GRID[0]))


def decoded_image(model, latent, num_disabled):
    return model.decode(latent, num_disabled).mean


def sampled_latent(model, rng_key, query):
    return model._recognize(query)[0].sample(rng_key)


@pytest.mark.parametrize("fields", [{}, {"attention": "softmax", "composition": "sum"}])
def test_the_decoder_is_the_papers_layer_by_layer(fields):
    model = tiny(latent_size=2, **fields)
    variables = initialize(model)
    latent = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    for num_disabled in (0, 1, 2):
        found = apply(model, variables, latent, num_disabled=num_disabled, method=decoded_image)
        expected = [oracle_logits(model, variables, z, num_disabled)[0] for z in latent]
        np.testing.assert_allclose(
            found.reshape(5, -1), scipy.special.expit(expected), rtol=1e-4, atol=1e-6
        )


def test_slot_activations_are_the_weights_of_every_layer_with_slots():
    rng_key, query = jax.random.key(3), queries()[0]
    for model in (tiny(), tiny(num_slots=(3, 0))):
        variables = initialize(model)
        found = apply(model, variables, rng_key, query, method="slot_activations")
        latent = apply(model, variables, rng_key, query, method=sampled_latent)
        expected = oracle_logits(model, variables, latent)[1]
        assert found.keys() == {name for name, weights in expected.items() if weights is not None}
        for name, weights in found.items():
            np.testing.assert_allclose(weights, expected[name], rtol=1e-4, atol=1e-5)


def test_weights_average_to_the_exact_likelihood_and_bounds_are_of_them():
    model, query = tiny(num_samples=16), queries()[0]
    variables, rng_key = initialize(model), jax.random.key(1)

    def weigh(num_samples):
        options = {"num_samples": num_samples, "method": "log_weights"}
        return np.asarray(apply(model, variables, rng_key, query, None, **options), np.float64)

    assert_mean_is(np.exp(weigh(20_000)), np.exp(exact_log_likelihood(model, variables, query)))
    objective, metrics = apply(model, variables, rng_key, query, method="__call__", train=False)
    np.testing.assert_array_equal(objective, -metrics["nll"])
    np.testing.assert_allclose(objective, oracles.log_mean_exp(weigh(16)), rtol=1e-5)


def test_the_scales_of_gaussian_pixels_begin_around_an_eighth():
    model = tiny(likelihood="gaussian")

    def generate(bound, rng_key):
        return bound._generate(jax.random.normal(rng_key, (64, bound.latent_size)), False)[0]

    rng_key = jax.random.key(0)
    found, _ = jax.jit(lambda: model.init_with_output(rng_key, rng_key, method=generate))()
    np.testing.assert_allclose(np.median(found.base_dist.scale), np.exp(-2), rtol=0.3)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"num_samples": 2}, marks=pytest.mark.slow),
        pytest.param({"encoder": Encoder(), "decoder": Decoder(_SHAPE)}, marks=pytest.mark.slow),
        pytest.param(
            {"attention": "softmax", "composition": "sum", "likelihood": "gaussian"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"batch_norm": False, "num_slots": (0, 2)}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_parameter_learns(fields):
    """But for the biases that batch normalisation takes away again."""
    model = tiny(**fields)
    variables = initialize(model)
    images = queries(64)

    @jax.jit
    @jax.grad
    def gradient(params):
        return jnp.mean(train_step_of_params(model, variables, params, images))

    leaves = jax.tree_util.tree_leaves_with_path(gradient(variables["params"]))
    sizes = {jax.tree_util.keystr(path): float(np.max(np.abs(leaf))) for path, leaf in leaves}
    for name, size in sizes.items():
        if model.batch_norm and "['dense']['bias']" in name:
            assert size < 5e-3 * sizes[name.replace("bias", "kernel")], name
        else:
            assert np.isfinite(size) and size > 1e-7, name


def train_step_of_params(model, variables, params, images):
    variables = {**variables, "params": params}
    if model.batch_norm:
        return train_step(model, variables, images)[0]
    rng_keys = jax.random.split(jax.random.key(1), len(images))
    return jax.vmap(lambda k, x: model.apply(variables, k, x, train=True)[0])(rng_keys, images)


def test_training_uses_the_batch_and_evaluation_the_running_averages():
    model = tiny(num_samples=3)
    variables = initialize(model)
    images = queries(32)
    _, _, stats = train_step(model, variables, images)
    dense = variables["params"]["recognition_0"]["dense"]
    hidden = images.reshape(32, -1).astype(np.float64) @ np.asarray(dense["kernel"]) + dense["bias"]
    before = variables["batch_stats"]["recognition_0"]["norm"]
    for name, value in (("mean", hidden.mean(axis=0)), ("var", hidden.var(axis=0))):
        expected = 0.99 * before[name] + 0.01 * value
        np.testing.assert_allclose(stats["recognition_0"]["norm"][name], expected, rtol=1e-4)
    assert np.all(stats["generation_1"]["norm"]["mean"] != before["mean"][0])

    # In evaluation, a datum is by itself, whatever the batch; the oracle takes the averages.
    features = apply(model, variables, jax.random.key(0), images[0], method="features")
    expected = images[0].reshape(-1)
    for name in ("recognition_0", "recognition_1"):
        params, averages = variables["params"][name], variables["batch_stats"][name]
        expected, _ = oracles.memory_layer(params, averages, expected)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_the_distance_of_standardised_features():
    images = queries(16)
    model = tiny(local_reconstruction=0.5)
    variables = initialize(model)
    objective, metrics, _ = train_step(model, variables, images)
    rng_keys = jax.random.split(jax.random.key(1), len(images))

    batched = model.clone(batch_axes=("batch",))

    @jax.jit
    @partial(jax.vmap, axis_name="batch", out_axes=(0, None))
    def features(rng_key, query):
        def pairs(model):
            posterior, recognized = model._recognize(query, train=True)
            latent = posterior.rsample(rng_key, (1,))
            return recognized, [h[0] for h in model._generate(latent, train=True)[1]]

        return batched.apply(variables, method=pairs, mutable=["batch_stats"])

    (recognized, generated), _ = features(rng_keys, images)
    expected = np.zeros(len(images))
    for pair in zip(recognized, generated, strict=True):
        up, down = (np.asarray(h, np.float64) for h in pair)
        up, down = ((h - h.mean(0)) / np.sqrt(h.var(0) + _BN_EPSILON) for h in (up, down))
        expected += 0.5 * np.mean((up - down) ** 2, axis=1)
    found = -np.asarray(metrics["nll"]) - np.asarray(objective)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-4)
    without = train_step(tiny(local_reconstruction=0.0), variables, images)[0]
    np.testing.assert_allclose(without, -np.asarray(metrics["nll"]), rtol=1e-6)


def test_images_have_the_datas_shape_and_range():
    model = tiny()
    variables, rng_key = initialize(model), jax.random.key(0)
    images = [
        *apply(model, variables, rng_key, queries()[0], method="explain").values(),
        apply(model, variables, rng_key, num_disabled=2, method="generate"),
        *apply(model, variables, layer=1, method="slot_images"),
        *apply(model, variables, layer=2, method="slot_images"),
    ]
    assert len(images) == 2 + 1 + 3 + 2
    for image in images:
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_a_slots_image_is_decoded_from_it_alone():
    model = tiny(attention="softmax", composition="sum")
    variables = initialize(model)
    found = apply(model, variables, layer=1, method="slot_images")
    pixels, slots = variables["params"]["pixels"], variables["params"]["generation_0"]["slots"]
    expected = scipy.special.expit(np.asarray(slots @ pixels["kernel"] + pixels["bias"]))
    np.testing.assert_allclose(found.reshape(3, -1), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_slots", "hidden_sizes", "thousands"),
    [((70, 30), (500, 500), 1550), ((0, 0), (500, 500), 1441), ((0, 0), (530, 530), 1559)],
)
def test_parameters_of_mnist_are_as_many_as_in_table_3(num_slots, hidden_sizes, thousands):
    model = MemVAE((28, 28, 1), hidden_sizes, num_slots=num_slots)
    assert round(count_parameters(model) / 1_000) == thousands


def test_parameters_of_mnist_are_the_defaults():
    model, named = MemVAE((28, 28, 1)), MemVAE((28, 28, 1), (500, 500), num_slots=(70, 30))
    assert shapes(model) == shapes(named)


@pytest.mark.parametrize("sizes", [(1,), (5, 4, 1)])
def test_features_are_the_last_layers(sizes):
    model = tiny(hidden_sizes=sizes, num_slots=(0,) * len(sizes))
    features = functools.partial(model.apply, method="features")
    found = jax.eval_shape(features, shapes(model), jax.random.key(0), queries()[0])
    assert found.shape == sizes[-1:]


@pytest.mark.parametrize(("num_slots", "count"), [((70, 30), 207_528), ((0, 0), 163_828)])
def test_parameters_of_ocr_letters_are_as_many_as_in_table_3(num_slots, count):
    model = MemVAE((16, 8, 1), (200, 200), latent_size=50, num_slots=num_slots)
    assert count_parameters(model) == count


def count_parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)["params"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"num_slots": (3,)},
            r"num_slots is \(3,\); it must have one entry for each of the layers",
        ),
        ({"hidden_sizes": ()}, r"hidden_sizes is \(\); it must be sizes above 0"),
        ({"hidden_sizes": (5, 0)}, r"hidden_sizes is \(5, 0\); it must be sizes above 0"),
        ({"likelihood": "beta"}, "likelihood is 'beta'; it must be one of bernoulli, gaussian"),
        ({"num_samples": 0}, "num_samples is 0; it must be at least 1"),
        ({"local_reconstruction": -1.0}, "local_reconstruction is -1.0; it must not be negative"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    assert_refused(tiny(**fields), message)


def test_images_of_another_range_are_refused():
    model = tiny()
    variables = initialize(model)
    with pytest.raises(UserError, match=r"images range from 0 to 255; they must be in \[0, 1\]"):
        model.apply(variables, jax.random.key(0), 255 * queries()[0], method="features")


def test_a_batch_may_be_spread_over_several_mapped_axes():
    """As over devices: each axis counts, and the order of the images does not."""
    images, both = queries(12), tiny(batch_axes=("devices", "batch"))
    variables = initialize(tiny())
    expected, _, expected_stats = train_step(tiny(), variables, images)

    @jax.jit
    @partial(jax.vmap, axis_name="devices", out_axes=(0, None))
    @partial(jax.vmap, axis_name="batch", out_axes=(0, None))
    def one(rng_key, query):
        inputs = variables, rng_key, query
        (bound, _), state = both.apply(*inputs, train=True, mutable=["batch_stats"])
        return bound, state["batch_stats"]

    rng_keys = jax.random.split(jax.random.key(1), 12).reshape(3, 4)
    found, stats = one(rng_keys, images.reshape(3, 4, *_SHAPE))
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(expected_stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
