"""The contract of a model, and of what some models can do beyond it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import chex

from memjax.memory.kanerva import KanervaState


@runtime_checkable
class Model(Protocol):
    """What training and evaluation ask of a model, besides being a linen module.

    Images are float32 in [0, 1]. `memory` is any pytree; None for a model without one.
    """

    image_shape: Sequence[int]

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> Any:
        """The memory of a support `[N, H, W, C]`, or of None: nothing to write."""
        ...

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """A scalar to maximise for one query `[H, W, C]`, and scalar metrics in nats.

        The metrics are `nll`, `reconstruction`, `kl_address`, ...
        """
        ...

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any, num_samples: int
    ) -> chex.Array:
        """Importance weights `[L]` in nats, whose log-mean-exp estimates log p(query|memory)."""
        ...

    def generate(self, rng_key: chex.PRNGKey, memory: Any) -> chex.Array:
        """A generated image `[H, W, C]`."""
        ...

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]`, by name, that show what the model made of one query.

        `query` and `reconstruction` are among them.
        """
        ...


class Images(NamedTuple):
    """The mean of p(x|z), and what the next reading asks with."""

    mean: chex.Array  # [..., H, W, C]
    sample: chex.Array  # [..., H, W, C]


@runtime_checkable
class HasLikelihood(Protocol):
    """Says of what kind p(x|z) is, which has to suit the data's values."""

    likelihood: str  # "bernoulli" for binary pixels, "gaussian" for grey levels and colour


@runtime_checkable
class NormalizesBatch(Protocol):
    """Normalises over the batch, and has to be told the names of its mapped axes."""

    batch_axes: Sequence[str]


@runtime_checkable
class Encodes(Protocol):
    """Takes, wherever it takes an image, what it encoded too: once for `write` and `__call__`."""

    def encode(self, rng_key: chex.PRNGKey, image: chex.Array, *, train: bool) -> Any:
        """What stands in the place of one image `[H, W, C]`."""
        ...


@runtime_checkable
class AddressesSupport(Protocol):
    """Reads one image of the support at a time, at an address."""

    addresses_support: bool  # False where the slots are learned

    def address_logits(self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any) -> chex.Array:
        """The logits `[N]` of q(a|x) for one query `[H, W, C]`."""
        ...

    def address_log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any
    ) -> chex.Array:
        """Estimates `[N]` of log p(x, a), by one z for each slot, for one query `[H, W, C]`."""
        ...

    def generate_at(self, rng_key: chex.PRNGKey, memory: Any, address: chex.Array) -> chex.Array:
        """A generated image `[H, W, C]` of the slot at one address."""
        ...


@runtime_checkable
class AddressesSlots(AddressesSupport, Protocol):
    """Reads one learned slot at a time, at an address.

    The memory that `write` gives has `prior_logits` `[N]`, of p(a).
    """


@runtime_checkable
class WritesEpisodes(Protocol):
    """Writes an episode into one memory, and reads each of its images back."""

    def read(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any, *, by: str = "samples"
    ) -> Images:
        """What is read at one image `[H, W, C]`, by samples or as the model offers beside."""
        ...

    def read_at_random(self, rng_key: chex.PRNGKey, memory: Any) -> Images:
        """What is read at a random key."""
        ...

    def memory_metrics(self, memory: Any, num_images: int) -> dict[str, chex.Array]:
        """What is worth knowing of a memory of `num_images`, beside the bound."""
        ...


@runtime_checkable
class ReadsByWeights(Protocol):
    """Reads a Gaussian memory by weights of its slots."""

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> KanervaState:
        """The memory of a support `[N, H, W, C]`."""
        ...

    def weights(self, rng_key: chex.PRNGKey, query: chex.Array, memory: KanervaState) -> chex.Array:
        """Weights `[N]` by which one image `[H, W, C]` is read."""
        ...

    def decode_weights(self, memory: KanervaState, read_weights: chex.Array) -> chex.Array:
        """The image `[H, W, C]` of what weights `[N]` read."""
        ...


@runtime_checkable
class HasLayerSlots(Protocol):
    """Reads learned slots in the layers 1, 2, ... of its decoder."""

    num_slots: Sequence[int]  # of the layers; 0 for a layer without
    composition: str  # how what was read is combined with what asked

    def generate(self, rng_key: chex.PRNGKey, memory: Any, num_disabled: int = 0) -> chex.Array:
        """A generated image `[H, W, C]`, without the slots of layers 1 to `num_disabled`."""
        ...

    def slot_activations(
        self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any
    ) -> dict[str, chex.Array]:
        """How much of each slot `[N]` is read for one query, by "layer 1", ..."""
        ...

    def slot_images(self, layer: int) -> chex.Array:
        """The mean images `[N, H, W, C]` of single slots of a layer."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """Recognises an image by features that other uses may take."""

    def features(self, rng_key: chex.PRNGKey, query: chex.Array, memory: Any) -> chex.Array:
        """A vector `[D]` of one image `[H, W, C]`."""
        ...


def missing_methods(model: Any) -> list[str]:
    """What a model, or its class, lacks of `Model`'s methods, by name."""
    cls = model if isinstance(model, type) else type(model)
    has = {name for base in cls.__mro__ for name in vars(base)}
    names = ("write", "__call__", "log_weights", "generate", "explain")
    return [name for name in names if name not in has]


def does(model: Any, protocol: type) -> bool:
    """Whether a model keeps to a protocol of these, with the fields that it has."""
    if not isinstance(model, protocol):
        return False
    if isinstance(model, AddressesSupport) and protocol in (AddressesSupport, AddressesSlots):
        return model.addresses_support == (protocol is AddressesSupport)
    if isinstance(model, HasLayerSlots):
        return any(model.num_slots) or protocol is not HasLayerSlots
    return True
