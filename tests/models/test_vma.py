"""VMA against the enumeration of its addresses and the quadrature of its one-dimensional latent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from memjax.models import VMA, vma
from tests import oracles
from tests.model_examples import Decoder, Encoder
from tests.models.common import (
    NUM_SLOTS,
    apply,
    assert_every_parameter_learns,
    assert_mean_is,
    assert_refused,
    images,
    initialize,
    inputs,
    shapes,
)

_DENSE, _CONVOLVED = (3, 3, 1), (5, 5, 1)
_GRID = np.linspace(-8, 8, 401)  # of the latent: a Riemann sum of smooth, decaying functions
_NETS = {"encoder": Encoder(), "decoder": Decoder(_DENSE), "embedding": Encoder()}


def tiny(**overrides):
    fields = {"latent_size": 1, "hidden_sizes": (6, 4), "embedding_size": 3, "slot_size": 3}
    return VMA(_CONVOLVED if "num_filters" in overrides else _DENSE, **fields | overrides)


def slow(**fields):
    return pytest.param(fields, marks=pytest.mark.slow)


def exact_log_joint(model, variables, query, support):
    """log p(x, a|M) = log p(a) + log integral p(z|m_a) p(x|z, m_a) dz; VMA eq. 1.

    What nets make of a slot, of a slot and z, is taken as it is; all else is computed here.
    """

    @jax.jit
    def parts():
        bound = model.bind(variables)
        memory = bound.write(jax.random.key(0), support)
        prior = bound.nets.prior(memory.features)
        count = len(memory.contents)
        grid = jnp.broadcast_to(_GRID.astype(np.float32)[:, None, None], (len(_GRID), count, 1))
        outputs = jax.vmap(lambda z: bound.nets.decode(memory.features, z))(grid)
        return memory.embeddings, prior.mean[:, 0], jnp.sqrt(prior.variance[:, 0]), outputs

    embeddings, locs, scales, outputs = (np.asarray(x, np.float64) for x in parts())
    log_prior = np.full(len(embeddings), -np.log(len(embeddings)))
    if model.address_prior == "learned":
        question = variables["params"]["prior_query"]
        scores = oracles.similarity(question, embeddings, model.similarity)
        log_prior = np.log(oracles.softmax(scores))
    if model.likelihood == "gaussian":
        scale = np.exp(float(variables["params"]["pixels"]["log_scales"][0]))
        pixels = scipy.stats.norm.pdf(query, outputs, scale)
    else:
        pixels = scipy.special.expit(np.where(query == 1, outputs, -outputs))
    densities = scipy.stats.norm.pdf(_GRID[:, None], locs, scales)
    integrals = (densities * pixels.prod(axis=(-3, -2, -1))).sum(axis=0) * (_GRID[1] - _GRID[0])
    return log_prior + np.log(integrals)


@pytest.mark.parametrize(
    "fields",
    [
        {"likelihood": "gaussian"},
        {"num_slots": 4},
        slow(num_filters=3, hidden_sizes=(4,)),
        slow(),
        slow(**_NETS),
        slow(similarity="cosine", address_prior="flat"),
        slow(similarity="inner", num_slots=1, likelihood="gaussian"),
        slow(num_filters=3, num_slots=3),
        slow(num_filters=3, likelihood="gaussian"),
    ],
    ids=str,
)
def test_weights_average_to_the_exact_joint_and_likelihood(fields):
    model = tiny(**fields)
    variables, (query, support) = initialize(model), inputs(model)
    query = 0.8 * query if model.likelihood == "gaussian" else query
    exact = exact_log_joint(model, variables, query, support)

    @jax.jit
    def weigh(rng_keys):
        run = functools.partial(model.apply, variables)
        memory = run(rng_keys[0], support, method="write")
        one = functools.partial(run, query=query, memory=memory, method="address_log_weights")
        together = run(rng_keys[0], query, memory, num_samples=20_000, method="log_weights")
        return together, jax.vmap(one)(rng_keys)

    together, apart = weigh(jax.random.split(jax.random.key(3), 4_000))
    assert_mean_is(np.exp(np.asarray(together, np.float64) - np.logaddexp.reduce(exact)), 1.0)
    assert_mean_is(np.exp(np.asarray(apart, np.float64) - exact), np.ones(len(exact)))


@pytest.mark.parametrize("num_slots", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_the_bound_and_its_metrics(num_slots):
    """Of the same draws as the weights'; with that test, it is below the likelihood."""
    model = tiny(num_samples=16, num_slots=num_slots, address_estimator="vimco")
    variables, (query, support) = initialize(model), inputs(model)
    rng_key = jax.random.key(1)

    @jax.jit
    def run():
        bound = model.bind(variables)
        memory = bound.write(rng_key, support)
        weights = bound.log_weights(rng_key, query, memory, 16)
        logits = bound.address_logits(rng_key, query, memory)
        return bound(rng_key, query, memory, train=True), weights, logits, memory.embeddings

    (objective, metrics), log_weights, posterior_logits, embeddings = run()
    np.testing.assert_allclose(objective, oracles.log_mean_exp(log_weights), rtol=1e-5)
    np.testing.assert_array_equal(metrics["nll"], -objective)
    prior_logits = oracles.similarity(
        variables["params"]["prior_query"], embeddings, "key_normalized"
    )
    kl = oracles.categorical_kl(posterior_logits, prior_logits)
    np.testing.assert_allclose(metrics["kl_address"], kl, rtol=1e-3, atol=1e-5)
    p = oracles.softmax(prior_logits)
    np.testing.assert_allclose(metrics["address_prior_entropy"], -np.sum(p * np.log(p)), rtol=1e-4)
    assert metrics["kl_latent"] >= 0


