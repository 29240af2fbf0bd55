"""Variational Memory Addressing: one sampled slot, then a conditional VAE on what it holds.

Source: Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax import estimators
from memjax.errors import UserError, check_at_least_one, check_one_of
from memjax.memory import addressing
from memjax.models import gradients, warmup
from memjax.nets import (
    MLP,
    ConditionalNets,
    DenseConditionalNets,
    ImageEncoder,
    ImageFeatures,
    ImageLikelihood,
    LearnedSlotNets,
    PyramidEncoder,
    add_uniform_noise,
    as_floats,
    distributions,
    image_to_vector,
)

_FEW_SLOTS = 256  # up to here, the features of every slot cost no more than those of every sample


class Memory(NamedTuple):
    """What a VMA's memory holds, and what is computed once for each slot."""

    contents: chex.Array  # [N, H, W, C], or [N, slot size] where it is learned
    embeddings: chex.Array  # [N, E], in the matching space
    prior_logits: chex.Array  # [N], of p(a)
    features: Any  # of each slot, what the nets see of it; None where they look at it when read


class AtAddresses(NamedTuple):
    """One posterior sample of z at each of several addresses, for one query."""

    log_likelihood: chex.Array  # [L], log p(x|m_a, z)
    log_weights: chex.Array  # [L], log p(x, z|m_a) - log q(z|m_a, x)
    kl_latent: chex.Array  # [L], KL(q(z|m_a, x) || p(z|m_a))


class Joint(NamedTuple):
    """L posterior samples of (a, z) for one query, and the terms of the bound; VMA eqs. 2-3."""

    samples: AtAddresses
    log_weights: chex.Array  # [L]
    address_log_probs: chex.Array  # [L], log q(a|x)
    kl_address: chex.Array  # scalar, KL(q(a|x) || p(a))


