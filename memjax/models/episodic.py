"""A VAE whose prior reads a memory that an episode was written into; the memory is a subclass's.

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

from memjax.errors import UserError, check_at_least_one
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
    Reading draws its own y, apart from the one by which the image was written: with one draw for
    both, y would be a free random key that costs nothing. q(z|x, y, M) is the memory's prior moved
    by what a net makes of x and of the prior's mean. Wherever an image stands, what `encode` gave
    for it may stand too, so that one that is written and read is encoded once.

    A subclass says what the memory is: a pytree that `memory_prior` begins, `_write_codes` fills
    and `_latent_prior` reads.

    Attributes:
      image_shape: (H, W, C).
      code_size: C, of z and of what the memory holds.
      address_latent_size: size of y.
      num_filters: of the convolutions; 0 for MLPs.
      hidden_sizes: the MLP encoder's, if that is what it is; the decoder has them in reverse.
      mlp_size: hidden units of the nets between the vectors.
      likelihood: "bernoulli", or "gaussian" with one learned scale.
      noise_var: sigma^2 of p(z|y, M), KM eq. 6.
      bottom_up: whether q(z|x, y, M) sees x; without, z is drawn from p(z|y, M), as where memories
        are compared (KM appendix D).
      address_noise: standard deviation of the noise into q(y|x), against overfitting.
      address_scale: where the standard deviation of q(y|x) starts. At 1, the prior's, an image is
        read at other weights than it was written by, and training forgets the memory.
      kl_warmup_steps: steps over which both KL terms of the objective rise from
        `kl_warmup_start` to 1; 0 for none. Metrics are never scaled.
      kl_warmup_start: where they begin.
      encoder: a net in the place of ours, from images `[B, H, W, C]` to features `[B, D]`; a linear
        layer follows.
      decoder: a net in the place of ours, from z `[B, code_size]` to `[B, H, W, C]`: logits, or a
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
        """What is worth knowing of a memory of `num_images`, beside the bound; in nats."""
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
        if self.kl_warmup_steps:
            self.steps = self.variable("schedule", "steps", lambda: jnp.zeros((), jnp.float32))

    def encode(self, rng_key: chex.PRNGKey, image: chex.Array, *, train: bool = False) -> Encoded:
        """What stands in the place of one image `[H, W, C]`, or of an episode of them."""
        image = as_floats("image", image)
        if train and self.likelihood == "gaussian":
            image = add_uniform_noise(rng_key, image)
        return self._encoded("image", image)

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | Encoded | None = None) -> Any:
        """The memory after an episode `[T, H, W, C]`; KM eq. 8, by one sample of y and z.

        Or, where there is none, before anything is written.
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
        """The bound (KM eq. 12) of one image `[H, W, C]` of what is written; metrics in nats."""
        noise_rng_key, read_rng_key = jax.random.split(rng_key)
        if not isinstance(query, Encoded):
            query = self.encode(noise_rng_key, as_floats("query", query), train=train)
        joint = self._sample_joint(read_rng_key, memory, query.embedding)
        reconstruction = -joint.likelihood.log_prob(query.image)
        kl_address = dist.kl_divergence(joint.address_posterior, joint.address_prior)
        kl_latent = dist.kl_divergence(joint.latent_posterior, joint.latent_prior)
        objective = -reconstruction - self._kl_scale(train) * (kl_address + kl_latent)
        metrics = {
            "nll": reconstruction + kl_address + kl_latent,
            "reconstruction": reconstruction,
            "kl_address": kl_address,
            "kl_latent": kl_latent,
        }
        return objective, metrics

    def read(self, rng_key: chex.PRNGKey, query: chex.Array | Encoded, memory: Any) -> Images:
        """One iteration of reading (KM algorithm 1) at one image `[H, W, C]`."""
        joint_rng_key, sample_rng_key = jax.random.split(rng_key)
        embedding = self._encoded("query", query).embedding
        joint = self._sample_joint(joint_rng_key, memory, embedding)
        return _images(sample_rng_key, joint.likelihood)

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

    def _sample_joint(self, rng_key: chex.PRNGKey, memory: Any, embedding: chex.Array) -> Joint:
        """Draws y and z for an image, which the memory holds or nearly holds; KM eq. 7."""
        noise_rng_key, address_rng_key, latent_rng_key = jax.random.split(rng_key, 3)
        address_posterior = self._address_posterior(noise_rng_key, memory, embedding)
        address = distributions.draw(address_rng_key, address_posterior)
        latent_prior = self._latent_prior(memory, address)
        latent_posterior = latent_prior
        if self.bottom_up:
            correction = distributions.diagonal_normal(
                self.latent_posterior(embedding, latent_prior.mean)
            )
            latent_posterior = dist.Normal(
                latent_prior.mean + correction.mean, jnp.sqrt(correction.variance)
            ).to_event(1)
        latent = distributions.draw(latent_rng_key, latent_posterior)
        return Joint(
            address_prior=self._address_prior(),
            address_posterior=address_posterior,
            address=address,
            latent_prior=latent_prior,
            latent_posterior=latent_posterior,
            latent=latent,
            likelihood=self._decode(latent),
        )

    def _decode(self, latent: chex.Array) -> dist.Distribution:
        return self.pixels(self.image_decoder(latent))

    def _address_prior(self) -> dist.Distribution:
        """p(y) of one image."""
        return distributions.standard_normal(self.address_latent_size)

    def _address_posterior(
        self, noise_rng_key: chex.PRNGKey, memory: Any, embedding: chex.Array
    ) -> dist.Distribution:
        """q(y|x), which may look at the memory."""
        del memory
        noise = jax.random.normal(noise_rng_key, embedding.shape, embedding.dtype)
        return distributions.diagonal_normal(
            self.address_posterior(embedding + self.address_noise * noise), self.address_scale
        )

    def _kl_scale(self, train: bool) -> chex.Numeric:
        if not self.kl_warmup_steps:
            return 1.0
        steps = self.steps.value
        if train and not self.is_initializing():
            self.steps.value = steps + 1.0
        rise = (1.0 - self.kl_warmup_start) * steps / self.kl_warmup_steps
        return jnp.minimum(1.0, self.kl_warmup_start + rise)


def _images(rng_key: chex.PRNGKey, likelihood: dist.Distribution) -> Images:
    return Images(likelihood.mean, distributions.draw(rng_key, likelihood))


def _check(model: EpisodicVAE) -> None:
    check_at_least_one(
        code_size=model.code_size,
        address_latent_size=model.address_latent_size,
        mlp_size=model.mlp_size,
    )
    for field in ("noise_var", "address_scale"):
        value = getattr(model, field)
        if value <= 0:
            raise UserError(f"{field} is {value}; it must be above 0")
    if model.address_noise < 0:
        raise UserError(f"address_noise is {model.address_noise}; it must not be negative")
