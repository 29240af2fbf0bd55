"""A VAE that reads the support by soft attention: the baseline of VMA section 4.2.

Attention may not look at the datum that is generated, so z comes first and asks the memory:
p(z), p(x|z, m(z)), q(z|x). Source: Bornschein et al., Variational Memory Addressing in Generative
Models, 2017 (VMA below).
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.memory import addressing
from memjax.nets import (
    MLP,
    ConditionalNets,
    ImageLikelihood,
    PyramidEncoder,
    add_uniform_noise,
    as_floats,
    distributions,
)


class Joint(NamedTuple):
    """L posterior samples of z for one query, and the terms of the bound."""

    log_likelihood: chex.Array  # [L], log p(x|z, M)
    log_weights: chex.Array  # [L]
    kl_latent: chex.Array  # scalar, KL(q(z|x) || p(z))


class Slots(NamedTuple):
    """What the memory holds."""

    images: chex.Array  # [N, H, W, C]
    embeddings: chex.Array  # [N, E]


class SoftMemory(nn.Module):
    """p(x|M) = integral p(z) p(x|z, m(z)) dz with m(z) = sum_a w_a(z) m_a; VMA section 4.2.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      hidden_sizes: units of the hidden layers of every MLP.
      num_filters: of every convolution.
      embedding_size: E, of the matching space.
      similarity: one of `addressing.KINDS`; the weights are its softmax.
      likelihood: "bernoulli", or "gaussian", see `ImageLikelihood`.
      num_samples: L in training.
    """

    image_shape: Sequence[int]
    latent_size: int = 64
    hidden_sizes: Sequence[int] = (128,)
    num_filters: int = 64
    embedding_size: int = 128
    similarity: str = "key_normalized"
    likelihood: str = "bernoulli"
    num_samples: int = 1

    def setup(self):
        """Names the parameters; checks what the config says."""
        _check(self)
        self.slot_embedding = PyramidEncoder(
            self.embedding_size, self.num_filters, self.hidden_sizes
        )
        self.latent_embedding = MLP(self.hidden_sizes, self.embedding_size)
        self.encoder = PyramidEncoder(2 * self.latent_size, self.num_filters, self.hidden_sizes)
        self.nets = ConditionalNets(
            self.image_shape, self.latent_size, self.num_filters, self.hidden_sizes
        )
        self.pixels = ImageLikelihood(self.likelihood)

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> Slots:
        """The support `[N, H, W, C]` and its embeddings.

        Raises:
          UserError: there is none.
        """
        del rng_key
        if support is None:
            raise UserError("the episode has no support: the memory is empty")
        support = as_floats("support", support)
        return Slots(support, self.slot_embedding(support))

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Slots, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The multi-sample bound for one query `[H, W, C]`, and metrics in nats."""
        query = as_floats("query", query)
        if train and self.likelihood == "gaussian":
            noise_rng_key, rng_key = jax.random.split(rng_key)
            query = add_uniform_noise(noise_rng_key, query)
        joint = self._sample_joint(rng_key, query, memory, self.num_samples)
        objective = estimators.iwae(joint.log_weights)
        metrics = {
            "nll": -objective,
            "reconstruction": -jnp.mean(joint.log_likelihood),
            "kl_latent": joint.kl_latent,
        }
        return objective, metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Slots, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x|M) of one query `[H, W, C]`, in nats: `[L]`."""
        return self._sample_joint(rng_key, query, memory, num_samples).log_weights

    def generate(self, rng_key: chex.PRNGKey, memory: Slots) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|z, M) for z drawn from the prior."""
        return self._decode(distributions.draw(rng_key, self._prior(memory)), memory).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Slots
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        query = as_floats("query", query)
        latent = distributions.draw(rng_key, self._posterior(query, memory))
        return {
            "query": query,
            "read mixture": self._read(latent, memory)[0],
            "reconstruction": self._decode(latent, memory).mean,
        }

    def _sample_joint(self, rng_key, query, slots, num_samples) -> Joint:
        query = as_floats("query", query)
        prior, posterior = self._prior(slots), self._posterior(query, slots)
        priors, posteriors = (distributions.repeat(d, num_samples) for d in (prior, posterior))
        latent = distributions.draw(rng_key, posteriors)
        log_likelihood = self._decode(latent, slots).log_prob(query[None])
        return Joint(
            log_likelihood=log_likelihood,
            log_weights=log_likelihood + priors.log_prob(latent) - posteriors.log_prob(latent),
            kl_latent=dist.kl_divergence(posterior, prior),
        )

    # What a model that asks in another way has for itself: see `matching_network`.

    def _prior(self, slots: Slots) -> dist.Distribution:
        del slots
        return distributions.standard_normal(self.latent_size)

    def _posterior(self, query: chex.Array, slots: Slots) -> dist.Distribution:
        del slots
        return distributions.diagonal_normal(self.encoder(query))

    def _ask(self, question: chex.Array, slots: Slots) -> tuple[chex.Array, Sequence[chex.Array]]:
        """For questions `[..., E]`, the mixed image m `[..., H, W, C]`, and any other context."""
        return jnp.tensordot(self._weights(question, slots), slots.images, 1), ()

    def _read(self, latent: chex.Array, slots: Slots) -> tuple[chex.Array, Sequence[chex.Array]]:
        """What z `[..., D]` asks for."""
        return self._ask(self.latent_embedding(latent), slots)

    def _decode(self, latent: chex.Array, slots: Slots) -> dist.Distribution:
        mixture, context = self._read(latent, slots)
        return self.pixels(self.nets.decode(self.nets.image_features(mixture), latent, *context))

    def _weights(self, question: chex.Array, slots: Slots) -> chex.Array:
        """How much of each slot is read, `[..., N]`, for questions `[..., E]`."""
        return jax.nn.softmax(addressing.similarity(question, slots.embeddings, self.similarity))


def _check(model: SoftMemory) -> None:
    check_at_least_one(num_samples=model.num_samples)
    check_one_of("similarity", model.similarity, addressing.KINDS)
