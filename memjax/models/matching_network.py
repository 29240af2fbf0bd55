"""A Generative Matching Network: soft attention in prior, encoder and decoder; VMA table 1.

Source: Bartunov and Vetrov, Fast Adaptation in Generative Models with Generative Matching Networks,
2016 (GMN below), here with the nets of a `vma.VMA` with convolutions.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import numpyro.distributions as dist

from memjax.errors import UserError
from memjax.models import soft_memory
from memjax.nets import PyramidEncoder


class MatchingNetwork(soft_memory.SoftMemory):
    """p(x|M) = integral p(z|M) p(x|z, M) dz, whose every factor asks the memory; GMN.

    A question is what the factor is conditioned on, in the matching space: a learned point for
    p(z|M), x for q(z|x, M), z for p(x|z, M). With full context embeddings it is asked `num_hops`
    times, each time changed by what was read:

        r = sum_a softmax_a(similarity(h, e_a)) e_a,    h <- GRU(h, r)

    so that h comes to hold joint statistics of the support. The nets then get the images mixed by
    the last weights, and h.

    Attributes:
      num_hops: how often h changes; 0 is the basic matching.
    """

    num_hops: int = 2

    def setup(self):
        """Names the parameters; checks what the config says."""
        super().setup()
        if self.num_hops < 0:
            raise UserError(f"num_hops is {self.num_hops}; it must not be negative")
        self.query_embedding = PyramidEncoder(
            self.embedding_size, self.num_filters, self.hidden_sizes
        )
        init = nn.initializers.normal(0.01)  # the prior begins by reading all slots alike
        self.prior_question = self.param("prior_question", init, (self.embedding_size,))
        self.controller = nn.GRUCell(self.embedding_size)

    def _prior(self, slots: soft_memory.Slots) -> dist.Distribution:
        mixture, context = self._ask(self.prior_question, slots)
        return self.nets.prior(self.nets.image_features(mixture), *context)

    def _posterior(self, query: chex.Array, slots: soft_memory.Slots) -> dist.Distribution:
        mixture, context = self._ask(self.query_embedding(query), slots)
        return self.nets.posterior(self.nets.image_features(mixture), query, *context)

    def _ask(
        self, question: chex.Array, slots: soft_memory.Slots
    ) -> tuple[chex.Array, Sequence[chex.Array]]:
        for _ in range(self.num_hops):
            retrieved = self._weights(question, slots) @ slots.embeddings
            question, _ = self.controller(question, retrieved)
        mixture, _ = super()._ask(question, slots)
        return mixture, (question,)
