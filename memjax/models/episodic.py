"""A VAE whose prior reads a memory of the episode; a subclass says which memory.

Source: Wu et al., The Kanerva Machine: A Generative Distributed Memory, 2018 (KM below), which
compares its own memory with others in this frame (KM section 4.4, appendix D).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.models import denoising, warmup
from memjax.models.contract import Images
from memjax.nets import (
    MLP,
    ImageDecoder,
    ImageEncoder,
    ImageFeatures,
    ImageLikelihood,
    ImageOutputs,
    add_uniform_noise,
    as_floats,
    distributions,
)

READINGS = ("samples", "means", "modes")
_CLIMBING_STEPS = 20


class Joint(NamedTuple):
    """One sample of (y, z) for one image, and what it was drawn from; KM eqs. 3, 7."""

    address_prior: dist.Distribution  # p(y)
    address_posterior: dist.Distribution  # q(y|x)
    address: chex.Array  # y
    latent_prior: dist.Distribution  # p(z|y, M)
    latent_posterior: dist.Distribution  # q(z|x, y, M)
    latent: chex.Array  # z [C]
    likelihood: dist.Distribution  # p(x|z)


class Encoded(NamedTuple):
    """An image, and what the encoder makes of it."""

    image: chex.Array  # [..., H, W, C]
    embedding: chex.Array  # [..., 2 C]


class EpisodicVAE(nn.Module):
    """p(X|M) = prod_t integral p(y_t) p(z_t|y_t, M) p(x_t|z_t) dy_t dz_t; KM eq. 3.

    An episode `[T, H, W, C]` is written into the memory, then each of its images is read back.
    Writing and reading each draw their own y: with one draw for both, y would be a random key that
    costs nothing. The mean of q(z|x, y, M) is that of p(z|y, M) plus a correction; a net gives the
    correction and the variance, from x and the mean of p(z|y, M). Methods take an image or its
    `encode`d form, so that an image that is both written and read is encoded once.

    A subclass says what the memory is: a pytree that `memory_prior` begins, `_write_codes` fills
    and `_latent_prior` reads.

    Attributes:
      image_shape: (H, W, C).
      code_size: C, of z and of what the memory holds.
      address_latent_size: size of y.
      num_filters: of the convolutions; 0 for MLPs.
      hidden_sizes: the MLP encoder's, if that is what it is; the decoder has them in reverse.
      mlp_size: hidden units of the nets between the vectors.
      likelihood: "bernoulli", or "gaussian", see `ImageLikelihood`.
      noise_var: sigma^2 of p(z|y, M), KM eq. 6.
      bottom_up: whether q(z|x, y, M) sees x; without, z is drawn from p(z|y, M), as where memories
        are compared (KM appendix D).
      address_noise: standard deviation of the noise into q(y|x), against overfitting.
      address_scale: where the standard deviation of q(y|x) starts. At 1, the prior's, an image is
        read at other weights than it was written by, and training forgets the memory.
      kl_warmup_steps: steps over which both KL terms of the objective rise from
        `kl_warmup_start` to `kl_weight`; 0 for none. Metrics are never scaled.
      kl_warmup_start: where they begin.
      kl_weight: what they rise to. Below 1, an extension of the paper, addresses carry more
        information.
      denoising_weight: in training, the weight of the mean of -log p(x|z) over `denoising_readings`
        readings by means that begin at a corrupted x; an extension of the paper.
      denoising_readings: how many; each but the first reads at what the one before gave.
      encoder: a net to replace ours, from images `[B, H, W, C]` to features `[B, D]`; a linear
        layer follows.
      decoder: a net to replace ours, from z `[B, code_size]` to `[B, H, W, C]`: logits, or a
        Gaussian's means.
    """

    image_shape: Sequence[int]
    code_size: int = 100
    address_latent_size: int = 50
    num_filters: int = 16
    hidden_sizes: Sequence[int] = (256, 128)
    mlp_size: int = 128
    likelihood: str = "bernoulli"
    noise_var: float = 1.0
    bottom_up: bool = True
    address_noise: float = 0.2
    address_scale: float = 0.1
    kl_warmup_steps: int = 0
    kl_warmup_start: float = 0.02
    kl_weight: float = 1.0
    denoising_weight: float = 0.0
    denoising_readings: int = 2
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None

    def memory_prior(self) -> Any:
        """The memory before anything is written."""
        raise NotImplementedError

    def _write_codes(
        self, rng_key: chex.PRNGKey, memory: Any, address: chex.Array, codes: dist.Distribution
    ) -> Any:
        """The memory after the codes' distributions, `[T]` of `[C]`, at y `[T, ...]`."""
        raise NotImplementedError

    def _latent_prior(self, memory: Any, address: chex.Array) -> dist.Distribution:
        """p(z|y, M) for one y."""
        raise NotImplementedError

    def memory_metrics(self, memory: Any, num_images: int) -> dict[str, chex.Array]:
        """Metrics of a memory that holds `num_images`, beside the bound; in nats."""
        del memory, num_images
        return {}

    def setup(self):
        """Names the parameters; checks what the config says."""
        _check(self)
        hidden_sizes, num_outputs = tuple(self.hidden_sizes), 2 * self.code_size
        if self.encoder is not None:
            self.image_encoder: nn.Module = ImageFeatures(self.encoder, num_outputs)
        else:
            self.image_encoder = ImageEncoder(num_outputs, self.num_filters, hidden_sizes)
        if self.decoder is not None:
            self.image_decoder: nn.Module = ImageOutputs(self.decoder, self.image_shape)
        else:
            sizes = hidden_sizes[::-1]
            self.image_decoder = ImageDecoder(self.image_shape, self.num_filters, sizes)
        self.pixels = ImageLikelihood(self.likelihood)
        self.latent_posterior = MLP((self.mlp_size,), 2 * self.code_size)
        self.address_posterior = MLP((self.mlp_size,), 2 * self.address_latent_size)
        self.steps = warmup.start(self)

    def encode(self, rng_key: chex.PRNGKey, image: chex.Array, *, train: bool = False) -> Encoded:
        """The encoded form of one image `[H, W, C]`, or of an episode of images."""
        image = as_floats("image", image)
        if train and self.likelihood == "gaussian":
            image = add_uniform_noise(rng_key, image)
        return self._encoded("image", image)

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | Encoded | None = None) -> Any:
        """The memory after an episode `[T, H, W, C]`; KM eq. 8, by one sample of y and z.

        Without an episode: the memory before anything is written.
        """
        memory = self.memory_prior()
        if support is None:
            return memory
        noise_rng_key, address_rng_key, codes_rng_key = jax.random.split(rng_key, 3)
        embedding = self._encoded("support", support).embedding
        address_posterior = self._address_posterior(noise_rng_key, memory, embedding)
        address = distributions.draw(address_rng_key, address_posterior)
        codes = distributions.diagonal_normal(embedding)
        return self._write_codes(codes_rng_key, memory, address, codes)

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array | Encoded, memory: Any, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The bound (KM eq. 12) of one written image `[H, W, C]`; metrics in nats."""
        noise_rng_key, read_rng_key, denoise_rng_key = jax.random.split(rng_key, 3)
        if not isinstance(query, Encoded):
            query = self.encode(noise_rng_key, as_floats("query", query), train=train)
        joint = self._sample_joint(read_rng_key, memory, query.embedding)
        reconstruction = -joint.likelihood.log_prob(query.image)
        kl_address = dist.kl_divergence(joint.address_posterior, joint.address_prior)
        kl_latent = dist.kl_divergence(joint.latent_posterior, joint.latent_prior)
        scale = warmup.kl_scale(self, self.steps, self.kl_weight, train)
        objective = -reconstruction - scale * (kl_address + kl_latent)
        if train and self.denoising_weight:
            denoised = self._denoising(denoise_rng_key, query.image, memory)
            objective = objective + self.denoising_weight * denoised
        metrics = {
            "nll": reconstruction + kl_address + kl_latent,
            "reconstruction": reconstruction,
            "kl_address": kl_address,
            "kl_latent": kl_latent,
        }
        return objective, metrics

    def read(
        self,
        rng_key: chex.PRNGKey,
        query: chex.Array | Encoded,
        memory: Any,
        *,
        by: str = "samples",
    ) -> Images:
        """One iteration of reading at one image `[H, W, C]`.

        Args:
          rng_key: a JAX random key.
          query: the image.
          memory: what was written.
          by: one of `READINGS`. "samples" draws y, z and x (KM algorithm 1). "means" takes the
            means of all three. "modes", an extension: y climbs from the mean of q(y|x) to a mode of
            p(x|y, M), where KM section 3.5 would use q(y|x, M), and each pixel counts as noise with
            probability 0.2; z is the mean, and x is rounded. Written images then stay as they are.

        Returns:
          The mean of p(x|z), and what the next reading asks with: a sample, the mean or the mode.

        Raises:
          UserError: another way to read.
        """
        check_one_of("by", by, READINGS)
        joint_rng_key, sample_rng_key = jax.random.split(rng_key)
        query = self._encoded("query", query)
        if by == "samples":
            joint = self._sample_joint(joint_rng_key, memory, query.embedding)
            return _images(sample_rng_key, joint.likelihood)
        image = query.image if by == "modes" else None
        likelihood = self._sample_joint(None, memory, query.embedding, image).likelihood
        rounds = by == "modes" and self.likelihood == "bernoulli"
        mean = likelihood.mean
        return Images(mean, jnp.round(mean) if rounds else mean)

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array | Encoded, memory: Any, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x|M) of one image `[H, W, C]`, in nats: `[L]`."""
        query = self._encoded("query", query)

        def one(rng_key: chex.PRNGKey) -> chex.Array:
            j = self._sample_joint(rng_key, memory, query.embedding)
            log_joint = j.likelihood.log_prob(query.image) + j.latent_prior.log_prob(j.latent)
            log_joint = log_joint + j.address_prior.log_prob(j.address)
            log_posterior = j.latent_posterior.log_prob(j.latent)
            return log_joint - log_posterior - j.address_posterior.log_prob(j.address)

        return jax.vmap(one)(jax.random.split(rng_key, num_samples))

    def generate(self, rng_key: chex.PRNGKey, memory: Any) -> chex.Array:
        """The mean image `[H, W, C]` of what is read at a random key."""
        return self.read_at_random(rng_key, memory).mean

    def read_at_random(self, rng_key: chex.PRNGKey, memory: Any) -> Images:
        """What is read at a random key; KM section 4.2."""
        address_rng_key, latent_rng_key, sample_rng_key = jax.random.split(rng_key, 3)
        address = distributions.draw(address_rng_key, self._address_prior())
        latent = distributions.draw(latent_rng_key, self._latent_prior(memory, address))
        return _images(sample_rng_key, self._decode(latent))

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any
    ) -> dict[str, chex.Array]:
        """An image `[H, W, C]`, and what is read at it."""
        query = as_floats("query", query)
        return {"query": query, "reconstruction": self.read(rng_key, query, memory).mean}

    def _encoded(self, name: str, images: chex.Array | Encoded) -> Encoded:
        if isinstance(images, Encoded):
            return images
        images = as_floats(name, images)
        return Encoded(images, self.image_encoder(images))

    def _denoising(self, rng_key: chex.PRNGKey, image: chex.Array, memory: Any) -> chex.Array:
        """The mean of log p(image|z) over readings that begin at a corrupted image."""
        query, total = denoising.corrupt(rng_key, image), 0.0
        for _ in range(self.denoising_readings):
            embedding = self.image_encoder(jax.lax.stop_gradient(query))
            likelihood = self._sample_joint(None, memory, embedding).likelihood
            total, query = total + likelihood.log_prob(image), likelihood.mean
        return total / self.denoising_readings

    def _sample_joint(
        self,
        rng_key: chex.PRNGKey | None,
        memory: Any,
        embedding: chex.Array,
        climb_to: chex.Array | None = None,
    ) -> Joint:
        """Draws y and z for an image that the memory holds, perhaps corrupted; KM eq. 7.

        Without a key, y and z are the means. With `climb_to`, y is moved to explain that image.
        """
        rng_keys = (None,) * 3 if rng_key is None else jax.random.split(rng_key, 3)
        noise_rng_key, address_rng_key, latent_rng_key = rng_keys
        address_posterior = self._address_posterior(noise_rng_key, memory, embedding)
        address = _draw(address_rng_key, address_posterior)
        if climb_to is not None:
            address = self._climb(memory, address, address_posterior.base_dist.scale, climb_to)
        latent_prior = self._latent_prior(memory, address)
        latent_posterior = latent_prior
        if self.bottom_up:
            correction = distributions.diagonal_normal(
                self.latent_posterior(embedding, latent_prior.mean)
            )
            latent_posterior = dist.Normal(
                latent_prior.mean + correction.mean, jnp.sqrt(correction.variance)
            ).to_event(1)
        latent = _draw(latent_rng_key, latent_posterior)
        return Joint(
            address_prior=self._address_prior(),
            address_posterior=address_posterior,
            address=address,
            latent_prior=latent_prior,
            latent_posterior=latent_posterior,
            latent=latent,
            likelihood=self._decode(latent),
        )

    def _climb(
        self, memory: Any, address: chex.Array, scale: chex.Array, image: chex.Array
    ) -> chex.Array:
        """Moves y so that what is read there explains the image; each step is short."""

        def log_likelihood(address: chex.Array) -> chex.Array:
            likelihood = self._decode(self._latent_prior(memory, address).mean)
            return denoising.robust_log_prob(likelihood, image)

        def step(address: chex.Array, _: None) -> tuple[chex.Array, None]:
            move = scale * jax.grad(log_likelihood)(address)
            return address + scale * move / jnp.maximum(1.0, jnp.linalg.norm(move)), None

        return jax.lax.scan(step, address, length=_CLIMBING_STEPS)[0]

    def _decode(self, latent: chex.Array) -> dist.Distribution:
        return self.pixels(self.image_decoder(latent))

    def _address_prior(self) -> dist.Distribution:
        """p(y) of one image."""
        return distributions.standard_normal(self.address_latent_size)

    def _address_posterior(
        self, noise_rng_key: chex.PRNGKey | None, memory: Any, embedding: chex.Array
    ) -> dist.Distribution:
        """q(y|x), which may look at the memory; without a key, without noise."""
        del memory
        if noise_rng_key is not None:
            noise = jax.random.normal(noise_rng_key, embedding.shape, embedding.dtype)
            embedding = embedding + self.address_noise * noise
        return distributions.diagonal_normal(self.address_posterior(embedding), self.address_scale)


def _draw(rng_key: chex.PRNGKey | None, distribution: dist.Distribution) -> chex.Array:
    return distribution.mean if rng_key is None else distributions.draw(rng_key, distribution)


def _images(rng_key: chex.PRNGKey, likelihood: dist.Distribution) -> Images:
    return Images(likelihood.mean, distributions.draw(rng_key, likelihood))


def _check(model: EpisodicVAE) -> None:
    check_at_least_one(
        code_size=model.code_size,
        address_latent_size=model.address_latent_size,
        mlp_size=model.mlp_size,
        denoising_readings=model.denoising_readings,
    )
    for field in ("noise_var", "address_scale"):
        value = getattr(model, field)
        if value <= 0:
            raise UserError(f"{field} is {value}; it must be above 0")
    for field in ("address_noise", "kl_weight", "denoising_weight"):
        value = getattr(model, field)
        if value < 0:
            raise UserError(f"{field} is {value}; it must not be negative")
