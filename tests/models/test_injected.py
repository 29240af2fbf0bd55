"""A user's nets inside our models; they see one leading axis."""

import functools
import operator
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from memjax.models import VAE, VMA, DNCMachine, KanervaMachine, MemVAE
from tests.model_examples import Encoder
from tests.models.common import (
    apply,
    assert_every_parameter_learns,
    assert_refused,
    initialize,
    inputs,
    shapes,
)

_SHAPE = (3, 3, 1)
_EPISODIC = {"num_slots": 3, "code_size": 2, "address_size": 2, "address_latent_size": 2}
_EPISODIC |= {"mlp_size": 3, "num_filters": 0, "hidden_sizes": (4, 3)}
_MEM_VAE = {"hidden_sizes": (4, 3), "latent_size": 2, "num_slots": (2, 2)}
_SMALL = {"latent_size": 2, "hidden_sizes": (4, 3)}
_VMA = _SMALL | {"embedding_size": 3}
_MODELS = {
    "VAE": functools.partial(VAE, _SHAPE, **_SMALL),
    "VMA": functools.partial(VMA, _SHAPE, **_VMA),
    "VMA with slots": functools.partial(VMA, _SHAPE, num_slots=3, slot_size=2, **_VMA),
    "KanervaMachine": functools.partial(KanervaMachine, _SHAPE, **_EPISODIC),
    "MemVAE": functools.partial(MemVAE, _SHAPE, **_MEM_VAE),
}
_FIELDS = [
    (name, field)
    for name in _MODELS
    for field in ("encoder", "decoder", *["embedding"] * name.startswith("VMA"))
    if (name, field) != ("VMA with slots", "encoder")
]


class Decoder(nn.Module):
    """A user's net; what it gives for a datum has any shape."""

    shape: tuple[int, ...] = _SHAPE

    @nn.compact
    def __call__(self, inputs):
        assert inputs.ndim in (2, 4)
        hidden = nn.Dense(int(np.prod(self.shape)))(inputs.reshape(inputs.shape[0], -1))
        return hidden.reshape(inputs.shape[0], *self.shape)


def own_nets(field):
    return {field: Decoder() if field == "decoder" else Encoder()}


@pytest.mark.parametrize("name", _MODELS)
def test_nets_that_know_one_leading_axis_are_taken(name):
    """In writing, asking, weighing by many samples and generating; under `vmap` too."""
    own = functools.reduce(operator.or_, (own_nets(field) for n, field in _FIELDS if n == name))
    plain, model = _MODELS[name](), _MODELS[name](**own)
    query, support = inputs(model)

    def run(model, rng_key):
        memory = model.write(rng_key, support)
        given = rng_key, query, memory
        found = model(*given, train=True), model.log_weights(*given, 5), model.explain(*given)
        return found, model.generate(rng_key, memory)

    def shapes_of(model):
        one = functools.partial(model.init_with_output, jax.random.key(0), method=run)
        return jax.eval_shape(jax.vmap(one), jax.random.split(jax.random.key(0), 2))

    found, variables = shapes_of(model)
    assert found == shapes_of(plain)[0]
    assert all(variables["params"][field].keys() == {"Dense_0"} for field in own)


@pytest.mark.parametrize(("name", "field"), _FIELDS)
def test_outputs_of_a_wrong_shape_are_refused_in_one_line(name, field):
    wrong = [(9,), (3, 3), (3, 4, 1)] if field == "decoder" else [(), (2, 2)]
    given, wanted = (
        ("a code", f"an image {list(_SHAPE)}") if field == "decoder" else ("an image", "a vector")
    )
    for shape in wrong:
        message = f"{field} gives {list(shape)} for {given}; it must give {wanted}"
        assert_refused(_MODELS[name](**{field: Decoder(shape)}), f"^{re.escape(message)}$")


def test_nets_stand_in_every_subclass_of_a_frame():
    own = own_nets("encoder") | own_nets("decoder")
    sizes = {"num_slots": 3, "code_size": 2, "address_latent_size": 2, "controller_size": 3}
    found = shapes(DNCMachine(_SHAPE, mlp_size=3, **sizes, **own))["params"]
    assert found["encoder"].keys() == found["decoder"].keys() == {"Dense_0"}


def test_queries_and_slots_share_an_encoder_but_no_untied_embedding():
    own = {"encoder": Encoder(), "embedding": Encoder()}
    for tied in (False, True):
        params = initialize(_MODELS["VMA"](tied_embeddings=tied, **own))["params"]
        nets = [params["encoder"], params["embedding"]]  # once each: of the query and of a slot
        nets += [] if tied else [params["query_embedding"]["net"]]
        assert all(net["Dense_0"]["kernel"].shape == (9, 3) for net in nets)
        count = sum(leaf.shape == (9, 3) for leaf in jax.tree.leaves(params))
        assert count == len(nets) and ("query_embedding" in params) != tied


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE", "KanervaMachine"])
def test_every_parameter_of_a_users_net_learns(name):
    """VMA's do in `test_every_model`, MemVAE's in `test_mem_vae`."""
    assert_every_parameter_learns(_MODELS[name](**own_nets("encoder") | own_nets("decoder")))


def test_what_a_net_gives_is_what_the_model_sees():
    """An encoder that hides the image leaves nothing of it in q(z|x)."""

    class Blind(nn.Module):
        @nn.compact
        def __call__(self, images):
            return 0.0 * images.reshape(images.shape[0], -1)

    model = _MODELS["VAE"](encoder=Blind())
    variables, (query, _) = initialize(model), inputs(model)
    options = {"method": "__call__", "train": False}
    kls = [
        apply(model, variables, jax.random.key(0), x, **options)[1]["kl_latent"]
        for x in (query, 1 - query)
    ]
    assert kls[0] == kls[1] > 0
