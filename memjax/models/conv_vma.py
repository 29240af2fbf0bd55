"""Variational Memory Addressing with convolutions, for Omniglot; VMA section 4.2.

Source: Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

from collections.abc import Sequence

import chex
import numpyro.distributions as dist

from memjax.memory import addressing
from memjax.models import vma
from memjax.nets import MLP, ConditionalNets, PyramidEncoder, SlotFeatures

_FEW_SLOTS = 256  # up to here, the features of every slot cost no more than those of every sample


class ConvVMA(vma.VMA):
    """`VMA` whose nets are pyramids of convolutions; VMA section 4.2.

    The memory holds the support's images or, with `num_slots`, learned vectors, which join the
    pyramids' tops and have none of their own.

    Attributes:
      latent_size: size of z.
      hidden_sizes: units of the hidden layers of every MLP behind a pyramid.
      num_filters: of every convolution.
    """

    latent_size: int = 64
    hidden_sizes: Sequence[int] = (128,)
    num_filters: int = 64

    def setup(self):
        """Names the parameters; checks what the config says."""
        vma.check(self)
        embedding = (self.embedding_size, self.num_filters, self.hidden_sizes)
        if self.num_slots:
            self.slot_embedding = MLP(self.hidden_sizes, self.embedding_size)
        else:
            self.slot_embedding = PyramidEncoder(*embedding)
        if not self.tied_embeddings:
            self.query_embedding = PyramidEncoder(*embedding)
        self.nets = ConditionalNets(
            self.image_shape, self.latent_size, self.num_filters, self.hidden_sizes
        )
        self._setup_addresses()

    def _image_contents(self, support: chex.Array) -> chex.Array:
        return support

    def _read(self, contents: chex.Array, addresses: chex.Array) -> SlotFeatures:
        if self.num_slots:
            return self.nets.vector_features(addressing.lookup(contents, addresses))
        if len(contents) <= _FEW_SLOTS:
            return addressing.lookup(self.nets.image_features(contents), addresses)
        return self.nets.image_features(addressing.lookup(contents, addresses))

    def _latent_prior(self, slots: SlotFeatures) -> dist.Distribution:
        return self.nets.prior(slots)

    def _latent_posterior(self, query: chex.Array, slots: SlotFeatures) -> dist.Distribution:
        return self.nets.posterior(slots, query)

    def _decode(self, slots: SlotFeatures, latent: chex.Array) -> dist.Distribution:
        return self.nets.decode(slots, latent)