@pytest.mark.parametrize("fields", [{}, slow(num_filters=3), {"embedding": Encoder()}], ids=str)
def test_tied_embeddings_are_one_net_and_untied_ones_two(fields):
    tied, untied = (tiny(tied_embeddings=tied, **fields) for tied in (True, False))
    (one, other), (_, support) = (shapes(m)["params"] for m in (tied, untied)), inputs(tied)
    own = other.pop("query_embedding")
    assert one == other
    shared = (one["slot_embedding"], one.get("embedding", {}))  # a user's net is the model's own
    assert sizes(own) == sizes(shared)
    variables = initialize(tied)
    memory = apply(tied, variables, jax.random.key(0), support, method="write")
    for n in range(NUM_SLOTS):  # under the slot's norm, what equals the query is nearest
        logits = apply(
            tied, variables, jax.random.key(0), support[n], memory, method=address_logits
        )
        assert logits[n] == logits.max()
    assert np.ptp(logits) > 1e-5


def address_logits(model, rng_key, query, memory):
    return model.address_logits(rng_key, query, memory)


def sizes(tree):
    return sorted(leaf.shape for leaf in jax.tree.leaves(tree))


def test_first_values():
    """p(a) is nearly flat, slots have the size of a signal, or the one asked for."""
    for fields, scale in (({}, 1.0), ({"slot_scale": 0.1}, 0.1)):
        model = tiny(embedding_size=100, num_slots=10, slot_size=10, **fields)
        params = model.init(jax.random.key(0), method=lambda bound: bound.memory)["params"]
        np.testing.assert_allclose(np.std(params["prior_query"]), 0.01, rtol=0.3)
        np.testing.assert_allclose(np.std(params["memory"]), scale, rtol=0.3)


@pytest.mark.parametrize("fields", [{}, slow(num_filters=3)], ids=str)
def test_with_a_zero_output_every_slot_gives_the_same_image_at_first(fields):
    model = tiny(num_slots=4, zero_output=True, **fields)
    assert {tiny(**fields).zero_output, tiny(num_slots=4).zero_output} == {False}

    @jax.jit
    def images(rng_key):
        def generate(model):
            memory = model.write(rng_key)
            return jnp.stack([model.generate_at(rng_key, memory, n) for n in range(4)])

        return model.init_with_output(rng_key, method=generate)[0]

    np.testing.assert_array_equal(images(jax.random.key(0)), 0.5)


