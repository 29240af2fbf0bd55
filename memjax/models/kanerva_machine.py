"""The Kanerva Machine: a VAE whose prior reads a Gaussian memory, written by Bayes' rule.

Sources: Wu et al., The Kanerva Machine: A Generative Distributed Memory, 2018 (KM below). Wu et
al., Learning Attractor Dynamics for Generative Memory, 2018 (DKM). Pham et al., Generative
Pseudo-Inverse Memory, 2022 (GPM).
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.memory import kanerva
from memjax.memory.kanerva import KanervaState
from memjax.models.episodic import Encoded, EpisodicVAE
from memjax.nets import MLP, as_floats, distributions

MEMORY_MODES = ("mean", "sample", "distribution")
ADDRESSINGS = ("key", "least_squares", "pseudo_inverse")


class KanervaMachine(EpisodicVAE):
    """An `EpisodicVAE` with the memory of KM eqs. 4-6.

    Attributes, beside `EpisodicVAE`'s:
      num_slots: N, the rows of the memory.
      address_size: S, of the keys and of the address matrix's rows.
      diagonal: whether the memory's row covariance is diagonal (KM figure 10).
      memory_mode: one of `MEMORY_MODES`: read the memory's mean (the paper's), a sample of it, or
        its distribution, into which codes go with their variance too (KM appendix F).
      addressing: how weights are found. "key": from a learned key, KM eq. 5. "least_squares": each
        code is written at the weights that best explain it by the memory so far, DKM.
        "pseudo_inverse": codes are written, all at once, at the weights that best explain them by
        a learned matrix, into a memory without a mean, GPM. Both of these read by least squares:
        p(w) = N(0, I); q(w|x, M) is the best diagonal Gaussian where the code of x is w M and
        noise, whose variance is learned from `noise_var` on; z is what is read, so `bottom_up` is
        refused. Codes are what the encoder says, without a draw. Training adds log p(x|code).
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
        _check_least_squares(self)
        normal, zeros = nn.initializers.normal, nn.initializers.zeros
        shape = (self.num_slots, self.code_size)
        if self.addressing == "key":
            self.key = MLP((self.mlp_size,), self.address_size)
            key_shape = (self.num_slots, self.address_size)
            self.address_matrix = self.param("address_matrix", normal(1.0), key_shape)
        else:
            start = nn.initializers.constant(math.log(self.noise_var))
            self.noise_log_var = self.param("noise_log_var", start, ())
        if self.addressing == "pseudo_inverse":
            scale = self.num_slots**-0.5
            self.address_matrix = self.param("address_matrix", normal(scale), shape)
        else:
            self.memory_mean = self.param("memory_mean", normal(0.1), shape)
        self.memory_log_scale = self.param("memory_log_scale", zeros, (self.num_slots,))
        if not self.diagonal:
            self.memory_factor = self.param("memory_factor", zeros, (self.num_slots,) * 2)

    def memory_prior(self) -> KanervaState:
        """p(M): learned, its covariance positive definite by a Cholesky factor; KM eq. 4."""
        if self.addressing == "pseudo_inverse":
            mean = jnp.zeros((self.num_slots, self.code_size), jnp.float32)
        else:
            mean = jnp.copy(self.memory_mean)  # who donates the memory keeps the parameters
        scales = jnp.exp(self.memory_log_scale)
        if self.diagonal:
            return KanervaState(mean, jnp.square(scales))
        factor = jnp.tril(self.memory_factor, -1) + jnp.diag(scales)
        return KanervaState(mean, factor @ factor.T)

    def __call__(
        self,
        rng_key: chex.PRNGKey,
        query: chex.Array | Encoded,
        memory: KanervaState,
        *,
        train: bool,
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """As `EpisodicVAE`'s; with addresses by least squares, codes are trained to be decoded."""
        if self.addressing == "key":
            return super().__call__(rng_key, query, memory, train=train)
        noise_rng_key, rng_key = jax.random.split(rng_key)
        if not isinstance(query, Encoded):
            query = self.encode(noise_rng_key, as_floats("query", query), train=train)
        objective, metrics = super().__call__(rng_key, query, memory, train=train)
        if train:
            objective = objective + self._decode(_codes(query.embedding)).log_prob(query.image)
        return objective, metrics

    def weights(
        self, rng_key: chex.PRNGKey, query: chex.Array | Encoded, memory: KanervaState
    ) -> chex.Array:
        """Weights `[N]` by which one image `[H, W, C]` is read."""
        embedding = self._encoded("query", query).embedding
        return self._weights(self._sample_joint(rng_key, memory, embedding).address)

    def decode_weights(self, memory: KanervaState, read_weights: chex.Array) -> chex.Array:
        """The image `[H, W, C]` of what weights `[N]` read: the means all the way down."""
        return self._decode(kanerva.read(memory, read_weights)[0]).mean

    def write(
        self, rng_key: chex.PRNGKey, support: chex.Array | Encoded | None = None
    ) -> KanervaState:
        """The memory after an episode `[T, H, W, C]`, or, where there is none, before; KM eq. 8."""
        if support is None or self.addressing == "key":
            return super().write(rng_key, support)
        memory = self.memory_prior()
        codes = _codes(self._encoded("support", support).embedding)
        if self.addressing == "pseudo_inverse":
            addresses = KanervaState(self.address_matrix, memory.row_cov)
            memory = self._write_at(addresses, memory, codes)
        else:  # in their order

            def step(memory: KanervaState, code: chex.Array) -> tuple[KanervaState, None]:
                return self._write_at(memory, memory, code[None]), None

            memory = jax.lax.scan(step, memory, codes)[0]
        return self._drawn(rng_key, memory)

    def _write_at(
        self, addresses: KanervaState, memory: KanervaState, codes: chex.Array
    ) -> KanervaState:
        """Writes codes `[T, C]` into a memory at their weights in another, or in itself."""
        noise_var = jnp.exp(self.noise_log_var)
        write_weights = kanerva.least_squares_weights(addresses, codes, noise_var)
        return kanerva.write(memory, write_weights, codes, noise_var)

    def _drawn(self, rng_key: chex.PRNGKey, memory: KanervaState) -> KanervaState:
        """What is read of a memory: a draw of it, if that is the memory's mode."""
        if self.memory_mode != "sample":
            return memory
        return KanervaState(kanerva.sample(rng_key, memory), memory.row_cov)

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
        return self._drawn(memory_rng_key, memory)

    def memory_metrics(self, memory: KanervaState, num_images: int) -> dict[str, chex.Array]:
        """KL(q(M|X) || p(M)) for each image, a scalar in nats; KM eq. 12 has no such term."""
        if self.memory_mode == "sample":  # it is no distribution then
            return {}
        posterior, prior = jax.lax.stop_gradient((memory, self.memory_prior()))
        return {"kl_memory": kanerva.kl_divergence(posterior, prior) / num_images}

    def _latent_prior(self, memory: KanervaState, address: chex.Array) -> dist.Distribution:
        """p(z|y, M), KM eq. 6; or, over the memory's distribution, eq. 19; or what is read."""
        if self.addressing != "key":
            return distributions.point(kanerva.read(memory, address)[0])
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
        noise_var = jnp.exp(self.noise_log_var)
        # A pseudo-inverse `[C, N]` serves all queries: under `vmap` it is found once.
        identity = jnp.eye(self.code_size, dtype=memory.mean.dtype)
        loc = _codes(embedding) @ kanerva.least_squares_weights(memory, identity, noise_var)
        precision = 1.0 + jnp.sum(jnp.square(memory.mean), axis=-1) / noise_var
        return dist.Normal(loc, jax.lax.rsqrt(precision)).to_event(1)

    def _weights(self, address: chex.Array) -> chex.Array:
        """w `[..., N]` of y; KM eq. 5."""
        if self.addressing != "key":
            return address
        return kanerva.address_weights(self.key(address), self.address_matrix)


def _codes(embedding: chex.Array) -> chex.Array:
    """The codes `[..., C]` of embeddings, without a draw."""
    return distributions.diagonal_normal(embedding).mean


def _check_least_squares(model: KanervaMachine) -> None:
    """Refuses what needs a z that is drawn where z is what is read."""
    if model.addressing == "key":
        return
    if model.bottom_up:
        raise UserError(f"bottom_up is True; with addressing {model.addressing} it must be False")
    if model.memory_mode == "distribution":
        raise UserError(
            f"memory_mode is {model.memory_mode}; with addressing {model.addressing} it must be "
            "mean or sample"
        )
