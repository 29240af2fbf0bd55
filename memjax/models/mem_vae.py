"""MEM-VAE: a VAE whose decoder reads learned memories; its VAE and IWAE twins, without slots.

Source: Li et al., Learning to Generate with Memory, 2016.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.models import gradients
from memjax.nets import (
    ImageFeatures,
    ImageOutputs,
    MemoryLayer,
    as_floats,
    check_images,
    distributions,
    image_to_vector,
)

_EPSILON = 1e-5  # under the square root of a variance


class MemVAE(nn.Module):
    """p(x) = integral p(z) p(x|z) dz, with one stochastic layer z; sections 3.3 and 4.

    The recognition net q(z|x) has layers of the same sizes as the decoder, and no memory. Layer 1
    is the nearest to the data, as in the paper's superscripts. In training, a datum is normalised
    with the batch that is mapped over `batch_axes`, which the training loop sets; elsewhere by
    running averages.

    Attributes:
      image_shape: (H, W, C).
      hidden_sizes: units of the deterministic layers 1, 2, ...
      latent_size: size of z.
      num_slots: of the decoder's layers 1, 2, ...; 0 for a layer without memory.
      attention: how slots are weighed, "sigmoid" or "softmax".
      composition: how what was read is combined with what asked, "mlp" or "sum".
      batch_norm: whether the deterministic layers are normalised.
      local_reconstruction: weight of the penalty on the difference between a decoder layer and its
        recognition layer, lambda of section 4; 0 for none.
      likelihood: "bernoulli", or "gaussian" with a scale for each pixel that the decoder gives.
      num_samples: L in training; 1 is the MEM-VAE, more is the MEM-IWAE.
      latent_gradient: of z: "standard", or without the score of q(z|x), "stl" or "dreg"; see
        `gradients.weigh`.
      batch_axes: names of the mapped axes that make up a batch.
      encoder: a net that makes features `[B, D]` of images `[B, H, W, C]`, for layer 1 of the
        recognition net; None: the pixels.
      decoder: a net in the place of the last linear layer, from the decoder's layer 1 `[B, D]` to
        `[B, H, W, C]`: logits, or a Gaussian's means.
    """

    image_shape: Sequence[int]
    hidden_sizes: Sequence[int] = (500, 500)
    latent_size: int = 100
    num_slots: Sequence[int] = (70, 30)
    attention: str = "sigmoid"
    composition: str = "mlp"
    batch_norm: bool = True
    local_reconstruction: float = 0.1
    likelihood: str = "bernoulli"
    num_samples: int = 1
    latent_gradient: str = "standard"
    batch_axes: Sequence[str] = ()
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None

    def setup(self):
        """Names the parameters; checks what the config says."""
        _check(self)
        glorot = nn.initializers.glorot_uniform()
        height, width, channels = self.image_shape
        num_pixels = height * width * channels
        if self.encoder is not None:
            self.image_features = ImageFeatures(self.encoder)
        self.recognition = [self._layer(size) for size in self.hidden_sizes]
        self.latent_posterior = nn.Dense(2 * self.latent_size, kernel_init=glorot)
        self.generation = [
            self._layer(size, num_slots)
            for size, num_slots in zip(self.hidden_sizes, self.num_slots, strict=True)
        ]
        if self.decoder is None:
            self.pixels: nn.Module = nn.Dense(num_pixels, kernel_init=glorot)
        else:
            self.pixels = ImageOutputs(self.decoder, self.image_shape)
        if self.likelihood == "gaussian":
            start = nn.initializers.constant(distributions.INITIAL_LOG_SCALE)
            self.pixel_log_scale = nn.Dense(num_pixels, kernel_init=glorot, bias_init=start)

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None = None) -> None:
        """None: the memory is the decoder's own, whatever the support `[N, H, W, C]` is."""
        del rng_key, support

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """The bound for one query `[H, W, C]`, less the penalty in training; metrics in nats.

        Section 4's objective, with its sign turned. `nll` is the bound's, without the penalty.
        """
        del memory
        query = _checked(query)
        posterior, recognized = self._recognize(query, train)
        prior = distributions.standard_normal(self.latent_size)
        samples = distributions.repeat(posterior, self.num_samples)
        latent = distributions.draw(rng_key, samples)
        likelihood, generated, _ = self._generate(latent, train)
        passes = [likelihood]  # the penalty's; a second one leaves the running averages alone

        def log_likelihood_of(latent: chex.Array) -> chex.Array:
            given = passes.pop() if passes else self._generate_again(latent, train)
            return given.log_prob(query[None])

        log_likelihood, log_weights = gradients.weigh(
            self.latent_gradient,
            log_likelihood_of,
            distributions.standard_normal(*latent.shape),
            samples,
            latent,
        )
        bound = estimators.iwae(log_weights)
        metrics = {
            "nll": -bound,
            "reconstruction": -jnp.mean(log_likelihood),
            "kl_latent": dist.kl_divergence(posterior, prior),
        }
        penalized = train and self.local_reconstruction and not self.is_initializing()
        return bound - (self._penalty(recognized, generated) if penalized else 0.0), metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x) of one query `[H, W, C]`, in nats: `[L]`."""
        del memory
        query = _checked(query)
        posterior = distributions.repeat(self._recognize(query)[0], num_samples)
        latent = distributions.draw(rng_key, posterior)
        log_joint = self.decode(latent).log_prob(query[None]) + _log_prior(latent)
        return log_joint - posterior.log_prob(latent)

    def generate(
        self, rng_key: chex.PRNGKey, memory: None = None, num_disabled: int = 0
    ) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|z) for z drawn from the prior.

        The memories of layers 1 to `num_disabled` are disabled; figure 6.
        """
        del memory
        prior = distributions.standard_normal(self.latent_size)
        return self.decode(distributions.draw(rng_key, prior), num_disabled).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        del memory
        query = _checked(query)
        latent = distributions.draw(rng_key, self._recognize(query)[0])
        return {"query": query, "reconstruction": self.decode(latent).mean}

    def decode(self, latent: chex.Array, num_disabled: int = 0) -> dist.Distribution:
        """p(x|z) for z `[..., latent size]`, without the memories of layers 1 to `num_disabled`."""
        return self._generate(latent, num_disabled=num_disabled)[0]

    def features(self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None) -> chex.Array:
        """The last deterministic layer of the recognition net, `[last hidden size]`; appendix A."""
        del rng_key, memory
        return self._recognize(_checked(query))[1][-1]

    def slot_activations(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: None = None
    ) -> dict[str, chex.Array]:
        """h_a `[N]` of "layer 1", ..., where there are slots, for z drawn from q(z|x); figure 3."""
        del memory
        latent = distributions.draw(rng_key, self._recognize(_checked(query))[0])
        activations = self._generate(latent)[2]
        return {f"layer {i}": a for i, a in enumerate(activations, 1) if a is not None}

    def slot_images(self, layer: int) -> chex.Array:
        """The mean images `[N, H, W, C]` for h_g zero and h_m one slot each; appendix D.

        Args:
          layer: 1 or more.
        """
        own = self.generation[layer - 1]
        hidden = own.combine(jnp.zeros_like(own.slots), own.slots)
        for below in reversed(self.generation[: layer - 1]):
            hidden, _ = below(hidden)
        return self._likelihood(hidden).mean

    def _layer(self, size: int, num_slots: int = 0) -> MemoryLayer:
        return MemoryLayer(
            size,
            num_slots,
            attention=self.attention,
            composition=self.composition,
            batch_norm=self.batch_norm,
            batch_axes=self.batch_axes,
        )

    def _recognize(
        self, query: chex.Array, train: bool = False
    ) -> tuple[dist.Distribution, list[chex.Array]]:
        """q(z|x) of an image, and the features of the layers 1, 2, ..."""
        pixels = self.encoder is None
        features = [image_to_vector(query) if pixels else self.image_features(query)]
        for layer in self.recognition:
            features.append(layer(features[-1], train=train)[0])
        return distributions.diagonal_normal(self.latent_posterior(features[-1])), features[1:]

    def _generate(
        self, latent: chex.Array, train: bool = False, num_disabled: int = 0
    ) -> tuple[dist.Distribution, list[chex.Array], list[chex.Array | None]]:
        """p(x|z), and the features and the slots' activations of the layers 1, 2, ..."""
        hidden, features, activations = as_floats("latent", latent), [], []
        for i, layer in reversed(list(enumerate(self.generation))):
            hidden, weights = layer(hidden, train=train, disabled=i < num_disabled)
            features.append(hidden)
            activations.append(weights)
        return self._likelihood(hidden), features[::-1], activations[::-1]

    def _generate_again(self, latent: chex.Array, train: bool) -> dist.Distribution:
        """p(x|z), without a trace in the running averages."""
        again = self.clone(parent=None).apply(
            self.variables, latent, train, method="_generate", mutable=["batch_stats"]
        )
        return again[0][0]

    def _likelihood(self, hidden: chex.Array) -> dist.Distribution:
        shape = (*hidden.shape[:-1], *self.image_shape)
        outputs = self.pixels(hidden).reshape(shape)
        if self.likelihood == "bernoulli":
            return distributions.bernoulli_image(outputs)
        return distributions.gaussian_image(outputs, self.pixel_log_scale(hidden).reshape(shape))

    def _penalty(self, recognized: list[chex.Array], generated: list[chex.Array]) -> chex.Array:
        """lambda sum_i |h_i - h^_i|^2 / D_i of the normalised features; section 4.

        Over D_i, as in the Ladder Network that lambda is from: the sum would outweigh the bound.
        """
        axes, penalty = tuple(self.batch_axes), jnp.zeros((), generated[0].dtype)
        for up, down in zip(recognized, generated, strict=True):
            pair = (up, jnp.mean(down, axis=0))
            if self.batch_norm and axes:
                pair = (_standardize(pair[0], axes), _standardize(pair[1], axes))
            penalty += jnp.mean(jnp.square(pair[0] - pair[1]))
        return self.local_reconstruction * penalty


