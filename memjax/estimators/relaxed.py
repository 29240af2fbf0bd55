"""Estimators that need the bound where addresses are mixed, or what its gradient there says.

`gumbel_softmax`, `gumbel_rao` and `reinmax` give one-hot addresses, or nearly, with a gradient in
the logits: `y @ contents` stands for a read slot, and the bound of it is climbed as `iwae`'s.
They are biased. `relax` takes the bound as a function, and is not. Sources: Jang et al. and
Maddison et al. 2017; Paulus et al. 2021; Liu et al. 2023; Tucker et al. 2017; Grathwohl et al.
2018.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks


def gumbel_softmax(
    rng_key: chex.PRNGKey,
    address_logits: chex.Array,
    num_samples: int,
    temperature: chex.Numeric = 1.0,
    *,
    straight_through: bool = False,
) -> chex.Array:
    """Relaxed one-hot addresses; Jang et al. 2017, Maddison et al. 2017.

        y = softmax((address_logits + Gumbel noise) / temperature)

    `y @ contents` stands for a read slot, and the pathwise gradient through y for the score's: use
    `iwae` on the log weights that come of it. Biased for the categorical model, less at lower
    temperature, where the variance grows. Straight-through, y is the exact one-hot sample,
    a ~ q(a), and only the gradient is the relaxed one's.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`; a slot at -inf gets no weight.
      num_samples: L, at least 1.
      temperature: positive scalar.
      straight_through: whether the value is one-hot.

    Returns:
      `[L, N]`, rows that sum to 1.

    Raises:
      ValueError: no slots, a batch of logits, `num_samples` below 1, or a temperature that is not
        positive.
    """
    address_logits, temperature, dtype = _checked(address_logits, num_samples, temperature)
    shape = (num_samples, len(address_logits))
    perturbed = address_logits[None, :] + jax.random.gumbel(rng_key, shape, address_logits.dtype)
    relaxed = _softmax(perturbed, temperature)
    if not straight_through:
        return relaxed.astype(dtype)
    return _straight_through(_one_hot(perturbed), relaxed).astype(dtype)


def gumbel_rao(
    rng_key: chex.PRNGKey,
    address_logits: chex.Array,
    num_samples: int,
    temperature: chex.Numeric = 1.0,
    *,
    num_noises: int = 16,
) -> chex.Array:
    """Straight-through `gumbel_softmax` whose gradient is a mean over noises; Paulus et al. 2021.

    Many noises give the same one-hot sample. The relaxation's gradient is averaged over
    `num_noises` of them, drawn given the sample (GR-MC), at no further evaluation of the bound:
    the bias stays, and the variance falls.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`; a slot at -inf gets no weight.
      num_samples: L, at least 1.
      temperature: positive scalar.
      num_noises: at least 1.

    Returns:
      `[L, N]`, one-hot rows.

    Raises:
      ValueError: as `gumbel_softmax`; `num_noises` below 1.
    """
    address_logits, temperature, dtype = _checked(address_logits, num_samples, temperature)
    checks.at_least("num_noises", num_noises)
    address_rng_key, noise_rng_key = jax.random.split(rng_key)
    hard = _sample(address_rng_key, address_logits, num_samples)
    log_probs = jax.nn.log_softmax(address_logits)
    moved = jnp.where(log_probs > -jnp.inf, log_probs, 0.0)
    moved = moved - jax.lax.stop_gradient(moved)  # zero, with the logits' gradient

    def relax_again(rng_key: chex.PRNGKey) -> chex.Array:
        given = jax.lax.stop_gradient(_perturbed_given(rng_key, log_probs, hard))
        return _softmax(given + moved[None, :], temperature)

    relaxed = jnp.mean(jax.vmap(relax_again)(jax.random.split(noise_rng_key, num_noises)), axis=0)
    return _straight_through(hard, relaxed).astype(dtype)


def reinmax(
    rng_key: chex.PRNGKey,
    address_logits: chex.Array,
    num_samples: int,
    temperature: chex.Numeric = 1.0,
) -> chex.Array:
    """One-hot addresses with a gradient that is right to second order; Liu et al. 2023, alg. 2.

    With J(p) = diag(p) - p p', the derivative of a softmax p, and y the sample,

        d y = (2 J((y + softmax(address_logits / temperature)) / 2)
               - J(softmax(address_logits)) / 2) d address_logits,

    Heun's rule, which for a quadratic bound and temperature 1 has no bias.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`; a slot at -inf gets no weight.
      num_samples: L, at least 1.
      temperature: positive scalar; the paper's are 1 and above.

    Returns:
      `[L, N]`, one-hot rows.

    Raises:
      ValueError: as `gumbel_softmax`.
    """
    address_logits, temperature, dtype = _checked(address_logits, num_samples, temperature)
    hard = _sample(rng_key, address_logits, num_samples)
    logits = address_logits[None, :]
    moved = jnp.where(logits > -jnp.inf, logits, 0.0)
    moved = moved - jax.lax.stop_gradient(moved)  # zero, with the logits' gradient

    def along(probs: chex.Array) -> chex.Array:
        """Zero, with the gradient J(probs) d address_logits."""
        return probs * (moved - jnp.sum(probs * moved, axis=1, keepdims=True))

    probs = jax.lax.stop_gradient(_softmax(logits, 1.0))
    middle = 0.5 * (hard + jax.lax.stop_gradient(_softmax(logits, temperature)))
    return (hard + 2.0 * along(middle) - 0.5 * along(probs)).astype(dtype)


def relax(
    rng_key: chex.PRNGKey,
    bound: Callable[[chex.Array], chex.Array],
    control: Callable[[chex.Array], chex.Array],
    address_logits: chex.Array,
    num_samples: int,
) -> chex.Array:
    """Any bound of one-hot addresses, with RELAX's gradient; Grathwohl et al. 2018.

    With h = log q(a) + Gumbel noise, y the one-hot addresses of its largest, and h' the same noise
    drawn anew given y, value and gradient in the logits are

        bound(y),  (bound(y) - control(h')) d log q(y) + d control(h) - d control(h').

    Unbiased for any smooth `control`, and quiet as far as it is like the bound.
    `lambda h: scale * bound(jax.nn.softmax(h / temperature))` makes it REBAR (Tucker et al. 2017),
    at three evaluations of the bound instead of one. A control that is a net learns from the
    square of this function's own gradient, which is an estimate of the variance's.

    Args:
      rng_key: a JAX random key.
      bound: from one-hot addresses `[L, N]` to a scalar in nats; its own parameters get their
        gradient.
      control: from perturbed log probabilities `[L, N]` to a scalar; its parameters get none.
      address_logits: `[N]`, finite.
      num_samples: L, at least 1.

    Returns:
      The bound of the sample, a scalar.

    Raises:
      ValueError: no slots, a batch of logits, `num_samples` below 1, a bound or a control that is
        no scalar.
    """
    (address_logits,), dtype = checks.reals(address_logits=address_logits)
    checks.draws(address_logits, num_samples)
    noise_rng_key, again_rng_key = jax.random.split(rng_key)
    log_probs = jax.nn.log_softmax(address_logits)
    shape = (num_samples, len(address_logits))
    perturbed = log_probs[None, :] + jax.random.gumbel(noise_rng_key, shape, log_probs.dtype)
    hard = _one_hot(perturbed)
    again = _perturbed_given(again_rng_key, log_probs, hard)

    value = jnp.asarray(bound(hard))
    guess, slope_again = jax.value_and_grad(control)(jax.lax.stop_gradient(again))
    slope = jax.grad(control)(jax.lax.stop_gradient(perturbed))
    checks.shape("bound(addresses)", value, ())

    def moved(x: chex.Array) -> chex.Array:
        return x - jax.lax.stop_gradient(x)

    surprise = jax.lax.stop_gradient(value) - guess
    change = surprise * moved(jnp.sum(hard * log_probs[None, :]))
    change += jnp.sum(slope * moved(perturbed)) - jnp.sum(slope_again * moved(again))
    return (value + change).astype(dtype)


def _checked(address_logits, num_samples, temperature):
    """Logits and temperature in float32 or wider, see `addressing.sample`; the results' type."""
    arrays, dtype = checks.reals(address_logits=address_logits, temperature=temperature)
    checks.draws(arrays[0], num_samples)
    checks.shape("temperature", arrays[1], ())
    checks.positive("temperature", arrays[1])
    return *arrays, dtype


def _softmax(perturbed: chex.Array, temperature: chex.Numeric) -> chex.Array:
    # Both sides of a `where` are differentiated: the temperature does not act on infinities.
    possible = perturbed > -jnp.inf
    scaled = jnp.where(possible, perturbed, 0.0) / temperature
    return jax.nn.softmax(jnp.where(possible, scaled, -jnp.inf), axis=1)


def _one_hot(perturbed: chex.Array) -> chex.Array:
    return jax.nn.one_hot(jnp.argmax(perturbed, axis=1), perturbed.shape[1], dtype=perturbed.dtype)


def _sample(rng_key: chex.PRNGKey, address_logits: chex.Array, num_samples: int) -> chex.Array:
    shape = (num_samples, len(address_logits))
    noise = jax.random.gumbel(rng_key, shape, address_logits.dtype)
    return _one_hot(address_logits[None, :] + noise)


def _straight_through(hard: chex.Array, relaxed: chex.Array) -> chex.Array:
    return hard + (relaxed - jax.lax.stop_gradient(relaxed))


def _perturbed_given(rng_key: chex.PRNGKey, log_probs: chex.Array, hard: chex.Array) -> chex.Array:
    """log q(a) + Gumbel noise `[L, N]`, given where each row is largest; Maddison et al. 2014.

    The largest is Gumbel-distributed itself, -log E for an exponential E; another is
    -log(E' / q(a) + E), cut off at the largest. Differentiable in `log_probs` `[N]`.
    """
    waits = jax.random.exponential(rng_key, hard.shape, hard.dtype)
    waits = jnp.maximum(waits, jnp.finfo(hard.dtype).tiny)
    largest = jnp.sum(hard * waits, axis=1, keepdims=True)
    possible = log_probs[None, :] > -jnp.inf
    log_probs = jnp.where(possible, log_probs[None, :], 0.0)
    others = -jnp.logaddexp(jnp.log(waits) - log_probs, jnp.log(largest))
    perturbed = jnp.where(hard > 0, -jnp.log(largest), others)
    return jnp.where(possible, perturbed, -jnp.inf)
