import functools

import jax
import numpy as np
import pytest

from memjax.nets import LearnedSlotNets, distributions

pytestmark = pytest.mark.usefixtures("strict_ranks")

_SHAPE = (5, 7, 1)
_NETS = LearnedSlotNets(_SHAPE, 2, 3, (6, 4))


def given():
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in ((4, 5), _SHAPE, (4, 2)))


def all_parts(nets, vectors, query, latent):
    features = nets.vector_features(vectors)
    priors, posteriors = nets.prior(features), nets.posterior(features, query)
    return priors.mean, posteriors.mean, posteriors.variance, nets.decode(features, latent)


@functools.cache
def begin():
    return jax.jit(lambda *xs: _NETS.init_with_output(*xs, method=all_parts))(
        jax.random.key(0), *given()
    )


def test_slots_begin_alike_but_for_the_prior():
    vectors, query, latent = given()
    _, variables = begin()
    same = np.broadcast_to(latent[:1], latent.shape)
    parts = jax.jit(lambda v: _NETS.apply(v, vectors, query, same, method=all_parts))
    priors, *others = parts(variables)
    assert np.std(priors, axis=0).min() > 1e-3
    for found in others:
        np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), rtol=1e-5)


def test_at_first_images_are_those_of_the_latents():
    *_, decoded = begin()[0]
    assert decoded.shape == (4, *_SHAPE) and np.std(decoded, axis=0).max() > 0.01


@pytest.mark.parametrize("net", ["slot_pixels", "latent_shift"])
def test_what_a_slot_has_to_say_is_added(net):
    vectors, query, latent = given()
    before, variables = begin()
    variables = jax.tree.map(lambda leaf: leaf, variables)
    output = variables["params"][net]["output"]
    output["kernel"] = jax.random.normal(jax.random.key(1), output["kernel"].shape)

    @jax.jit
    def found(variables):
        bound = _NETS.bind(variables)
        encoded = bound.encoder(query)
        seen = (vectors,) if net == "slot_pixels" else (encoded, vectors)
        return all_parts(bound, vectors, query, latent), getattr(bound, net)(*seen), encoded

    after, added, encoded = found(variables)
    expected = list(before)
    if net == "slot_pixels":
        expected[3] = before[3] + added.reshape(4, *_SHAPE)
    else:
        posteriors = distributions.diagonal_normal(encoded[None] + added)
        expected[1:3] = posteriors.mean, posteriors.variance
    assert np.std(added, axis=0).min() > 1e-3
    for one, other in zip(after, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
