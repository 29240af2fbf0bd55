"""The Kanerva Machine: a VAE whose prior reads a Gaussian memory, written by Bayes' rule.

Source: Wu et al., The Kanerva Machine: A Generative Distributed Memory, 2018 (KM below).
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import check_at_least_one, check_one_of
from memjax.memory import kanerva
from memjax.memory.kanerva import KanervaState
from memjax.models.episodic import Encoded, EpisodicVAE
from memjax.nets import MLP, distributions

MEMORY_MODES = ("mean", "sample", "distribution")
ADDRESSINGS = ("key", "least_squares")


class KanervaMachine(EpisodicVAE):
    """An `EpisodicVAE` with the memory of KM eqs. 4-6.

    Attributes, beside `EpisodicVAE`'s:
      num_slots: N, the rows of the memory.
      address_size: S, of the keys and of the address matrix's rows.
      diagonal: whether the memory's row covariance is diagonal (KM figure 10).
      memory_mode: one of `MEMORY_MODES`: read the memory's mean (the paper's), a sample of it, or
        its distribution, into which codes go with their variance too (KM appendix F).
      addressing: "key", by KM eq. 5, or "least_squares": the weights that best explain the code
        are the mean of q(w|x, M), and p(w) = N(0, I) (the Dynamic Kanerva Machine's).
    """

    num_slots: int = 64
    address_size: int = 50
    diagonal: bool = False
    memory_mode: str = "mean"
    addressing: str = "key"

    def setup(self):
        """Names the parameters; checks what the config says."""
        super().setup()
        check_at_least_one(num_slots=self.num_slots, address_size=self.address_size)
        check_one_of("memory_mode", self.memory_mode, MEMORY_MODES)
        check_one_of("addressing", self.addressing, ADDRESSINGS)
        normal, zeros = nn.initializers.normal, nn.initializers.zeros
        if self.addressing == "key":
            self.key = MLP((self.mlp_size,), self.address_size)
            shape = (self.num_slots, self.address_size)
            self.address_matrix = self.param("address_matrix", normal(1.0), shape)
        else:
            start = nn.initializers.constant(math.log(self.address_scale))
            self.address_log_scale = self.param("address_log_scale", start, ())
        shape = (self.num_slots, self.code_size)
        self.memory_mean = self.param("memory_mean", normal(0.1), shape)
        self.memory_log_scale = self.param("memory_log_scale", zeros, (self.num_slots,))
        if not self.diagonal:
            self.memory_factor = self.param("memory_factor", zeros, (self.num_slots,) * 2)

    def memory_prior(self) -> KanervaState:
        """p(M): learned, its covariance positive definite by a Cholesky factor; KM eq. 4."""
        mean = jnp.copy(self.memory_mean)  # who donates the memory keeps the parameters
        scales = jnp.exp(self.memory_log_scale)
        if self.diagonal:
            return KanervaState(mean, jnp.square(scales))
        factor = jnp.tril(self.memory_factor, -1) + jnp.diag(scales)
        return KanervaState(mean, factor @ factor.T)

    def weights(
        self, rng_key: chex.PRNGKey, query: chex.Array | Encoded, memory: KanervaState
    ) -> chex.Array:
        """Weights `[N]` by which one image `[H, W, C]` is read."""
        embedding = self._encoded("query", query).embedding
        return self._weights(self._sample_joint(rng_key, memory, embedding).address)

    def decode_weights(self, memory: KanervaState, read_weights: chex.Array) -> chex.Array:
        """The image `[H, W, C]` of what weights `[N]` read: the means all the way down."""
        return self._decode(kanerva.read(memory, read_weights)[0]).mean

    def _write_codes(
        self,
        rng_key: chex.PRNGKey,
        memory: KanervaState,
        address: chex.Array,
        codes: dist.Distribution,
    ) -> KanervaState:
        write_weights = self._weights(address)
        if self.memory_mode == "distribution":
            # The write knows one variance for each code.
            noise_var = self.noise_var + jnp.mean(codes.variance, axis=-1)
            return kanerva.write(memory, write_weights, codes.mean, noise_var)
        latent_rng_key, memory_rng_key = jax.random.split(rng_key)
        latent = distributions.draw(latent_rng_key, codes)
        memory = kanerva.write(memory, write_weights, latent, self.noise_var)
        if self.memory_mode == "sample":
            memory = KanervaState(kanerva.sample(memory_rng_key, memory), memory.row_cov)
        return memory

    def memory_metrics(self, memory: KanervaState, num_images: int) -> dict[str, chex.Array]:
        """KL(q(M|X) || p(M)) for each image, a scalar in nats; KM eq. 12 has no such term."""
        if self.memory_mode == "sample":  # it is no distribution then
            return {}
        posterior, prior = jax.lax.stop_gradient((memory, self.memory_prior()))
        return {"kl_memory": kanerva.kl_divergence(posterior, prior) / num_images}

    def _latent_prior(self, memory: KanervaState, address: chex.Array) -> dist.Distribution:
        """p(z|y, M), KM eq. 6; or, over the memory's distribution, eq. 19."""
        mean, var = kanerva.read(memory, self._weights(address), self.noise_var)
        if self.memory_mode != "distribution":
            var = jnp.full_like(var, self.noise_var)
        return dist.Normal(mean, jnp.broadcast_to(jnp.sqrt(var)[..., None], mean.shape)).to_event(1)

    def _address_prior(self) -> dist.Distribution:
        if self.addressing == "key":
            return super()._address_prior()
        return distributions.standard_normal(self.num_slots)

    def _address_posterior(
        self, noise_rng_key: chex.PRNGKey, memory: KanervaState, embedding: chex.Array
    ) -> dist.Distribution:
        """q(y|x), or q(w|x, M) by least squares."""
        if self.addressing == "key":
            return super()._address_posterior(noise_rng_key, memory, embedding)
        codes = distributions.diagonal_normal(embedding).mean
        loc = kanerva.least_squares_weights(memory, codes, self.noise_var)
        return dist.Normal(loc, jnp.exp(self.address_log_scale)).to_event(1)

    def _weights(self, address: chex.Array) -> chex.Array:
        """w `[..., N]` of y; KM eq. 5."""
        if self.addressing == "least_squares":
            return address
        return kanerva.address_weights(self.key(address), self.address_matrix)
