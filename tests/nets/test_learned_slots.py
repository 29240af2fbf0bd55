import functools

import jax
import numpy as np
import pytest

from memjax.nets import LearnedSlotNets

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
def begin(nets=_NETS):
    return jax.jit(lambda *xs: nets.init_with_output(*xs, method=all_parts))(
        jax.random.key(0), *given()
    )


def test_slots_begin_alike_but_for_the_prior():
    (priors, *posteriors, decoded), _ = begin()
    assert np.std(priors, axis=0).min() > 1e-3
    for found in posteriors:  # of one query
        np.testing.assert_array_equal(found, np.broadcast_to(found[:1], found.shape))
    assert decoded.shape == (4, *_SHAPE) and np.std(decoded, axis=0).max() > 0.01  # by their z
    (*_, decoded), _ = begin(_NETS.clone(zero_output=True))
    assert not decoded.any()


@pytest.mark.parametrize("net", ["slot_pixels", "latent_shift"])
def test_what_a_slot_has_to_say_is_added(net):
    vectors, query, latent = given()
    before, variables = begin()
    variables = jax.tree.map(lambda leaf: leaf, variables)
    output = variables["params"][net]["output"]
    output["kernel"] = np.ones_like(output["kernel"])

    @jax.jit
    def found(variables):
        bound = _NETS.bind(variables)
        seen = (vectors,) if net == "slot_pixels" else (bound.encoder(query), vectors)
        return all_parts(bound, vectors, query, latent), getattr(bound, net)(*seen)

    after, added = found(variables)
    before, after = ([*x[:2], x[3]] for x in (before, after))
    place = 2 if net == "slot_pixels" else 1
    added = added.reshape(4, *_SHAPE) if net == "slot_pixels" else added[:, :2]
    assert np.std(added, axis=0).min() > 1e-3
    before[place] = before[place] + added
    for one, other in zip(after, before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
