"""Objectives and their gradients stay finite on inputs and parameters at the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import models

_SHAPE = (5, 5, 1)
_FIELDS = {
    "vae.VAE": {"hidden_sizes": (4,), "latent_size": 2},
    "vma.VMA": {"hidden_sizes": (4,), "latent_size": 2, "embedding_size": 3},
    "mem_vae.MemVAE": {"hidden_sizes": (4, 3), "latent_size": 2, "num_slots": (3, 2)},
    "kanerva_machine.KanervaMachine": {
        **{"num_filters": 0, "hidden_sizes": (4,), "code_size": 3, "address_size": 2},
        **{"address_latent_size": 2, "mlp_size": 3, "num_slots": 4},
    },
    "soft_memory.SoftMemory": {"num_filters": 2, "hidden_sizes": (4,), "latent_size": 2},
    "dnc_machine.DNCMachine": {
        **{"num_filters": 0, "hidden_sizes": (4,), "code_size": 3, "mlp_size": 3},
        **{"address_latent_size": 2, "num_slots": 4},
    },
}
_SLOW = ("mem_vae.MemVAE", "soft_memory.SoftMemory", "dnc_machine.DNCMachine")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in _SLOW)) for n in _FIELDS]
)
def test_objective_and_gradient_are_finite(name):
    model = models.build(name, _SHAPE, **_FIELDS[name])
    episodic = "machine" in name
    noise = np.random.default_rng(0).integers(0, 2, (5, *_SHAPE)).astype(np.float32)
    images = {
        "noise": noise,
        "black": np.zeros_like(noise),
        "white": np.ones_like(noise),
        "identical": np.broadcast_to(noise[:1], noise.shape),
    }
    rng_key = jax.random.key(0)
    inputs = {k: (v if episodic else v[0], None if episodic else v) for k, v in images.items()}
    variables = jax.jit(lambda *x: model.init(rng_key, rng_key, *x, train=False))(*inputs["noise"])

    @jax.jit
    def gradient(params, query, support):
        def objective(params):
            others = {k: v for k, v in variables.items() if k != "params"}

            def one(query):
                inputs = {"params": params, **others}, rng_key, query, support
                return model.apply(*inputs, train=True, mutable=[*others])[0]

            both = jnp.stack([query, query])  # a batch, for its statistics
            batch = jax.vmap(jax.vmap(one, axis_name="batch"), axis_name="devices")
            return jax.tree.map(jnp.mean, batch(both[None]))

        return jax.value_and_grad(objective, has_aux=True)(params)

    # Saturated: logits of thousands, and one address that takes all. Of the Kanerva Machine the
    # decoder's only: weights of a thousand have no posterior in float32 where writes outnumber
    # slots.
    for scale in (0.0, 1.0, 10.0, 100.0)[: 3 if name.startswith("soft") else 4]:
        params = dict(variables["params"])
        scaled = {"decoder": params["decoder"]} if name.startswith("kanerva") else params
        params |= jax.tree.map(lambda leaf, s=scale: s * leaf, scaled)
        for kind, (query, support) in inputs.items():
            (value, metrics), gradients = gradient(params, query, support)
            for leaf in jax.tree.leaves((value, metrics, gradients)):
                assert jnp.all(jnp.isfinite(leaf)), (kind, scale, metrics)
