"""The Kanerva Machine's figures; all bounds are negative variational lower bounds."""

from typing import Any

from experiments.recipes.recipe import Recipe, Training, of_runs, schedule

_EPISODES = {"episodes.num_episodes": 2, "eval.episodes.num_episodes": 4}
_IMAGES = {"episodes.batch_size": 64, "eval.episodes.batch_size": 128}
# Of the sizes of Burda et al.'s, all characters in both. One-shot generation needs classes.
_UNLABELLED = {
    "dataset.train_split": "unlabelled_train",
    "dataset.eval_split": "unlabelled_test",
}
_SEEDS = range(4)
_BOUND = {"likelihood": [{"num_samples": 1}]}  # of all held-out images; it needs one sample


def _kanerva(small_steps: int, **fields: Any) -> Training:
    # Clips outliers alone: gradients of few images are larger than the config's bound.
    small = schedule(small_steps, 1e-3, **_EPISODES, **{"optimizer.clip_norm": 1_000.0})
    return Training("kanerva_omniglot", fields, small, 34 * small_steps // 30_000)


def _rival(config: str, seed: int) -> Training:
    return Training(config, {"seed": seed}, schedule(10_000, 1e-3, **_EPISODES), 60)


RECIPES = {
    "kanerva_omniglot": Recipe(
        "KM sections 4.1 to 4.3: figures 2, 3, 4, 7, 8 and 11, one seed",
        {
            "VAE": Training("vae_omniglot", _UNLABELLED, schedule(30_000, 1e-3, **_IMAGES), 34),
            "KM": _kanerva(30_000, **_UNLABELLED),
            "KM, test alphabets": _kanerva(30_000),
        },
        of_runs("likelihood.bound", {"VAE": 112.7, "KM": 68.3}),
        # The VAE beside the last has seen these characters; only its samples are shown.
        ["KM: denoise", "KM: interpolate", "KM: weights", "KM, test alphabets: generate"],
        _BOUND | {"generate": [{"beside": "{VAE}"}]},
    ),
    "kanerva_denoising": Recipe(
        "KM sections 3.5 and 4.3: figure 3 right, and readings that stay at what was written",
        {
            "digits": Training("kanerva_digits", small_minutes=2),
            "digits, denoising": Training("kanerva_digits_denoise", small_minutes=4),
            "Omniglot, denoising": Training("kanerva_omniglot_denoise", small_minutes=10),
        },
        {},
        ["digits: denoise", "digits, denoising: denoise", "Omniglot, denoising: denoise"],
        {"denoise": [{"num_images": 512, "by": "samples,means,modes"}]},
    ),
    "kanerva_rivals": Recipe(
        "KM section 4.4: figure 6, four seeds",
        # z from p(z|y, M), as where memories are compared.
        {f"KM {s}": _kanerva(10_000, seed=s, **{"model.bottom_up": False}) for s in _SEEDS}
        | {f"DNC {seed}": _rival("dnc_omniglot", seed) for seed in _SEEDS}
        | {f"LRUA {seed}": _rival("lrua_omniglot", seed) for seed in _SEEDS},
        {
            f"{name} {seed}: likelihood.bound": bound
            for name, bound in (("KM", 70.0), ("DNC", 100.0), ("LRUA", 150.0))
            for seed in _SEEDS
        },
        ["KM 0: capacity", "DNC 0: capacity"],
        _BOUND,
    ),
    "kanerva_covariance": Recipe(
        "KM figure 10: full against diagonal covariance",
        {
            f"{name} {seed}": _kanerva(6_000, seed=seed, **{"model.diagonal": name == "diagonal"})
            for name in ("full", "diagonal")
            for seed in _SEEDS
        },
        {},
        [f"{name} {seed}: likelihood" for name in ("full", "diagonal") for seed in _SEEDS]
        + ["full 0: covariance"],
        _BOUND,
    ),
    "kanerva_cifar10": Recipe(
        "KM section 4: CIFAR-10, figures 5, 7, 8 and 12",
        {
            "VAE": Training("vae_cifar10", {}, schedule(20_000, 1e-3, **_IMAGES), 30),
            "KM": Training("kanerva_cifar10", {}, schedule(20_000, 1e-3, **_EPISODES), 70),
        },
        {},
        ["VAE: likelihood", "KM: likelihood", "KM: generate", "KM: interpolate"],
        _BOUND | {"generate": [{"num_classes": 0, "episode_length": 24, "beside": "{VAE}"}]},
    ),
}
