"""The contract of a model, what ours do beyond it, and a user's model that keeps to it."""

import ast
import dataclasses
import pathlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import models, nets
from memjax.errors import UserError
from memjax.models import contract
from tests import model_examples as every
from tests.models.common import assert_refused, one_query

_PROTOCOLS = {
    models.AddressesSlots: {"VMA otherwise", "VMA with learned slots and convolutions"},
    models.AddressesSupport: {"VMA", "VMA with convolutions", "VMA with a user's nets"},
    models.Encodes: {n for n in every.NAMES if "Machine" in n},
    models.HasFeatures: {"MemVAE", "MemVAE otherwise"},
    models.HasLayerSlots: {"MemVAE", "MemVAE otherwise"},
    models.HasLikelihood: set(every.NAMES),
    models.Model: set(every.NAMES),
    models.NormalizesBatch: {"MemVAE", "MemVAE otherwise"},
    models.ReadsByWeights: {n for n in every.NAMES if n.startswith("KanervaMachine")},
    models.WritesEpisodes: {n for n in every.NAMES if "Machine" in n},
}


class Mean(nn.Module):
    """A user's model: a Bernoulli for each pixel, by the memory's mean and a learned scale."""

    image_shape: Sequence[int]

    def setup(self):
        self.scale = self.param("scale", nn.initializers.ones, ())

    def write(self, rng_key, support):
        del rng_key
        return jnp.full(self.image_shape, 0.5) if support is None else jnp.mean(support, axis=0)

    def _log_prob(self, query, memory):
        logits = self.scale * (2.0 * memory - 1.0)
        return jnp.sum(query * logits - nn.softplus(logits))

    def __call__(self, rng_key, query, memory, *, train):
        del rng_key, train
        bound = self._log_prob(query, memory)
        return bound, {"nll": -bound, "reconstruction": -bound}

    def log_weights(self, rng_key, query, memory, num_samples):
        del rng_key
        return jnp.full(num_samples, self._log_prob(query, memory))

    def generate(self, rng_key, memory):
        del rng_key
        return nn.sigmoid(self.scale * (2.0 * memory - 1.0))

    def explain(self, rng_key, query, memory):
        return {"query": query, "reconstruction": self.generate(rng_key, memory)}


def test_every_protocol_is_public_and_has_its_models():
    public = {getattr(models, name) for name in models.__all__}
    protocols = {x for x in public if getattr(x, "_is_protocol", False)}
    assert protocols == set(_PROTOCOLS)
    assert contract.Images in public


@pytest.mark.parametrize("protocol", _PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_just_these_models_do(protocol):
    found = {name for name in every.NAMES if models.does(every.MODELS[name], protocol)}
    assert found == _PROTOCOLS[protocol]
    assert not models.does(object(), protocol)


def test_fields_say_what_a_model_does_not_do():
    """A learned memory holds nothing of the support; layers may be without slots."""
    vma, mem_vae = models.VMA((3, 3, 1)), models.MemVAE((3, 3, 1))
    assert models.does(vma, models.AddressesSupport)
    assert not models.does(vma.clone(num_slots=4), models.AddressesSupport)
    assert not models.does(vma, models.AddressesSlots)
    assert models.does(vma.clone(num_slots=4), models.AddressesSlots)
    assert models.does(mem_vae, models.HasLayerSlots)
    assert models.does(mem_vae.clone(num_slots=(0, 2)), models.HasLayerSlots)
    plain = mem_vae.clone(num_slots=(0, 0))
    assert not models.does(plain, models.HasLayerSlots)
    for protocol in (models.Model, models.HasFeatures, models.NormalizesBatch):
        assert models.does(plain, protocol)


def test_a_users_model_keeps_to_the_contract():
    model = Mean(every._SHAPE)
    assert isinstance(model, models.Model) and not models.missing_methods(model)
    assert not any(models.does(model, p) for p in _PROTOCOLS if p is not models.Model)
    query, support = every.inputs()
    rng_key = jax.random.key(0)
    start = jax.jit(lambda *given: model.init_with_output(rng_key, *given, method=one_query)[0])
    bound, metrics = start(rng_key, query, support)
    assert bound == -metrics["nll"] < 0


def test_what_a_class_lacks_is_named():
    class Half(nn.Module):
        image_shape: Sequence[int] = (3, 3, 1)

        def write(self, rng_key, support):
            return None

        def generate(self, rng_key, memory):
            return None

    assert models.missing_methods(Half()) == ["__call__", "log_weights", "explain"]
    assert not isinstance(Half(), models.Model)


_SLOW_TO_WRITE = (*every.SLOW, "KanervaMachine otherwise")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in _SLOW_TO_WRITE)) for n in every.NAMES],
)
def test_write_of_nothing_is_the_prior_memory_or_the_learned_one_or_refused(name):
    model, (_, support), rng_key = every.MODELS[name], every.inputs(), jax.random.key(0)
    bound = model.bind(jax.tree.map(jnp.asarray, every.initial(model)))

    def shapes(support):
        return jax.eval_shape(lambda: bound.write(rng_key, support))

    if isinstance(model, models.SoftMemory) or models.does(model, models.AddressesSupport):
        with pytest.raises(UserError, match="has no support: the memory is empty"):
            shapes(None)
        return
    # Of one form, so that a step compiles for either.
    assert shapes(None) == shapes(support)
    if isinstance(model, models.WritesEpisodes):
        memory = jax.jit(lambda: (bound.write(rng_key, None), bound.memory_prior()))()
        jax.tree.map(np.testing.assert_array_equal, *memory)
    elif isinstance(model, models.VMA):
        write = jax.jit(lambda: bound.write(rng_key, None))
        np.testing.assert_array_equal(write().contents, bound.memory)
    else:
        assert bound.write(rng_key, None) is None and bound.write(rng_key, support) is None


def trees():
    folder = pathlib.Path(models.__path__[0])
    return [(path.name, ast.parse(path.read_text())) for path in sorted(folder.glob("*.py"))]


def test_no_model_draws_from_a_key_of_its_own():
    """Nor from one of the module's: all randomness is the caller's."""
    refused = ("key", "PRNGKey", "make_rng", "wrap_key_data")
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func).split(".")
                hidden = function[-1] in refused and function[0] in ("jax", "self", function[-1])
                # The Kanerva Machine's net that makes a lookup key.
                assert not hidden or function == ["self", "key"], (name, ast.unparse(node))


def test_no_model_knows_the_names_of_the_loops_axes():
    for name in every.NAMES:
        cls = type(every.MODELS[name])
        for field in dataclasses.fields(cls):
            if "ax" in field.name:
                assert not field.default, f"{name}.{field.name} is {field.default!r}"
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for word in [k.value for k in node.keywords if k.arg == "axis_name"]:
                    assert not isinstance(word, ast.Constant), (name, ast.unparse(node))
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("jax.lax.p"):
                assert not isinstance(node.args[1], ast.Constant), (name, ast.unparse(node))


def test_an_unknown_likelihood_is_refused_by_every_model_that_has_one():
    assert nets.distributions.IMAGE_LIKELIHOODS == ("bernoulli", "gaussian")
    for model in {type(every.MODELS[name]): every.MODELS[name] for name in every.NAMES}.values():
        model = model.clone(likelihood="beta")
        assert_refused(model, "^likelihood is 'beta'; it must be one of bernoulli, gaussian$")
