"""The Kanerva Machine's figures; all bounds are negative variational lower bounds."""

from typing import Any

from experiments.recipes.recipe import Number, Recipe, Task, Training, Workdir, schedule

_EPISODES = {"episodes.num_episodes": 2, "eval.episodes.num_episodes": 4}
_IMAGES = {"episodes.batch_size": 64, "eval.episodes.batch_size": 128}
_ALONE = {"model.bottom_up": False}  # z from p(z|y, M), as where memories are compared
# Of the sizes of Burda et al.'s, all characters in both. One-shot generation needs classes.
_UNLABELLED = {
    "dataset.train_split": "unlabelled_train",
    "dataset.eval_split": "unlabelled_test",
}
_SEEDS = range(4)


def _kanerva(small_steps: int, **fields: Any) -> Training:
    small = schedule(small_steps, 1e-3, **_EPISODES)
    return Training("kanerva_omniglot", fields, small, 34 * small_steps // 30_000)


def _rival(config: str, seed: int) -> Training:
    return Training(config, {"seed": seed}, schedule(10_000, 1e-3, **_EPISODES), 60)


def _task(run: str) -> Task:
    """The bound of 256 episodes, or of all images; it needs one sample."""
    images = {} if run == "VAE" else {"num_queries": 256}
    return Task(run, "likelihood", {"num_samples": 1, **images})


def _bound(run: str, paper: float, goal: float) -> Number:
    return Number(f"bound, {run}", _task(run), "bound", paper, goal)


RECIPES = {
    "kanerva_omniglot": Recipe(
        "KM sections 4.1 to 4.3: figures 2, 3, 4, 7, 8 and 11, one seed",
        {
            "VAE": Training("vae_omniglot", _UNLABELLED, schedule(30_000, 1e-3, **_IMAGES), 34),
            "KM": _kanerva(30_000, **_UNLABELLED),
            "KM, test alphabets": _kanerva(30_000),
        },
        [_bound("VAE", 112.7, 110.0), _bound("KM", 68.3, 65.0)],
        [Task("KM", name) for name in ("denoise", "interpolate", "weights")]
        # That VAE has seen these characters; only its samples are shown.
        + [Task("KM, test alphabets", "generate", {"beside": Workdir("VAE")})],
    ),
    "kanerva_denoising": Recipe(
        "KM sections 3.5 and 4.3: figure 3 right, and readings that stay at what was written",
        {
            "digits": Training("kanerva_digits", small_minutes=2),
            "digits, denoising": Training("kanerva_digits_denoise", small_minutes=4),
            "Omniglot, denoising": Training("kanerva_omniglot_denoise", small_minutes=10),
        },
        [],
        [
            Task(run, "denoise", {"num_images": 512, "by": "samples,means,modes"})
            for run in ("digits", "digits, denoising", "Omniglot, denoising")
        ],
    ),
    "kanerva_rivals": Recipe(
        "KM section 4.4: figure 6, four seeds",
        {f"KM {seed}": _kanerva(10_000, seed=seed, **_ALONE) for seed in _SEEDS}
        | {f"DNC {seed}": _rival("dnc_omniglot", seed) for seed in _SEEDS}
        | {f"LRUA {seed}": _rival("lrua_omniglot", seed) for seed in _SEEDS},
        [
            _bound(f"{name} {seed}", paper, goal)
            for name, paper, goal in (("KM", 70, 68), ("DNC", 100, 100), ("LRUA", 150, 150))
            for seed in _SEEDS
        ],
        [Task(f"{name} 0", "capacity") for name in ("KM", "DNC")],
    ),
    "kanerva_covariance": Recipe(
        "KM figure 10: full against diagonal covariance",
        {
            f"{name} {seed}": _kanerva(6_000, seed=seed, **{"model.diagonal": name == "diagonal"})
            for name in ("full", "diagonal")
            for seed in _SEEDS
        },
        [],
        [_task(f"{name} {seed}") for name in ("full", "diagonal") for seed in _SEEDS]
        + [Task("full 0", "covariance")],
    ),
    "kanerva_cifar10": Recipe(
        "KM section 4: CIFAR-10, figures 5, 7, 8 and 12",
        {
            "VAE": Training("vae_cifar10", {}, schedule(1_000, 1e-3, **_IMAGES), 10),
            "KM": Training("kanerva_cifar10", {}, schedule(1_000, 1e-3, **_EPISODES), 10),
        },
        [],
        [
            _task("VAE"),
            _task("KM"),
            Task(
                *("KM", "generate"),
                {"num_classes": 0, "episode_length": 24, "beside": Workdir("VAE")},
            ),
            Task("KM", "interpolate"),
        ],
    ),
}