class VMA(nn.Module):
    """p(x|M) = sum_a p(a|M) integral p(z|m_a) p(x|z, m_a) dz; VMA eq. 1.

    The memory holds the support's images or, with `num_slots`, learned vectors. The nets are MLPs
    (VMA section 4.1), pyramids of convolutions (section 4.2) or your own; convolutions with learned
    slots are the Kanerva Machine's, and do not see the slots, see `LearnedSlotNets`.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      num_filters: of every convolution; 0 for MLPs.
      hidden_sizes: units of the encoder's hidden layers, in reverse for the decoder; with
        convolutions, of the MLPs beside or behind them.
      embedding_size: E, of the matching space. It is behind a hidden layer of `hidden_sizes[-1]`
        units; for images, with convolutions, behind a pyramid and its MLP or, beside learned slots,
        behind residual convolutions alone.
      similarity: one of `addressing.KINDS`.
      tied_embeddings: whether query and slots share one embedding net; the paper has two. If the
        similarity is normalised by the slot, a slot that equals the query then scores highest.
        Only for the support's images as contents.
      address_prior: p(a|M), "learned" or "flat".
      num_slots: 0 for the support's images as contents, else the number of learned slots.
      slot_size: size of a learned slot.
      slot_scale: standard deviation of the learned slots before training.
      zero_output: whether the decoder's last layer begins at zero, so that at first every slot and
        every z give the same image; it does not change a `decoder` of your own.
      likelihood: "bernoulli", or "gaussian", see `ImageLikelihood`.
      num_samples: L in training, at least 2.
      address_estimator: of the gradient in q(a|x), see `gradients.address_estimator`. "rloo" and
        "unordered_set" climb the ELBO: `nll` is then minus the ELBO in training, but minus the
        bound of L samples in evaluation, as for the others. Addresses of a set all differ, so L is
        at most N.
      latent_gradient: of the gradient in z, see `gradients.weigh`.
      kl_warmup_steps: steps over which log p(z|m_a) - log q(z|m_a, x) rises, in the training's
        objective alone, from `kl_warmup_start` of itself to the whole; 0 for none. An extension of
        the paper: learned slots would else do what z should.
      kl_warmup_start: where it begins.
      encoder: a net that makes features `[B, D]` of images `[B, H, W, C]`, both x and m, for the
        MLPs of p(z|m) and q(z|m, x); None: pixels, or convolutions.
      decoder: a net to replace ours, from the features of m and z `[B, D + latent_size]` to
        `[B, H, W, C]`: logits, or a Gaussian's means.
      embedding: a net to replace ours, from images `[B, H, W, C]` to features `[B, D]`; a linear
        layer to the matching space follows.
    """

    image_shape: Sequence[int]
    latent_size: int = 32
    num_filters: int = 0
    hidden_sizes: Sequence[int] = (256, 128)
    embedding_size: int = 128
    similarity: str = "key_normalized"
    tied_embeddings: bool = False
    address_prior: str = "learned"
    num_slots: int = 0
    slot_size: int = 256
    slot_scale: float = 1.0
    zero_output: bool = False
    likelihood: str = "bernoulli"
    num_samples: int = 4
    address_estimator: str = "auto"
    latent_gradient: str = "standard"
    kl_warmup_steps: int = 0
    kl_warmup_start: float = 0.1
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    embedding: nn.Module | None = None

    def setup(self):
        """Names the parameters; checks what the config says."""
        _check(self)
        hidden_sizes = tuple(self.hidden_sizes)
        if self.num_slots:
            self.slot_embedding: nn.Module = MLP(hidden_sizes[-1:], self.embedding_size)
        else:
            self.slot_embedding = self._image_embedding(self.embedding)
        if not self.tied_embeddings:
            own = self.embedding if self.num_slots else _copy(self.embedding)
            self.query_embedding = self._image_embedding(own)
        sizes = (tuple(self.image_shape), self.latent_size)
        if self.num_filters:
            nets = LearnedSlotNets if self.num_slots else ConditionalNets
            self.nets: nn.Module = nets(*sizes, self.num_filters, hidden_sizes, self.zero_output)
        else:
            self.nets = DenseConditionalNets(
                *sizes,
                hidden_sizes,
                likelihood=self.likelihood,
                direct=not self.num_slots,
                encoder=self.encoder,
                decoder=self.decoder,
                zero_output=self.zero_output,
            )
        self.pixels = ImageLikelihood(self.likelihood)
        self.steps = warmup.start(self)
        if self.address_prior == "learned":
            # Small, so that the prior begins nearly flat.
            init = nn.initializers.normal(0.01)
            self.prior_query = self.param("prior_query", init, (self.embedding_size,))
        if self.num_slots:
            init = nn.initializers.normal(self.slot_scale)
            self.memory = self.param("memory", init, (self.num_slots, self.slot_size))

    @property
    def addresses_support(self) -> bool:
        """Whether an address is an image of the support, and not a learned slot."""
        return not self.num_slots

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None = None) -> Memory:
        """The memory of a support `[N, H, W, C]`; or the learned memory, whatever the support.

        Raises:
          UserError: neither.
        """
        del rng_key
        if self.num_slots:
            contents, embeddings = jnp.copy(self.memory), self.slot_embedding(self.memory)
        elif support is None:
            raise UserError("num_slots is 0 and the episode has no support: the memory is empty")
        else:
            contents = as_floats("support", support)
            embeddings = self._embed(self.slot_embedding, contents)
        features = self._features(contents) if len(contents) <= _FEW_SLOTS else None
        return Memory(contents, embeddings, self._prior_logits(embeddings), features)

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Memory, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """VIMCO's objective for one query `[H, W, C]`, and metrics in nats."""
        query = as_floats("query", query)
        if train and self.likelihood == "gaussian":
            noise_rng_key, rng_key = jax.random.split(rng_key)
            query = add_uniform_noise(noise_rng_key, query)
        name = gradients.address_estimator(
            self.address_estimator,
            len(memory.prior_logits),
            self.num_samples,
            self.latent_gradient,
        )
        if not train and name in gradients.ELBO_ESTIMATORS:
            name = "vimco"  # all are compared by the same bound
        estimate: Callable[..., chex.Array]
        if name == "exact":
            joint, shares = self._enumerate_joint(rng_key, query, memory)
            estimate = partial(estimators.exact, num_samples=self.num_samples)
        else:
            estimate, draw = gradients.ADDRESS_ESTIMATORS[name], addressing.sample
            if name == "unordered_set":
                self._check_set(memory)
                draw = estimators.sample_without_replacement
            joint = self._sample_joint(rng_key, query, memory, self.num_samples, draw)
            shares = jnp.full(self.num_samples, 1 / self.num_samples)
            if name == "unordered_set":  # each address weighs as often as it would be drawn first
                weigh = jax.grad(estimate)
                shares = jax.lax.stop_gradient(weigh(joint.log_weights, joint.address_log_probs))
        bound = objective = estimate(joint.log_weights, joint.address_log_probs)
        if train and self.kl_warmup_steps:
            log_ratio = joint.samples.log_weights - joint.samples.log_likelihood
            scale = warmup.kl_scale(self, self.steps, 1.0, train)
            log_weights = joint.log_weights + (scale - 1.0) * log_ratio
            objective = estimate(log_weights, joint.address_log_probs)
        metrics = {
            "nll": -bound,
            "reconstruction": -shares @ joint.samples.log_likelihood,
            "kl_address": joint.kl_address,
            "kl_latent": shares @ joint.samples.kl_latent,
            "address_prior_entropy": dist.Categorical(logits=memory.prior_logits).entropy(),
        }
        return objective, metrics

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Memory, num_samples: int
    ) -> chex.Array:
        """Importance weights for log p(x|M) of one query `[H, W, C]`, in nats: `[L]`."""
        query = as_floats("query", query)
        return self._sample_joint(rng_key, query, memory, num_samples).log_weights

    def generate(self, rng_key: chex.PRNGKey, memory: Memory) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|m_a, z) for a, z drawn from the prior."""
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        addresses, _ = addressing.sample(address_rng_key, memory.prior_logits, 1)
        return self.generate_at(latent_rng_key, memory, addresses[0])

    def generate_at(self, rng_key: chex.PRNGKey, memory: Memory, address: chex.Array) -> chex.Array:
        """The mean image `[H, W, C]` of p(x|m_a, z) for z drawn from the prior at one address."""
        slot = self._read(memory, address)
        return self._decode(slot, distributions.draw(rng_key, self.nets.prior(slot))).mean

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Memory
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]` that show what the model made of one query."""
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        query = as_floats("query", query)
        addresses, _ = addressing.sample(address_rng_key, self._posterior_logits(query, memory), 1)
        slot = self._read(memory, addresses[0])
        latent = distributions.draw(latent_rng_key, self.nets.posterior(slot, query))
        pictures = {"query": query}
        if not self.num_slots:
            pictures["read slot"] = addressing.lookup(memory.contents, addresses[0])
        return pictures | {"reconstruction": self._decode(slot, latent).mean}

    def address_logits(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Memory
    ) -> chex.Array:
        """The logits `[N]` of q(a|x) for one query `[H, W, C]`."""
        del rng_key
        return self._posterior_logits(as_floats("query", query), memory)

    def address_log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Memory
    ) -> chex.Array:
        """log p(x, z, a) - log q(z|m_a, x) `[N]`, one z for each slot, for one query `[H, W, C]`.

        Their exponentials are unbiased estimates of p(x, a): normalised, of p(a|x).
        """
        query = as_floats("query", query)
        slots = self._read(memory, jnp.arange(len(memory.prior_logits)))
        log_weights = self._sample_latent(rng_key, query, slots).log_weights
        return jax.nn.log_softmax(memory.prior_logits) + log_weights

    def _check_set(self, memory: Memory) -> None:
        if self.num_samples > len(memory.prior_logits):
            raise UserError(
                f"num_samples is {self.num_samples}; with address_estimator 'unordered_set' it "
                f"must be at most the memory's slots, {len(memory.prior_logits)}"
            )

    def _sample_joint(self, rng_key, query, memory, num_samples, draw=addressing.sample) -> Joint:
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        posterior_logits = self._posterior_logits(query, memory)
        addresses, address_log_probs = draw(address_rng_key, posterior_logits, num_samples)
        return self._joint(
            latent_rng_key, query, memory, addresses, posterior_logits, address_log_probs
        )

    def _enumerate_joint(self, rng_key, query, memory) -> tuple[Joint, chex.Array]:
        """A sample of z at every address; and q(a|x) `[N]`."""
        posterior_logits = self._posterior_logits(query, memory)
        log_probs = jax.nn.log_softmax(posterior_logits)
        addresses = jnp.arange(len(log_probs))
        joint = self._joint(rng_key, query, memory, addresses, posterior_logits, log_probs)
        return joint, jax.lax.stop_gradient(jnp.exp(log_probs))

    def _joint(self, rng_key, query, memory, addresses, posterior_logits, log_probs) -> Joint:
        log_ratio = jax.nn.log_softmax(memory.prior_logits)[addresses] - log_probs
        samples = self._sample_latent(rng_key, query, self._read(memory, addresses), log_ratio)
        return Joint(
            samples=samples,
            log_weights=samples.log_weights + log_ratio,
            address_log_probs=log_probs,
            kl_address=addressing.kl_divergence(posterior_logits, memory.prior_logits),
        )

    def _sample_latent(
        self, rng_key: chex.PRNGKey, query: chex.Array, slots: Any, log_ratio: chex.Numeric = 0.0
    ) -> AtAddresses:
        prior, posterior = self.nets.prior(slots), self.nets.posterior(slots, query)
        log_likelihood, log_weights = gradients.weigh(
            self.latent_gradient,
            lambda latent: self._decode(slots, latent).log_prob(query[None]),
            prior,
            posterior,
            distributions.draw(rng_key, posterior),
            log_ratio,
        )
        return AtAddresses(log_likelihood, log_weights, dist.kl_divergence(posterior, prior))

    def _read(self, memory: Memory, addresses: chex.Array) -> Any:
        if memory.features is not None:
            return addressing.lookup(memory.features, addresses)
        return self._features(addressing.lookup(memory.contents, addresses))

    def _features(self, contents: chex.Array) -> Any:
        see = self.nets.vector_features if self.num_slots else self.nets.image_features
        return see(contents)

    def _image_embedding(self, net: nn.Module | None) -> nn.Module:
        """From images, or their pixels where it is an MLP; see `_embed`."""
        if net is not None:
            return ImageFeatures(net, self.embedding_size, field="embedding")
        if self.num_filters and self.num_slots:
            return ImageEncoder(self.embedding_size, self.num_filters)
        if self.num_filters:
            return PyramidEncoder(self.embedding_size, self.num_filters, tuple(self.hidden_sizes))
        return MLP(tuple(self.hidden_sizes)[-1:], self.embedding_size)

    def _embed(self, embedding: nn.Module, images: chex.Array) -> chex.Array:
        pixels = not self.num_filters and self.embedding is None
        return embedding(image_to_vector(images) if pixels else images)

    def _posterior_logits(self, query: chex.Array, memory: Memory) -> chex.Array:
        embedding = self.slot_embedding if self.tied_embeddings else self.query_embedding
        embedded = self._embed(embedding, query)
        return addressing.similarity(embedded, memory.embeddings, self.similarity)

    def _prior_logits(self, slot_embeddings: chex.Array) -> chex.Array:
        if self.address_prior == "flat":
            return jnp.zeros(len(slot_embeddings), slot_embeddings.dtype)
        return addressing.similarity(self.prior_query, slot_embeddings, self.similarity)

    def _decode(self, slots: Any, latent: chex.Array) -> dist.Distribution:
        return self.pixels(self.nets.decode(slots, latent))


