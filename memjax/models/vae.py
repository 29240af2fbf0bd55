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
from memjax.errors import check_at_least_one, check_one_of
from memjax.models import gradients
from memjax.nets import (
    ImageDecoder,
    ImageEncoder,
    ImageFeatures,
    ImageLikelihood,
    ImageOutputs,
    PyramidDecoder,
    PyramidEncoder,
    add_uniform_noise,
    as_floats,
    distributions,
)

CONVOLUTIONS = ("residual", "pyramid")


class VAE(nn.Module):
    """p(x) = integral p(z) p(x|z) dz; Kingma and Welling 2013, Burda et al. 2015.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      num_filters: of the convolutions; 0 for MLPs.
      convolutions: "residual", the Kanerva Machine's, or "pyramid", `vma.VMA`'s.
      hidden_sizes: units of the MLP encoder's hidden layers, the decoder has them in reverse; or of
        those behind the pyramid.
      likelihood: "bernoulli", or "gaussian", see `ImageLikelihood`.
      num_samples: L in training; 1 is the VAE, more is the IWAE.
      latent_gradient: of z: "standard", or without the score of q(z|x), "stl" or "dreg"; see
        `gradients.weigh`.
      encoder: a net in the place of ours, from images `[B, H, W, C]` to features `[B, D]`; a linear
        layer follows.
      decoder: a net in the place of ours, from z `[B, latent_size]` to `[B, H, W, C]`: logits, or a
        Gaussian's means.
    """

    image_shape: Sequence[int]
    latent_size: int = 32
    num_filters: int = 0
    convolutions: str = "residual"
    hidden_sizes: Sequence[int] = (256, 128)
    likelihood: str = "bernoulli"
    num_samples: int = 1
    latent_gradient: str = "standard"
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None

    def setup(self):
        """Names the parameters; checks what the config says."""
        check_at_least_one(num_samples=self.num_samples, latent_size=self.latent_size)
        check_one_of("convolutions", self.convolutions, CONVOLUTIONS)
        check_one_of("latent_gradient", self.latent_gradient, gradients.LATENT_GRADIENTS[:3])
        hidden_sizes, num_outputs = tuple(self.hidden_sizes), 2 * self.latent_size
        pyramid = self.num_filters and self.convolutions == "pyramid"
        if self.encoder is not None:
            self.image_encoder: nn.Module = ImageFeatures(self.encoder, num_outputs)
        elif pyramid:
            self.image_encoder = PyramidEncoder(num_outputs, self.num_filters, hidden_sizes)
        else:
            self.image_encoder = ImageEncoder(num_outputs, self.num_filters, hidden_sizes)
        if self.decoder is not None:
            self.image_decoder: nn.Module = ImageOutputs(self.decoder, self.image_shape)
        elif pyramid:
            self.image_decoder = PyramidDecoder(self.image_shape, self.num_filters)
        else:
            sizes = hidden_sizes[::-1]
            self.image_decoder = ImageDecoder(self.image_shape, self.num_filters, sizes)
        self.pixels = ImageLikelihood(self.likelihood)

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None = None) -> None:
        """None: no support `[N, H, W, C]` is remembered."""
        del rng_key, support

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The multi-sample bound for one query `[H, W, C]`, and metrics in nats."""
        del memory
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
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x) of one query `[H, W, C]`, in nats: `[L]`."""
        del memory
        return self._sample_joint(rng_key, as_floats("query", query), num_samples)[1]

    def generate(self, rng_key: chex.PRNGKey, memory: None = None) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|z) for z drawn from the prior."""
        del memory
        prior = distributions.standard_normal(self.latent_size)
        return self._decode(distributions.draw(rng_key, prior)).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        del memory
        query = as_floats("query", query)
        latent = distributions.draw(rng_key, self._posterior(query))
        return {"query": query, "reconstruction": self._decode(latent).mean}

    def _sample_joint(self, rng_key, query, num_samples) -> tuple[chex.Array, chex.Array]:
        prior = distributions.standard_normal(num_samples, self.latent_size)
        posterior = distributions.repeat(self._posterior(query), num_samples)
        latent = distributions.draw(rng_key, posterior)

        def log_likelihood(latent: chex.Array) -> chex.Array:
            return self._decode(latent).log_prob(query[None])

        return gradients.weigh(self.latent_gradient, log_likelihood, prior, posterior, latent)

    def _posterior(self, query: chex.Array) -> dist.Distribution:
        return distributions.diagonal_normal(self.image_encoder(query))

    def _decode(self, latent: chex.Array) -> dist.Distribution:
        return self.pixels(self.image_decoder(latent))
