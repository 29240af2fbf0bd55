"""Models as a user would write them: a memory of images whose pixels are flipped by chance."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class Flips(nn.Module):
    """p(x|M) = mean over slots of the product over pixels of p(x|m), 0.95 where they are alike.

    Keeps to `memjax.models.Model` and to nothing else. Without a support the slots are an image
    of 0 and one of 1.
    """

    image_shape: Sequence[int]

    def setup(self):
        self.logit = self.param("logit", nn.initializers.constant(jnp.log(0.95 / 0.05)), ())

    def write(self, rng_key, support):
        flat = jnp.arange(2.0)[:, None, None, None] * jnp.ones(self.image_shape)
        return flat if support is None else support

    def __call__(self, rng_key, query, memory, *, train):
        nll = -jax.nn.logsumexp(self.log_joint(query, memory))
        return -nll, {"nll": nll}

    def log_weights(self, rng_key, query, memory, num_samples):
        return jnp.full(num_samples, jax.nn.logsumexp(self.log_joint(query, memory)))

    def generate(self, rng_key, memory):
        slot_rng_key, flip_rng_key = jax.random.split(rng_key)
        image = memory[jax.random.randint(slot_rng_key, (), 0, len(memory))]
        flips = jax.random.bernoulli(flip_rng_key, jax.nn.sigmoid(-self.logit), image.shape)
        return jnp.where(flips, 1.0 - image, image)

    def explain(self, rng_key, query, memory):
        return {"query": query, "reconstruction": memory[jnp.argmax(self.log_joint(query, memory))]}

    def log_joint(self, query, memory):
        alike = jax.nn.log_sigmoid(jnp.where(memory == query, self.logit, -self.logit))
        return jnp.sum(alike, axis=(1, 2, 3)) - jnp.log(len(memory))


class AddressedFlips(Flips):
    """Addresses its support too, by the exact posterior."""

    addresses_support: bool = True

    def address_logits(self, rng_key, query, memory):
        return self.log_joint(query, memory)

    def address_log_weights(self, rng_key, query, memory):
        return self.log_joint(query, memory)

    def generate_at(self, rng_key, memory, address):
        return memory[address]
