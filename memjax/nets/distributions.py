"""Small conveniences over numpyro's distributions, shared by the models.

Parameters of any width, NumPy arrays and lists become float32 or wider: so do densities, which sum
over hundreds of pixels.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import check_one_of
from memjax.nets.inputs import as_floats

IMAGE_LIKELIHOODS = ("bernoulli", "gaussian")
# Where the log scales of Gaussian pixels in [0, 1] begin. From 0, Adam at 1e-3 would take thousands
# of steps to where they end, and the nets would learn for a noise that is not there.
INITIAL_LOG_SCALE = -2.0


class _Bernoulli(dist.BernoulliLogits):
    """numpyro's own has the gradient 0 or 1, not +-1/2, at a logit of 0, where a net may begin.

    What a pixel that is never on costs would then never be learned.
    """

    def log_prob(self, value: chex.Array) -> chex.Array:
        """log p `[...]` of values in [0, 1], whose shape broadcasts with the logits'."""
        return self.logits * value - jax.nn.softplus(self.logits)


class _Point(dist.Delta):
    """numpyro's own has log probabilities of JAX's default type."""

    def log_prob(self, value: chex.Array) -> chex.Array:
        """0 at the point, else -inf: `[...]`."""
        same = jnp.all(value == self.v, axis=-1)
        return jnp.where(same, 0.0, -jnp.inf).astype(self.v.dtype)


class _Channels(dist.Distribution):
    """The Gaussian over a pixel's channels of `channel_gaussian_image`.

    numpyro's `MultivariateNormal` solves with the factor, which takes ten times as long on a CPU.
    """

    support = dist.constraints.real_vector
    pytree_data_fields = ("loc", "scales", "coefficients")

    def __init__(self, loc: chex.Array, scales: chex.Array, coefficients: chex.Array):
        self.loc, self.scales, self.coefficients = loc, scales, coefficients
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self) -> chex.Array:
        """`[..., C]`."""
        return self.loc

    def log_prob(self, value: chex.Array) -> chex.Array:
        """log p `[...]` of values `[..., C]`."""
        errors = list(jnp.moveaxis(value - self.loc, -1, 0))
        densities = (
            jax.scipy.stats.norm.logpdf(error - self._explained(errors[:i]), scale=self.scales[i])
            for i, error in enumerate(errors)
        )
        return functools.reduce(jnp.add, densities)

    def draw(self, rng_key: chex.PRNGKey) -> chex.Array:
        """One sample `[..., C]`."""
        errors: list[chex.Array] = []
        noise = jax.random.normal(rng_key, self.loc.shape, self.loc.dtype)
        for i, new in enumerate(jnp.moveaxis(noise, -1, 0)):
            errors.append(self.scales[i] * new + self._explained(errors))
        return self.loc + jnp.stack(errors, axis=-1)

    def _explained(self, errors: list[chex.Array]) -> chex.Numeric:
        """What the errors of the first channels say of the next channel's."""
        first = math.comb(len(errors), 2)
        return sum(self.coefficients[first + i] * error for i, error in enumerate(errors))


def point(value: chex.Array) -> dist.Distribution:
    """All of the probability at one vector `[..., D]`, which needs no draw."""
    value = as_floats("value", value)
    return _Point(value, jnp.zeros(value.shape[:-1], value.dtype), event_dim=1)


def diagonal_normal(parameters: chex.Array, scale: chex.Numeric = 1.0) -> dist.Distribution:
    """A Gaussian with diagonal covariance from a net's `[..., 2 D]` outputs: loc, then log scale.

    The log scale saturates smoothly at -7 and 7, so that a wild step can't overflow a variance;
    `scale` is the one at zero, where a net begins.
    """
    loc, log_scale = jnp.split(as_floats("parameters", parameters), 2, axis=-1)
    return dist.Normal(loc, scale * jnp.exp(7.0 * jnp.tanh(log_scale / 7.0))).to_event(1)


def standard_normal(*shape: int) -> dist.Distribution:
    """N(0, I) over the last axis of `shape`; the axes before it are a batch."""
    return dist.Normal(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32)).to_event(1)


def repeat(distribution: dist.Distribution, num_samples: int) -> dist.Distribution:
    """The diagonal Gaussian with a new first axis of its batch shape: for L samples `[L, ...]`.

    numpyro would broadcast, which `jax_numpy_rank_promotion` "raise" refuses.
    """
    base = distribution.base_dist
    shape = (num_samples, *base.batch_shape)
    loc, scale = jnp.broadcast_to(base.loc, shape), jnp.broadcast_to(base.scale, shape)
    return dist.Normal(loc, scale).to_event(1)


def draw(rng_key: chex.PRNGKey, distribution: dist.Distribution) -> chex.Array:
    """One sample of a Gaussian or a point, with its gradient, or of a Bernoulli, in their type.

    numpyro draws in JAX's default type, gives integers for a Bernoulli, and takes no key of four
    numbers.
    """
    if isinstance(distribution, dist.Delta):
        return distribution.v
    base = distribution.base_dist
    if isinstance(base, _Channels):
        return base.draw(rng_key)
    if isinstance(base, dist.Normal):
        noise = jax.random.normal(rng_key, base.batch_shape, base.loc.dtype)
        return base.loc + noise * base.scale
    return jax.random.bernoulli(rng_key, base.probs).astype(base.probs.dtype)


def bernoulli_image(logits: chex.Array) -> dist.Distribution:
    """Independent Bernoulli pixels over images `[..., H, W, C]`."""
    return _Bernoulli(as_floats("logits", logits)).to_event(3)


def channel_gaussian_image(
    loc: chex.Array, log_scales: chex.Array, coefficients: chex.Array
) -> dist.Distribution:
    """Gaussian images `[..., H, W, C]`, whose channels have one covariance at all pixels.

    A channel's error is a weighted sum of the errors of the channels before it, and a new one.

    Args:
      loc: `[..., H, W, C]`.
      log_scales: `[C]`, of the new errors.
      coefficients: `[C (C - 1) / 2]`, the weights, those of the second channel first.
    """
    scales = jnp.exp(as_floats("log_scales", log_scales))
    coefficients = as_floats("coefficients", coefficients)
    return _Channels(as_floats("loc", loc), scales, coefficients).to_event(2)


def gaussian_image(loc: chex.Array, log_scale: chex.Array) -> dist.Distribution:
    """Independent Gaussians over images `[..., H, W, C]`; one scale, or one for each value."""
    scale = jnp.exp(as_floats("log_scale", log_scale))
    return dist.Normal(as_floats("loc", loc), scale).to_event(3)


def check_likelihood(likelihood: str) -> None:
    """Refuses a word that is not among `IMAGE_LIKELIHOODS`."""
    check_one_of("likelihood", likelihood, IMAGE_LIKELIHOODS)
