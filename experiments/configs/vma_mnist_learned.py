"""A learned memory on MNIST (VMA section 4.1): 64 to 1024 slots of 256 numbers.

In the paper KL(q(a|x) || p(a)) settles near 2.5 nats whatever `model.num_slots`, and the entropy of
p(a) is higher. Here the slots begin small and alike, the decoder at zero, and the slots learn
faster than the nets, a little more so where they are many, for each is then read less often. As
memories usually begin, few slots stay in use (`experiments.collapse`).

Time: 25 min on one CPU core; an estimated 2 min on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "mnist"
    config.eval.episodes.batch_size = 512
    config.model = {"name": "vma.VMA", "num_samples": 4, "address_estimator": "auto"}
    config.model.update(latent_size=32, hidden_sizes=(256, 128), embedding_size=128)
    config.model.update(similarity="key_normalized", address_prior="learned")
    config.model.update(num_slots=256, slot_size=256, slot_scale=0.1, zero_output=True)
    num_slots = config.model.get_oneway_ref("num_slots").to_float()
    config.optimizer.memory_rate = 12.6 * num_slots**0.125  # 21 to 30
    config.training.num_steps = 100_000
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    return config