@pytest.mark.slow
def test_no_bound_below_the_log_of_the_number_of_distinct_images():
    """p(x|M) sums to 1 over x: averaged over distinct x, -log p(x|M) is at least log N.

    A model trained to recall one fixed memory comes close; a leak would take it below.
    """
    support = np.unpackbits(np.arange(1, 5, dtype=np.uint8)[:, None], axis=1)[:, 4:]
    support = support.reshape(4, 2, 2, 1).astype(np.float32)
    model = VMA((2, 2, 1), latent_size=1, hidden_sizes=(16, 16), embedding_size=16)
    optimizer = optax.adam(0.02)

    def bounds(variables, rng_key):
        rng_keys = jax.random.split(rng_key, len(support))
        memory = model.apply(variables, rng_key, support, method="write")
        one = functools.partial(model.apply, variables, memory=memory, train=True)
        return jax.vmap(one)(rng_keys, query=support)[0].mean()

    def step(carry, rng_key):
        variables, opt_state = carry
        nll, gradient = jax.value_and_grad(lambda v: -bounds(v, rng_key))(variables)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(variables, updates), opt_state), nll

    @jax.jit
    def train(variables):
        rng_keys = jax.random.split(jax.random.key(1), 2_000)
        carry = (variables, optimizer.init(variables))
        return jax.lax.scan(step, carry, rng_keys)[1]

    nll = np.asarray(train(initialize(model))[-500:], np.float64)
    assert np.log(4) - 4 * nll.std() / np.sqrt(len(nll)) <= nll.mean()
    assert nll.mean() < np.log(4) + 0.3  # it did learn: a leak would show


def test_a_batch_changes_nothing():
    model = tiny()
    variables, (_, support) = initialize(model), inputs(model)
    rng_keys, queries = jax.random.split(jax.random.key(0), 6), images(3, 6, *_DENSE)
    memory = apply(model, variables, rng_keys[0], support, method="write")
    one = functools.partial(apply, model, variables, method="__call__", train=True)
    batched = jax.vmap(lambda k, x: one(k, x, memory)[0])(rng_keys, queries)
    single = [one(k, x, memory)[0] for k, x in zip(rng_keys, queries, strict=True)]
    np.testing.assert_allclose(batched, single, rtol=1e-5)


@pytest.mark.parametrize("fields", [slow(num_filters=3), slow(num_filters=3, num_slots=3)], ids=str)
def test_every_parameter_learns(fields):
    assert_every_parameter_learns(tiny(**fields))


@pytest.mark.parametrize("fields", [{}, {"num_filters": 3}], ids=str)
def test_features_are_the_same_looked_up_before_or_after(fields, monkeypatch):
    model = tiny(**fields)
    variables, (query, support) = initialize(model), inputs(model)

    def weigh():
        rng_key = jax.random.key(0)
        memory = model.apply(variables, rng_key, support, method="write")
        weights = model.apply(variables, rng_key, query, memory, method="address_log_weights")
        return weights, memory

    few, memory = jax.jit(weigh)()
    assert memory.features is not None
    monkeypatch.setattr(vma, "_FEW_SLOTS", NUM_SLOTS - 1)
    many, memory = jax.jit(lambda: weigh())()
    assert memory.features is None
    np.testing.assert_allclose(few, many, rtol=1e-4)


def test_a_memory_of_one_slot_costs_no_address():
    model = tiny()
    variables, (query, support) = initialize(model), inputs(model)
    memory = apply(model, variables, jax.random.key(0), support[:1], method="write")
    objective, metrics = apply(
        model, variables, jax.random.key(0), query, memory, method="__call__", train=True
    )
    assert np.isfinite(objective) and metrics["kl_address"] == 0
    assert metrics["address_prior_entropy"] == 0