def _copy(net: nn.Module | None) -> nn.Module | None:
    """With parameters of its own."""
    return None if net is None else net.clone(parent=None, name=None)


def _check(model: VMA) -> None:
    """Refuses what the config can't say."""
    check_at_least_one(latent_size=model.latent_size)
    if model.num_samples < 2:
        raise UserError(f"num_samples is {model.num_samples}; VIMCO needs at least 2")
    if model.num_slots < 0:
        raise UserError(f"num_slots is {model.num_slots}; it must be 0 (the support) or more")
    if not 0.0 < model.slot_scale < math.inf:
        raise UserError(f"slot_scale is {model.slot_scale}; it must be above 0 and finite")
    if model.tied_embeddings and model.num_slots:
        raise UserError(f"tied_embeddings needs num_slots 0 (the support); it is {model.num_slots}")
    if model.address_prior not in ("learned", "flat"):
        raise UserError(f"address_prior is {model.address_prior!r}; it must be 'learned' or 'flat'")
    if model.num_filters and (model.encoder is not None or model.decoder is not None):
        raise UserError(
            f"num_filters is {model.num_filters}; beside an encoder or a decoder it must be 0"
        )
    gradients.check(model.address_estimator, model.latent_gradient)
    if model.kl_warmup_steps and model.latent_gradient in ("dreg", "gdreg"):  # of whole weights
        raise UserError(
            f"latent_gradient is {model.latent_gradient!r}; with kl_warmup_steps it must be "
            "'standard' or 'stl'"
        )
    check_one_of("similarity", model.similarity, addressing.KINDS)
