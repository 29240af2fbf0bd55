"""Variational Memory Addressing: one sampled slot, then a conditional VAE on what it holds.

Source: Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.memory import addressing
from memjax.nets import MLP, as_floats, distributions, image_to_vector


class AtAddresses(NamedTuple):
    """One posterior sample of z at each of several addresses, for one query."""

    log_likelihood: chex.Array  # [L], log p(x|m_a, z)
    log_weights: chex.Array  # [L], log p(x, z|m_a) - log q(z|m_a, x)
    kl_latent: chex.Array  # [L], KL(q(z|m_a, x) || p(z|m_a))


class Joint(NamedTuple):
    """L posterior samples of (a, z) for one query, and the terms of the bound; VMA eqs. 2-3."""

    samples: AtAddresses
    log_weights: chex.Array  # [L]
    address_log_probs: chex.Array  # [L], log q(a|x)
    kl_address: chex.Array  # scalar, KL(q(a|x) || p(a))
    address_prior_entropy: chex.Array  # scalar, of p(a)


class VMA(nn.Module):
    """p(x|M) = sum_a p(a|M) integral p(z|m_a) p(x|z, m_a) dz with MLPs; VMA eq. 1, section 4.1.

    The memory holds the support's images or, with `num_slots`, learned vectors.

    Where it holds images, the decoder has a direct path from what was read to the pixels' logits:
    `exp(log_gain) * (2 m - 1)`, a learned gain for each pixel. A hidden layer of 128 units cannot
    copy an image that it has never seen, and recall is just that; the exponential lets the gain
    reach the 8 nats or so that a certain pixel takes in a few thousand steps.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      hidden_sizes: units of the encoder's hidden layers; the decoder has them in reverse.
      embedding_size: E, of the matching space, behind one hidden layer of `hidden_sizes[-1]` units.
      similarity: one of `addressing.KINDS`.
      tied_embeddings: whether query and slots share one embedding net, so that under a similarity
        that is normalised by the slot a slot that equals the query scores highest; the paper's
        are two. Only for the support's images as contents.
      address_prior: "learned", by a query point e^p in the matching space, or "flat".
      num_slots: 0 for the support's images as contents, else the number of learned slots.
      slot_size: size of a learned slot.
      num_samples: L in training, at least 2.
    """

    image_shape: Sequence[int]
    latent_size: int = 32
    hidden_sizes: Sequence[int] = (256, 128)
    embedding_size: int = 128
    similarity: str = "key_normalized"
    tied_embeddings: bool = False
    address_prior: str = "learned"
    num_slots: int = 0
    slot_size: int = 256
    num_samples: int = 4

    def setup(self):
        """Names the parameters; checks what the config says."""
        check(self)
        num_pixels = math.prod(self.image_shape)
        self.slot_embedding: nn.Module = MLP(self.hidden_sizes[-1:], self.embedding_size)
        if not self.tied_embeddings:
            self.query_embedding: nn.Module = MLP(self.hidden_sizes[-1:], self.embedding_size)
        self.latent_prior = MLP(self.hidden_sizes, 2 * self.latent_size)
        self.latent_posterior = MLP(self.hidden_sizes, 2 * self.latent_size)
        self.decoder = MLP(tuple(self.hidden_sizes)[::-1], num_pixels)
        self._setup_addresses()
        if not self.num_slots:
            self.log_gain = self.param("log_gain", nn.initializers.zeros, (num_pixels,))

    def _setup_addresses(self) -> None:
        """The parameters of p(a), and a learned memory."""
        if self.address_prior == "learned":
            # Small, so that the prior begins nearly flat.
            init = nn.initializers.normal(0.01)
            self.prior_query = self.param("prior_query", init, (self.embedding_size,))
        if self.num_slots:
            init = nn.initializers.normal(1.0)
            self.memory = self.param("memory", init, (self.num_slots, self.slot_size))

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """VIMCO's objective for one query `[H, W, C]`, and metrics in nats."""
        del train
        joint = self._sample_joint(rng_key, query, support, self.num_samples)
        objective = estimators.vimco(joint.log_weights, joint.address_log_probs)
        metrics = {
            "nll": -objective,
            "reconstruction": -jnp.mean(joint.samples.log_likelihood),
            "kl_address": joint.kl_address,
            "kl_latent": jnp.mean(joint.samples.kl_latent),
            "address_prior_entropy": joint.address_prior_entropy,
        }
        return objective, metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x|M) of one query `[H, W, C]`, in nats: `[L]`."""
        return self._sample_joint(rng_key, query, support, num_samples).log_weights

    def generate(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|m_a, z) for a, z drawn from the prior."""
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        contents = self._contents(support)
        prior_logits = self._prior_logits(self.slot_embedding(contents))
        addresses, _ = addressing.sample(address_rng_key, prior_logits, 1)
        return self.generate_at(latent_rng_key, support, addresses[0])

    def generate_at(
        self, rng_key: chex.PRNGKey, support: chex.Array | None, address: chex.Array
    ) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|m_a, z) for z drawn from the prior at one address."""
        slot = self._read(self._contents(support), address)
        return self._decode(slot, distributions.draw(rng_key, self._latent_prior(slot))).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        query, contents = as_floats("query", query), self._contents(support)
        posterior_logits = self._posterior_logits(query, self.slot_embedding(contents))
        addresses, _ = addressing.sample(address_rng_key, posterior_logits, 1)
        slot = self._read(contents, addresses[0])
        latent = distributions.draw(latent_rng_key, self._latent_posterior(query, slot))
        pictures = {"query": query}
        if not self.num_slots:
            pictures["read slot"] = addressing.lookup(contents, addresses[0]).reshape(query.shape)
        return pictures | {"reconstruction": self._decode(slot, latent).mean}

    def address_logits(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None
    ) -> chex.Array:
        """The logits `[N]` of q(a|x) for one query `[H, W, C]`."""
        del rng_key
        return self._posterior_logits(query, self.slot_embedding(self._contents(support)))

    def address_log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None
    ) -> chex.Array:
        """log p(x, z, a) - log q(z|m_a, x) `[N]`, one z for each slot, for one query `[H, W, C]`.

        Their exponentials are unbiased estimates of p(x, a): normalised, of p(a|x).
        """
        query, contents = as_floats("query", query), self._contents(support)
        prior_logits = self._prior_logits(self.slot_embedding(contents))
        slots = self._read(contents, jnp.arange(len(prior_logits)))
        log_weights = self._sample_latent(rng_key, query, slots).log_weights
        return jax.nn.log_softmax(prior_logits) + log_weights

    def _sample_joint(self, rng_key, query, support, num_samples) -> Joint:
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        query, contents = as_floats("query", query), self._contents(support)
        slot_embeddings = self.slot_embedding(contents)
        posterior_logits = self._posterior_logits(query, slot_embeddings)
        prior_logits = self._prior_logits(slot_embeddings)
        addresses, address_log_probs = addressing.sample(
            address_rng_key, posterior_logits, num_samples
        )
        samples = self._sample_latent(latent_rng_key, query, self._read(contents, addresses))
        log_address_ratio = jax.nn.log_softmax(prior_logits)[addresses] - address_log_probs
        return Joint(
            samples=samples,
            log_weights=samples.log_weights + log_address_ratio,
            address_log_probs=address_log_probs,
            kl_address=addressing.kl_divergence(posterior_logits, prior_logits),
            address_prior_entropy=dist.Categorical(logits=prior_logits).entropy(),
        )

    def _sample_latent(self, rng_key: chex.PRNGKey, query: chex.Array, slots: Any) -> AtAddresses:
        prior, posterior = self._latent_prior(slots), self._latent_posterior(query, slots)
        latent = distributions.draw(rng_key, posterior)
        log_likelihood = self._decode(slots, latent).log_prob(query[None])
        return AtAddresses(
            log_likelihood=log_likelihood,
            log_weights=log_likelihood + prior.log_prob(latent) - posterior.log_prob(latent),
            kl_latent=dist.kl_divergence(posterior, prior),
        )

    def _contents(self, support: chex.Array | None) -> chex.Array:
        if self.num_slots:
            return self.memory
        if support is None:
            raise UserError("num_slots is 0 and the episode has no support: the memory is empty")
        return self._image_contents(as_floats("support", support))

    def _image_contents(self, support: chex.Array) -> chex.Array:
        return image_to_vector(support)

    def _read(self, contents: chex.Array, addresses: chex.Array) -> Any:
        return addressing.lookup(contents, addresses)

    def _posterior_logits(self, query: chex.Array, slot_embeddings: chex.Array) -> chex.Array:
        embedding = self.slot_embedding if self.tied_embeddings else self.query_embedding
        embedded = embedding(self._image_contents(as_floats("query", query)))
        return addressing.similarity(embedded, slot_embeddings, self.similarity)

    def _prior_logits(self, slot_embeddings: chex.Array) -> chex.Array:
        if self.address_prior == "flat":
            return jnp.zeros(len(slot_embeddings), slot_embeddings.dtype)
        return addressing.similarity(self.prior_query, slot_embeddings, self.similarity)

    def _latent_prior(self, slots: Any) -> dist.Distribution:
        return distributions.diagonal_normal(self.latent_prior(slots))

    def _latent_posterior(self, query: chex.Array, slots: Any) -> dist.Distribution:
        return distributions.diagonal_normal(self.latent_posterior(image_to_vector(query), slots))

    def _decode(self, slots: Any, latent: chex.Array) -> dist.Distribution:
        logits = self.decoder(slots, latent)
        if not self.num_slots:
            gain = jnp.expand_dims(jnp.exp(self.log_gain), range(slots.ndim - 1))
            logits = logits + gain * (2.0 * slots - 1.0)
        return distributions.bernoulli_image(logits.reshape(*logits.shape[:-1], *self.image_shape))


def check(model: VMA) -> None:
    """Refuses what the config can't say."""
    check_at_least_one(latent_size=model.latent_size)
    if model.num_samples < 2:
        raise UserError(f"num_samples is {model.num_samples}; VIMCO needs at least 2")
    if model.num_slots < 0:
        raise UserError(f"num_slots is {model.num_slots}; it must be 0 (the support) or more")
    if model.tied_embeddings and model.num_slots:
        raise UserError(f"tied_embeddings needs num_slots 0 (the support); it is {model.num_slots}")
    if model.address_prior not in ("learned", "flat"):
        raise UserError(f"address_prior is {model.address_prior!r}; it must be 'learned' or 'flat'")
    check_one_of("similarity", model.similarity, addressing.KINDS)
