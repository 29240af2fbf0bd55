"""How a bound's gradient reaches addresses and latents: choices that several models share.

Sources: Roeder et al. 2017 (sticking the landing); Tucker et al. 2019 (DReG); Bauer and Mnih 2021
(GDReG, for priors that learn); of the addresses' estimators see `memjax.estimators`.
"""

import math
from collections.abc import Callable
from functools import partial

import chex
import jax
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError, check_one_of

# Of the multi-sample bound, and of the ELBO.
BOUND_ESTIMATORS: dict[str, Callable[..., chex.Array]] = {
    "vimco": estimators.vimco,
    "geometric": partial(estimators.vimco, baseline="geometric"),
    "ovis": estimators.ovis,
}
ELBO_ESTIMATORS: dict[str, Callable[..., chex.Array]] = {
    "rloo": estimators.rloo,
    "unordered_set": estimators.unordered_set,
}
ADDRESS_ESTIMATORS = BOUND_ESTIMATORS | ELBO_ESTIMATORS
# "gdreg" is for priors that learn; the others' is "dreg".
LATENT_GRADIENTS = ("standard", "stl", "dreg", "gdreg")
_MANY_DRAWS = 10_000  # multisets of an enumeration; up to here it costs less than decodes


def weigh(
    latent_gradient: str,
    log_likelihood: Callable[[chex.Array], chex.Array],
    prior: dist.Distribution,
    posterior: dist.Distribution,
    latent: chex.Array,
    log_others: chex.Numeric = 0.0,
) -> tuple[chex.Array, chex.Array]:
    """log p(x|z) and log p(x, z) - log q(z|x) of L latents, with the gradient that is asked for.

    Args:
      latent_gradient: "standard", the whole reparameterised gradient; "stl", without the score of
        q(z|x), which for several samples is biased; "dreg" or "gdreg", without it and unbiased, for
        whatever weighs the samples by their normalised weights.
      log_likelihood: from latents `[L, D]` to log p(x|z) `[L]`.
      prior: p(z), a diagonal Gaussian for each of L.
      posterior: q(z|x), the same.
      latent: `[L, D]`, samples of the posterior, reparameterised.
      log_others: `[L]`, what comes to the log weights from elsewhere.

    Returns:
      log_likelihood: `[L]`.
      log_weights: `[L]`, without `log_others`.
    """

    def terms(for_likelihood, for_densities, prior, posterior):
        likelihood = log_likelihood(for_likelihood)
        ratio = prior.log_prob(for_densities) - posterior.log_prob(for_densities)
        return likelihood, likelihood + ratio

    if latent_gradient == "standard":
        return terms(latent, latent, prior, posterior)
    held = hold(posterior)
    if latent_gradient == "stl" or (latent_gradient == "dreg" and len(latent) == 1):
        return terms(latent, latent, prior, held)
    log_weights = terms(latent, latent, prior, posterior)[1] + log_others
    if latent_gradient == "dreg":
        latent = estimators.dreg(log_weights, latent)
        return terms(latent, latent, prior, held)
    base = prior.base_dist
    noise = jax.lax.stop_gradient((latent - base.loc) / base.scale)
    both = estimators.gdreg(log_weights, latent, base.loc + base.scale * noise)
    return terms(*both, hold(prior), held)


def address_estimator(
    name: str, num_slots: int, num_samples: int, latent_gradient: str = "standard"
) -> str:
    """Which of `ADDRESS_ESTIMATORS`, or "exact", the enumeration by one z for each slot.

    "auto" is exact where a memory has no more slots than would be sampled, and VIMCO elsewhere, or
    where the latents' gradient needs the samples' weights.
    """
    if name != "auto":
        return name
    num_draws = math.comb(num_slots + num_samples - 1, num_samples)
    is_cheap = num_slots <= num_samples and num_draws <= _MANY_DRAWS
    return "exact" if is_cheap and latent_gradient in ("standard", "stl") else "vimco"


def check(address_estimator: str, latent_gradient: str) -> None:
    """Refuses, in one line, words that are unknown or do not go together."""
    check_one_of("address_estimator", address_estimator, ("auto", "exact", *ADDRESS_ESTIMATORS))
    check_one_of("latent_gradient", latent_gradient, LATENT_GRADIENTS)
    # These want the weights that the bound gives its samples.
    if latent_gradient in ("dreg", "gdreg") and address_estimator in ("exact", *ELBO_ESTIMATORS):
        raise UserError(
            f"latent_gradient is {latent_gradient!r}; beside address_estimator "
            f"{address_estimator!r} it must be 'standard' or 'stl'"
        )


def hold(distribution: dist.Distribution) -> dist.Distribution:
    """The diagonal Gaussian, of scalars `[..., D]`, with parameters that get no gradient."""
    base = distribution.base_dist
    return dist.Normal(*jax.lax.stop_gradient((base.loc, base.scale))).to_event(1)
