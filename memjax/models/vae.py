"""The VAE, and the IWAE that it becomes with several samples: the baseline without a memory.

Sources: Kingma and Welling 2013; Burda et al. 2015.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import check_at_least_one
from memjax.nets import (
    ImageDecoder,
    ImageEncoder,
    PyramidDecoder,
    PyramidEncoder,
    add_uniform_noise,
    as_floats,
    distributions,
)


class VAE(nn.Module):
    """p(x) = integral p(z) p(x|z) dz; Kingma and Welling 2013, Burda et al. 2015.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      num_filters: of the convolutions, the Kanerva Machine's; 0 for MLPs.
      hidden_sizes: units of the MLP encoder's hidden layers; the decoder has them in reverse.
      likelihood: "bernoulli", or "gaussian" with one learned scale.
      num_samples: L in training; 1 is the VAE, more is the IWAE.
    """

    image_shape: Sequence[int]
    latent_size: int = 32
    num_filters: int = 0
    hidden_sizes: Sequence[int] = (256, 128)
    likelihood: str = "bernoulli"
    num_samples: int = 1

    def setup(self):
        """Names the parameters; checks what the config says."""
        check_at_least_one(num_samples=self.num_samples, latent_size=self.latent_size)
        hidden_sizes = tuple(self.hidden_sizes)
        self.encoder: nn.Module = ImageEncoder(2 * self.latent_size, self.num_filters, hidden_sizes)
        self.decoder: nn.Module = ImageDecoder(
            self.image_shape, self.num_filters, hidden_sizes[::-1], self.likelihood
        )

    def __call__(
        self,
        rng_key: chex.PRNGKey,
        query: chex.Array,
        support: chex.Array | None = None,
        *,
        train: bool,
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The multi-sample bound for one query `[H, W, C]`, and metrics in nats."""
        del support
        query = as_floats("query", query)
        if train and self.likelihood == "gaussian":
            noise_rng_key, rng_key = jax.random.split(rng_key)
            query = add_uniform_noise(noise_rng_key, query)
        log_likelihood, log_weights = self._sample_joint(rng_key, query, self.num_samples)
        prior = distributions.standard_normal(self.latent_size)
        objective = estimators.iwae(log_weights)
        metrics = {
            "nll": -objective,
            "reconstruction": -jnp.mean(log_likelihood),
            "kl_latent": dist.kl_divergence(self._posterior(query), prior),
        }
        return objective, metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x) of one query `[H, W, C]`, in nats: `[L]`."""
        del support
        return self._sample_joint(rng_key, as_floats("query", query), num_samples)[1]

    def generate(self, rng_key: chex.PRNGKey, support: chex.Array | None = None) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|z) for z drawn from the prior."""
        del support
        prior = distributions.standard_normal(self.latent_size)
        return self.decoder(distributions.draw(rng_key, prior)).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None = None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        del support
        query = as_floats("query", query)
        latent = distributions.draw(rng_key, self._posterior(query))
        return {"query": query, "reconstruction": self.decoder(latent).mean}

    def _sample_joint(self, rng_key, query, num_samples) -> tuple[chex.Array, chex.Array]:
        prior = distributions.standard_normal(num_samples, self.latent_size)
        posterior = distributions.repeat(self._posterior(query), num_samples)
        latent = distributions.draw(rng_key, posterior)
        log_likelihood = self.decoder(latent).log_prob(query[None])
        log_weights = log_likelihood + prior.log_prob(latent) - posterior.log_prob(latent)
        return log_likelihood, log_weights

    def _posterior(self, query: chex.Array) -> dist.Distribution:
        return distributions.diagonal_normal(self.encoder(query))


class PyramidVAE(VAE):
    """A VAE with the encoder and the decoder of `conv_vma.ConvVMA`, of binary images.

    Attributes:
      latent_size: size of z.
      num_filters: of every convolution.
      hidden_sizes: units of the hidden layers of the MLP behind the encoder's pyramid.
    """

    latent_size: int = 64
    num_filters: int = 64
    hidden_sizes: Sequence[int] = (128,)

    def setup(self):
        """Names the parameters; checks what the config says."""
        check_at_least_one(num_samples=self.num_samples, latent_size=self.latent_size)
        self.encoder = PyramidEncoder(2 * self.latent_size, self.num_filters, self.hidden_sizes)
        self.decoder = PyramidDecoder(self.image_shape, self.num_filters)
