"""A VAE that reads the support by soft attention: the baseline of VMA section 4.2.

Attention may not look at the datum that is generated, so z comes first and asks the memory:
p(z), p(x|z, m(z)), q(z|x). Source: Bornschein et al., Variational Memory Addressing in Generative
Models, 2017 (VMA below).
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError
from memjax.memory import addressing
from memjax.nets import MLP, ConditionalNets, PyramidEncoder, distributions


class SoftMemory(nn.Module):
    """p(x|M) = integral p(z) p(x|z, m(z)) dz with m(z) = sum_a w_a(z) m_a; VMA section 4.2.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      hidden_sizes: units of the hidden layers of every MLP.
      num_filters: of every convolution.
      embedding_size: E, of the matching space.
      similarity: one of `addressing.KINDS`; the weights are its softmax.
      num_samples: L in training.
    """

    image_shape: Sequence[int]
    latent_size: int = 64
    hidden_sizes: Sequence[int] = (128,)
    num_filters: int = 64
    embedding_size: int = 128
    similarity: str = "key_normalized"
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

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The multi-sample bound for one query `[H, W, C]`, and metrics in nats."""
        del train
        support = _filled(support)
        log_likelihood, log_weights = self._sample_joint(rng_key, query, support, self.num_samples)
        objective = estimators.iwae(log_weights)
        kl_latent = dist.kl_divergence(self._posterior(query, support), self._prior(support))
        metrics = {
            "nll": -objective,
            "reconstruction": -jnp.mean(log_likelihood),
            "kl_latent": kl_latent,
        }
        return objective, metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x|M) of one query `[H, W, C]`, in nats: `[L]`."""
        return self._sample_joint(rng_key, query, _filled(support), num_samples)[1]

    def generate(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|z, M) for z drawn from the prior."""
        support = _filled(support)
        return self._decode(self._prior(support).sample(rng_key), support).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        support = _filled(support)
        latent = self._posterior(query, support).sample(rng_key)
        return {
            "query": query,
            "read mixture": self._mixture(latent, support),
            "reconstruction": self._decode(latent, support).mean,
        }

    def _sample_joint(self, rng_key, query, support, num_samples) -> tuple[chex.Array, chex.Array]:
        prior, posterior = self._prior(support), self._posterior(query, support)
        latent = posterior.rsample(rng_key, (num_samples,))
        log_likelihood = self._decode(latent, support).log_prob(query)
        log_weights = log_likelihood + prior.log_prob(latent) - posterior.log_prob(latent)
        return log_likelihood, log_weights

    def _prior(self, support: chex.Array) -> dist.Distribution:
        del support
        return distributions.standard_normal(self.latent_size)

    def _posterior(self, query: chex.Array, support: chex.Array) -> dist.Distribution:
        del support
        return distributions.diagonal_normal(self.encoder(query))

    def _mixture(self, latent: chex.Array, support: chex.Array) -> chex.Array:
        """m(z) `[..., H, W, C]` for z `[..., D]`."""
        logits = addressing.similarity(
            self.latent_embedding(latent), self.slot_embedding(support), self.similarity
        )
        return jnp.tensordot(jax.nn.softmax(logits), support, 1)

    def _decode(self, latent: chex.Array, support: chex.Array) -> dist.Distribution:
        features = self.nets.image_features(self._mixture(latent, support))
        return self.nets.decode(features, latent)


def _filled(support: chex.Array | None) -> chex.Array:
    if support is None:
        raise UserError("the episode has no support: the memory is empty")
    return support


def _check(model: SoftMemory) -> None:
    if model.num_samples < 1:
        raise UserError(f"num_samples is {model.num_samples}; it must be at least 1")
    if model.similarity not in addressing.KINDS:
        raise UserError(
            f"similarity is {model.similarity!r}; it must be one of {', '.join(addressing.KINDS)}"
        )
