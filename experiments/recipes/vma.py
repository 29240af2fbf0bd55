"""Variational Memory Addressing's tables and figures."""

from collections.abc import Mapping, Sequence

from experiments.recipes.recipe import Fields, Recipe, Training, of_runs, schedule

# By config; at 2e-3 the GMN leaves z unused.
_FEWSHOT = {
    name: Training(config, {}, schedule(5_000, rate, **{"model.num_filters": 16}), 20)
    for name, config, rate in (
        ("VAE", "vae_omniglot_fewshot", 2e-3),
        ("soft attention", "soft_memory_omniglot_fewshot", 2e-3),
        ("VMA", "vma_omniglot_fewshot", 2e-3),
        ("GMN", "matching_network_omniglot_fewshot", 6e-4),
    )
}
_OPTIONS: Mapping[str, Sequence[Fields]] = {
    "likelihood": [{"num_queries": 1024, "num_samples": 100}, {"num_queries": 256}],
    "confounders": [{}, {"num_samples": 50}],
    "table1": [{}, {"num_samples": 20, "num_queries": 64}],
}
_LEARNED_SMALL = schedule(5_000, 3e-4)
_LEARNED = {
    f"VMA, {slots} slots": Training(
        "vma_mnist_learned", {"model.num_slots": slots}, _LEARNED_SMALL, 4
    )
    for slots in (64, 128, 256, 512, 1024)
}
_OMNIGLOT_SMALL = schedule(40_000, 1e-3, **{"model.num_filters": 16})
# The VAE of the same nets. One slot by "auto" would be enumerated: one z in the place of four.
_ONE_SLOT = {"model.num_slots": 1, "model.address_estimator": "vimco"}


def _of_each_class(num_images: int) -> Training:
    """The VMA with so many images of each class in memory, where the other tables have 4."""
    fields = {"episodes.num_support": num_images, "eval.episodes.num_support": num_images}
    return _FEWSHOT["VMA"]._replace(fields=fields)


RECIPES = {
    "vma_fewshot": Recipe(
        "VMA section 4.2: figures 3, 4A and 5, few-shot classification; 4 images of 8 classes in "
        "memory, where the paper's soft attention has 1 or 2 of 16, and its VMA what is best",
        {name: _FEWSHOT[name] for name in ("VAE", "soft attention", "VMA")},
        of_runs("likelihood.nll", {"VAE": 90.8, "soft attention": 73.4, "VMA": 68.8})
        | {
            "VMA: classify[ways=5,shots=1].accuracy by q(a|x)": 0.91,
            "VMA: classify[ways=5,shots=5].accuracy by q(a|x)": 0.97,
            "VMA: classify[ways=20,shots=1].accuracy by q(a|x)": 0.77,
            "VMA: classify[ways=20,shots=5].accuracy by q(a|x)": 0.90,
        },
        [f"VMA: {task}" for task in ("confounders", "addresses", "fewshot_samples")]
        + ["soft attention: confounders"],
        _OPTIONS,
    ),
    "vma_fewshot_shots": Recipe(
        "VMA figures 4B and 5B: memories of 1, 4 and 8 images of a class",
        {"1 image": _of_each_class(1), "4 images": _FEWSHOT["VMA"], "8 images": _of_each_class(8)},
        of_runs("likelihood.nll", {"1 image": 75.1, "8 images": 69.1})
        | of_runs("likelihood.kl_address", {"1 image": 2.0, "8 images": 4.5})
        | of_runs("likelihood.kl_latent", {"1 image": 28.2, "8 images": 21.8}),
        ["4 images: likelihood"]
        + [f"{run}: confounders" for run in ("1 image", "4 images", "8 images")],
        _OPTIONS,
    ),
    "vma_table1": Recipe(
        "VMA table 1: Generative Matching Networks, and VMA; on the split of section 4.2",
        {name: _FEWSHOT[name] for name in ("GMN", "VMA")},
        # Columns are images of each class.
        {
            "GMN: table1[classes=1].1": 83.3,
            "GMN: table1[classes=1].19": 45.8,
            "GMN: table1[classes=4].4": 85.4,
            "VMA: table1[classes=1].1": 86.5,
            "VMA: table1[classes=1].19": 73.9,
            "VMA: table1[classes=4].4": 80.7,
            "VMA: table1[classes=16].4": 81.9,
        },
        options=_OPTIONS,
    ),
    "vma_learned_omniglot": Recipe(
        "VMA section 4.2: learned memory on Omniglot",
        {
            "VMA": Training("vma_omniglot_learned", {}, _OMNIGLOT_SMALL, 30),
            "VAE": Training("vma_omniglot_learned", _ONE_SLOT, _OMNIGLOT_SMALL, 25),
        },
        {"VMA: likelihood.nll": 103.6},
        ["VAE: likelihood", "VMA: usage", "VMA: fewshot_samples"],
        {"likelihood": [{"num_samples": 5_000}, {"num_samples": 1_000, "num_queries": 2_048}]},
    ),
    "vma_recall": Recipe(
        "VMA section 4.1: figure 2A",
        {"VMA": Training("vma_mnist_recall", small_minutes=3)},
        {"VMA: recall[num_slots=256].nll": 5.545, "VMA: recall[num_slots=2048].nll": 7.625},
    ),
    "vma_learned_mnist": Recipe(
        "VMA section 4.1: learned memory on MNIST, figure 2B",
        _LEARNED
        | {"VAE": Training("vae_mnist", {"optimizer.decay_steps": 100_000}, _LEARNED_SMALL, 1)},
        of_runs("likelihood.kl_address", dict.fromkeys(_LEARNED, 2.5)),
        ["VAE: likelihood", "VMA, 256 slots: fewshot_samples"],
    ),
}