def _checked(query: chex.Array) -> chex.Array:
    check_images(query)
    return as_floats("query", query)


def _log_prior(latent: chex.Array) -> chex.Array:
    """log p(z) of `[L, D]`."""
    return distributions.standard_normal(*latent.shape).log_prob(latent)


def _standardize(features: chex.Array, axes: tuple[str, ...]) -> chex.Array:
    """Features `[D]` of mean 0 and variance 1 over the batch."""
    centred = features - jax.lax.pmean(features, axes)
    return centred * jax.lax.rsqrt(jax.lax.pmean(jnp.square(centred), axes) + _EPSILON)


def _check(model: MemVAE) -> None:
    distributions.check_likelihood(model.likelihood)
    check_at_least_one(num_samples=model.num_samples, latent_size=model.latent_size)
    check_one_of("latent_gradient", model.latent_gradient, gradients.LATENT_GRADIENTS[:3])
    if not model.hidden_sizes or min(model.hidden_sizes) < 1:
        raise UserError(f"hidden_sizes is {tuple(model.hidden_sizes)}; it must be sizes above 0")
    if len(model.num_slots) != len(model.hidden_sizes):
        raise UserError(
            f"num_slots is {tuple(model.num_slots)}; it must have one entry for each of the layers "
            f"{tuple(model.hidden_sizes)}, 0 for a layer without memory"
        )
    if model.local_reconstruction < 0:
        raise UserError(
            f"local_reconstruction is {model.local_reconstruction}; it must not be negative"
        )
