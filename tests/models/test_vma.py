"""VMA against the enumeration of its addresses and the quadrature of its one-dimensional latent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.models import build
from memjax.models.vma import VMA
from memjax.nets import image_to_vector
from tests import oracles

_SHAPE = (3, 3, 1)
_SLOTS = 5
_GRID = np.linspace(-8, 8, 2001)  # of the latent: a Riemann sum of smooth, decaying functions


def tiny(**overrides):
    fields = {"latent_size": 1, "hidden_sizes": (6, 4), "embedding_size": 3, "slot_size": 3}
    fields |= overrides
    return VMA(_SHAPE, **fields)


def images(seed, count):
    return np.random.default_rng(seed).integers(0, 2, (count, *_SHAPE)).astype(np.float32)


def initialize(model, seed=0):
    rng_key = jax.random.key(seed)

    @jax.jit
    def init():
        params = model.init(rng_key, rng_key, images(0, 1)[0], images(1, _SLOTS), train=True)
        # Every path matters: biases begin at zero, prior queries near it.
        return jax.tree.map(lambda p: p + 0.5 * jax.random.normal(rng_key, p.shape), params)

    return init()


def exact_log_likelihood(model, params, query, support):
    """log p(x|M) = log sum_a p(a) integral p(z|m_a) p(x|z, m_a) dz; VMA eq. 1."""
    bound = model.bind(params)
    contents = np.asarray(bound.memory if model.num_slots else image_to_vector(support))
    embeddings = bound.slot_embedding(contents)
    if model.address_prior == "flat":
        prior = np.full(len(contents), 1 / len(contents))
    else:
        scores = oracles.similarity(bound.prior_query, embeddings, model.similarity)
        prior = oracles.softmax(scores)
    total = 0.0
    for slot, slot_prior in zip(contents, prior, strict=True):
        loc, log_scale = np.asarray(bound.latent_prior(slot), np.float64)
        density = scipy.stats.norm(loc, np.exp(7 * np.tanh(log_scale / 7))).pdf(_GRID)
        logits = np.asarray(bound.decoder(slot, _GRID[:, None].astype(np.float32)), np.float64)
        if not model.num_slots:
            gain = np.exp(np.asarray(params["params"]["log_gain"], np.float64))
            logits = logits + gain * (2 * slot - 1)
        probs = scipy.special.expit(logits)
        likelihood = np.prod(np.where(query.reshape(-1) == 1, probs, 1 - probs), axis=1)
        total += slot_prior * np.sum(density * likelihood) * (_GRID[1] - _GRID[0])
    return np.log(total)


@pytest.mark.parametrize(
    ("similarity", "address_prior", "num_slots"),
    [
        ("key_normalized", "learned", 0),
        pytest.param("cosine", "flat", 0, marks=pytest.mark.slow),
        pytest.param("inner", "learned", 1, marks=pytest.mark.slow),
        ("key_normalized", "learned", 4),
    ],
)
def test_importance_weights_average_to_the_exact_likelihood(similarity, address_prior, num_slots):
    model = tiny(similarity=similarity, address_prior=address_prior, num_slots=num_slots)
    params, query, support = initialize(model), images(2, 1)[0], images(1, _SLOTS)
    log_weights = jax.jit(model.apply, static_argnames=("method", "num_samples"))(
        params, jax.random.key(3), query, support, num_samples=100_000, method="log_weights"
    )
    weights = np.exp(np.asarray(log_weights, np.float64))
    exact = np.exp(exact_log_likelihood(model, params, query, support))
    assert abs(weights.mean() - exact) < 5 * weights.std() / np.sqrt(len(weights))
    assert weights.std() / np.sqrt(len(weights)) < 0.1 * exact  # the test can tell


def test_the_bound_rises_with_samples_towards_the_likelihood():
    support, query = images(1, _SLOTS), images(2, 1)[0]
    bounds = []
    params = initialize(tiny())
    for num_samples in (2, 16):
        model = tiny(num_samples=num_samples)
        rng_keys = jax.random.split(jax.random.key(0), 3_000)
        objective, _ = jax.jit(
            jax.vmap(lambda k, m=model: m.apply(params, k, query, support, train=True))
        )(rng_keys)
        bounds.append(objective.mean())
    assert bounds[0] < bounds[1]
    assert bounds[1] < exact_log_likelihood(model, params, query, support) + 0.01


def test_tied_embeddings_find_the_slot_that_equals_the_query():
    model = tiny(tied_embeddings=True, embedding_size=8)
    params, support = initialize(model), images(1, 4)
    assert "query_embedding" not in params["params"]
    for n, query in enumerate(support):
        logits = model.apply(params, jax.random.key(0), query, support, method="address_logits")
        assert logits[n] == logits.max()


@pytest.mark.parametrize("num_slots", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_no_bound_below_the_log_of_the_number_of_distinct_images(num_slots):
    """p(x|M) sums to 1 over x: averaged over distinct x, -log p(x|M) is at least log N.

    A model trained to recall one fixed memory comes close; a leak would take it below.
    """
    patterns = np.unpackbits(np.arange(1, num_slots + 1, dtype=np.uint8)[:, None], axis=1)
    support = np.concatenate([patterns, patterns[:, :1]], axis=1).reshape(num_slots, *_SHAPE)
    support = support.astype(np.float32)
    model = tiny(hidden_sizes=(16, 16), embedding_size=16)
    params = model.init(jax.random.key(0), jax.random.key(0), support[0], support, train=True)
    optimizer = optax.adam(0.02)

    def bounds(params, rng_key):
        rng_keys = jax.random.split(rng_key, num_slots)
        return jax.vmap(lambda k, x: model.apply(params, k, x, support, train=True)[0])(
            rng_keys, support
        )

    def step(carry, rng_key):
        params, opt_state = carry
        grads = jax.grad(lambda p: -bounds(p, rng_key).mean())(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    carry = (params, optimizer.init(params))
    rng_keys = jax.random.split(jax.random.key(1), 3_000)
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, rng_keys))(carry)
    rng_keys = jax.random.split(jax.random.key(2), 2_000)
    nll = -np.asarray(jax.jit(jax.vmap(lambda k: bounds(params, k).mean()))(rng_keys))
    standard_error = nll.std() / np.sqrt(len(nll))
    assert nll.mean() >= np.log(num_slots) - 4 * standard_error
    assert nll.mean() < np.log(num_slots) + 0.3  # it did learn: a leak would show
    exact = [exact_log_likelihood(model, params, x, support) for x in support]
    assert -np.mean(exact) >= np.log(num_slots) - 1e-4


def test_metrics_are_kl_divergences_and_entropies():
    model = tiny()
    params, query, support = initialize(model), images(2, 1)[0], images(1, _SLOTS)
    _, metrics = model.apply(params, jax.random.key(0), query, support, train=True)
    bound = model.bind(params)
    embeddings = bound.slot_embedding(image_to_vector(support))
    posterior = oracles.similarity(
        bound.query_embedding(query.reshape(-1)), embeddings, "key_normalized"
    )
    prior = oracles.similarity(bound.prior_query, embeddings, "key_normalized")
    expected = oracles.categorical_kl(posterior, prior)
    np.testing.assert_allclose(metrics["kl_address"], expected, rtol=1e-3, atol=1e-5)
    p = oracles.softmax(prior)
    np.testing.assert_allclose(metrics["address_prior_entropy"], -np.sum(p * np.log(p)), rtol=1e-4)
    assert metrics["kl_latent"] >= 0


def test_every_parameter_learns_and_vmap_changes_nothing():
    for num_slots in (0, 4):
        model = tiny(num_slots=num_slots)
        params, support, queries = initialize(model), images(1, _SLOTS), images(2, 6)
        rng_keys = jax.random.split(jax.random.key(0), 6)

        def objective(params, rng_key, query, model=model, support=support):
            return model.apply(params, rng_key, query, support, train=True)[0]

        gradient = jax.grad(objective)
        batched = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))(params, rng_keys, queries)
        for i in (0, 5) if num_slots == 0 else ():
            single = jax.jit(gradient)(params, rng_keys[i], queries[i])
            for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(batched), strict=True):
                np.testing.assert_allclose(a, b[i], rtol=2e-3, atol=2e-4)
        for path, leaf in jax.tree_util.tree_leaves_with_path(batched):
            assert np.any(leaf != 0), jax.tree_util.keystr(path)


def test_generated_and_explained_images():
    for num_slots in (0, 4):
        model = tiny(num_slots=num_slots)
        params, query, support = initialize(model), images(2, 1)[0], images(1, _SLOTS)
        generated = model.apply(params, jax.random.key(0), support, method="generate")
        pictures = model.apply(params, jax.random.key(0), query, support, method="explain")
        assert ("read slot" in pictures) == (num_slots == 0)
        for image in [generated, *pictures.values()]:
            assert image.shape == _SHAPE and jnp.all((image >= 0) & (image <= 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_samples": 1}, "num_samples is 1; VIMCO needs at least 2"),
        ({"num_slots": -1}, "num_slots is -1"),
        ({"num_slots": 4, "tied_embeddings": True}, "tied_embeddings needs num_slots 0"),
        (
            {"address_prior": "uniform"},
            "address_prior is 'uniform'; it must be 'learned' or 'flat'",
        ),
        ({"similarity": "dot"}, "similarity is 'dot'; it must be one of key_normalized, inner"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        initialize(tiny(**fields))


def test_an_empty_memory_is_refused():
    model = tiny()
    with pytest.raises(UserError, match="the memory is empty"):
        model.init(jax.random.key(0), jax.random.key(0), images(0, 1)[0], None, train=True)


def test_models_are_built_by_name():
    model = build("vma.VMA", _SHAPE, hidden_sizes=[8, 4])
    assert model == VMA(_SHAPE, hidden_sizes=(8, 4))
    for name in ("vma", "vma.", "vma.VAE", "nothing.VMA", ""):
        with pytest.raises(UserError, match=r"it must be 'file\.Class' of memjax\.models"):
            build(name, _SHAPE)
    with pytest.raises(UserError, match=r"model vma\.VMA: .*'slots'"):
        build("vma.VMA", _SHAPE, slots=3)