@pytest.mark.parametrize("num_slots", [0, 4])
def test_generated_and_explained_images(num_slots):
    model = tiny(num_slots=num_slots)
    variables, (query, support) = initialize(model), inputs(model)
    assert ("log_gain" in variables["params"]["nets"]) == (num_slots == 0)  # a path from images

    @jax.jit
    def draw(rng_key):
        bound = model.bind(variables)
        memory = bound.write(rng_key, None if num_slots else support)
        pictures = bound.explain(rng_key, query, memory)
        rng_keys = jax.random.split(rng_key, 8)
        slots = [jax.vmap(lambda k, n=n: bound.generate_at(k, memory, n))(rng_keys) for n in (0, 1)]
        return pictures | {"generated": bound.generate(rng_key, memory)}, slots

    pictures, slots = draw(jax.random.key(0))
    assert ("read slot" in pictures) == (num_slots == 0)
    for image in (*pictures.values(), *slots[0], *slots[1]):
        assert image.shape == _DENSE and np.all((image >= 0) & (image <= 1))
    if not num_slots:
        assert pictures["read slot"].tolist() in support.tolist()
    assert np.abs(slots[0] - slots[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_samples": 1}, "num_samples is 1; VIMCO needs at least 2"),
        ({"latent_size": 0}, "latent_size is 0; it must be at least 1"),
        ({"num_slots": -1}, "num_slots is -1"),
        ({"slot_scale": 0.0}, "slot_scale is 0.0; it must be above 0 and finite"),
        ({"slot_scale": float("nan")}, "slot_scale is nan; it must be above 0 and finite"),
        ({"num_slots": 4, "tied_embeddings": True}, "tied_embeddings needs num_slots 0"),
        (
            {"address_prior": "uniform"},
            "address_prior is 'uniform'; it must be 'learned' or 'flat'",
        ),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps is -1; it must not be negative"),
        ({"kl_warmup_start": -0.1}, "kl_warmup_start is -0.1; it must not be negative"),
        (
            {"kl_warmup_steps": 5, "latent_gradient": "dreg"},
            "latent_gradient is 'dreg'; with kl_warmup_steps it must be 'standard' or 'stl'",
        ),
        ({"similarity": "dot"}, "similarity is 'dot'; it must be one of key_normalized, inner"),
        ({"likelihood": "beta"}, "likelihood is 'beta'; it must be one of bernoulli, gaussian"),
        (
            {"num_filters": 3, "encoder": Encoder()},
            "num_filters is 3; beside an encoder or a decoder it must be 0",
        ),
    ],
)
def test_bad_fields_are_refused(fields, message):
    assert_refused(tiny(**fields), message)


def test_warm_up_scales_the_objective_and_not_the_metrics():
    model = tiny(kl_warmup_steps=2, kl_warmup_start=0.2, num_samples=3)
    plain = model.clone(kl_warmup_steps=0)
    (query, support), variables = inputs(model), initialize(plain)

    @jax.jit
    def step(variables, rng_key):
        memory = model.apply(variables, rng_key, support, method="write")
        return model.apply(variables, rng_key, query, memory, train=True, mutable=["schedule"])

    @jax.jit
    def joint(rng_key):
        bound = plain.bind(variables)
        memory = bound.write(rng_key, support)
        joint = bound._sample_joint(rng_key, query, memory, model.num_samples)
        return joint.samples.log_weights - joint.samples.log_likelihood, joint.log_weights

    state = variables | {"schedule": {"steps": np.zeros((), np.float32)}}
    for i, scale in enumerate((0.2, 0.6, 1.0, 1.0)):
        rng_key = jax.random.key(i)
        (objective, metrics), schedule = step(state, rng_key)
        log_ratio, weights = (np.float64(x) for x in joint(rng_key))
        assert np.std(log_ratio) > 0.1  # the test can tell
        scaled = weights + (scale - 1.0) * log_ratio
        np.testing.assert_allclose(objective, oracles.log_mean_exp(scaled), rtol=1e-5)
        np.testing.assert_allclose(metrics["nll"], -oracles.log_mean_exp(weights), rtol=1e-5)
        state = state | schedule


def test_images_too_small_for_the_pyramid_are_refused():
    model = tiny(num_filters=3).clone(image_shape=(4, 4, 1))
    assert_refused(model, "images are 4 x 4; the convolutions halve them 3 times")


def test_an_empty_memory_is_refused():
    assert_refused(tiny(), "the memory is empty", support=None)
