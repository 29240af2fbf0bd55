"""The papers' tables and figures: which runs make each, and what the papers say.

Papers: VMA (Bornschein et al., 2017), KM (Wu et al., 2018), MEM-VAE (Li et al., 2016). Every number
is in nats an image unless its name says otherwise; a goal is ours.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Fields = Mapping[str, Any]
_NONE: Fields = MappingProxyType({})


class Training(NamedTuple):
    """A run: a config by name, and the fields of it that differ."""

    config: str
    fields: Fields = _NONE
    small: Fields = _NONE  # what differs too in the budget of two CPU cores
    small_minutes: int = 0  # what that took on one of them


class Evaluation(NamedTuple):
    """A task for one of the recipe's runs, in both budgets."""

    run: str
    task: str
    options: Fields = _NONE
    small: Fields = _NONE  # options that differ in the budget of two CPU cores


class Number(NamedTuple):
    """A number of a paper, and where ours stands: `column` of the first row that has `where`."""

    name: str
    evaluation: Evaluation
    column: str
    paper: float
    goal: float
    where: Fields = _NONE
    factor: float = 1.0  # ours is the column times this


class Recipe(NamedTuple):
    """A table or a figure."""

    source: str
    runs: Mapping[str, Training]
    numbers: Sequence[Number]
    pictures: Sequence[Evaluation] = ()  # evaluations whose numbers no paper gives

    @property
    def evaluations(self) -> list[Evaluation]:
        """All of them, each once, those of numbers first."""
        found = [*(number.evaluation for number in self.numbers), *self.pictures]
        return [e for i, e in enumerate(found) if e not in found[:i]]


def _schedule(num_steps: int, learning_rate: float, **fields: Any) -> dict[str, Any]:
    """A cosine decay over `num_steps`, ten evaluations, and a checkpoint at each of them."""
    return {
        "optimizer.learning_rate": learning_rate,
        "optimizer.decay_steps": num_steps,
        "training.num_steps": num_steps,
        "training.log_every": num_steps // 50,
        "training.eval_every": num_steps // 10,
        "training.checkpoint_every": num_steps // 10,
    } | fields


def _bound(run: str, paper: float, goal: float, name: str = "") -> Number:
    return Number(f"bound, {name or run}", Evaluation(run, "likelihood"), "bound", paper, goal)


def _nll(run: str, paper: float, goal: float, options: Fields, small: Fields) -> Number:
    evaluation = Evaluation(run, "likelihood", options, small)
    return Number(f"NLL, {run}", evaluation, "nll", paper, goal)


# Kanerva Machine.

_EPISODES = {"episodes.num_episodes": 2, "eval.episodes.num_episodes": 4}
_IMAGES = {"episodes.batch_size": 64, "eval.episodes.batch_size": 128}
_ALONE = {"model.bottom_up": False}  # z from p(z|y, M), as where memories are compared


def _kanerva(small_steps: int, **fields: Any) -> Training:
    small = _schedule(small_steps, 1e-3, **_EPISODES)
    return Training("kanerva_omniglot", fields, small, 34 * small_steps // 30_000)


def _rival(config: str, seed: int) -> Training:
    return Training(config, {"seed": seed}, _schedule(10_000, 1e-3, **_EPISODES), 60)


_KANERVA_PICTURES = [
    Evaluation("KM", task)
    for task in ("generate", "denoise", "interpolate", "weights", "covariance", "capacity")
]
_KANERVA = Recipe(
    "KM section 4.1: figures 2 to 5, 7, 8 and 11",
    {
        "VAE": Training("vae_omniglot", {}, _schedule(30_000, 1e-3, **_IMAGES), 34),
        "KM": _kanerva(30_000),
    },
    [_bound("VAE", 112.7, 110.0), _bound("KM", 68.3, 65.0)],
    _KANERVA_PICTURES,
)
_COVARIANCE = Recipe(
    "KM figure 10: full against diagonal covariance",
    {
        f"{name} {seed}": _kanerva(6_000, seed=seed, **{"model.diagonal": name == "diagonal"})
        for name in ("full", "diagonal")
        for seed in range(4)
    },
    [],
    [Evaluation(f"{n} {s}", "likelihood") for n in ("full", "diagonal") for s in range(4)],
)
_RIVALS = Recipe(
    "KM section 4.4: figure 6",
    {f"KM {seed}": _kanerva(10_000, seed=seed, **_ALONE) for seed in range(4)}
    | {f"DNC {seed}": _rival("dnc_omniglot", seed) for seed in range(4)}
    | {f"LRUA {seed}": _rival("lrua_omniglot", seed) for seed in range(4)},
    [_bound(f"KM {seed}", 70.0, 68.0) for seed in range(4)]
    + [_bound(f"DNC {seed}", 100.0, 100.0) for seed in range(4)]
    + [_bound(f"LRUA {seed}", 150.0, 150.0) for seed in range(4)],
    [Evaluation(f"{name} 0", "capacity") for name in ("KM", "DNC")],
)
_CIFAR = Recipe(
    "KM section 4: figures 5, 8 and 12",
    {
        "VAE": Training("vae_cifar10", {}, _schedule(2_000, 1e-3, **_IMAGES), 30),
        "KM": Training("kanerva_cifar10", {}, _schedule(2_000, 1e-3, **_EPISODES), 30),
    },
    [],
    [Evaluation("VAE", "likelihood"), Evaluation("KM", "likelihood"), Evaluation("KM", "generate")],
)

# Variational Memory Addressing.

_FEW_SHOT_SMALL = _schedule(5_000, 2e-3, **{"model.num_filters": 16})
_FEW_SHOT_NLL: Fields = {"num_queries": 1024, "num_samples": 100}
_FEW_SHOT_NLL_SMALL: Fields = {"num_queries": 256}
_CLASSIFY = Evaluation("VMA", "classify")


def _accuracy(ways: int, shots: int, paper: float, goal: float) -> Number:
    name, column = f"{ways}-way {shots}-shot, per cent", "accuracy by q(a|x)"
    return Number(name, _CLASSIFY, column, paper, goal, {"ways": ways, "shots": shots}, 100.0)


_FEW_SHOT = Recipe(
    "VMA section 4.2: figures 3 to 5 and few-shot classification",
    {
        "VAE": Training("vae_omniglot_fewshot", {}, _FEW_SHOT_SMALL, 20),
        "soft attention": Training("soft_memory_omniglot_fewshot", {}, _FEW_SHOT_SMALL, 20),
        "VMA": Training("vma_omniglot_fewshot", {}, _FEW_SHOT_SMALL, 20),
    },
    [
        _nll(run, paper, goal, _FEW_SHOT_NLL, _FEW_SHOT_NLL_SMALL)
        for run, paper, goal in (
            ("VAE", 90.8, 88.0),
            ("soft attention", 73.4, 73.0),
            ("VMA", 68.8, 65.0),
        )
    ]
    + [
        _accuracy(5, 1, 91.0, 95.0),
        _accuracy(5, 5, 97.0, 98.5),
        _accuracy(20, 1, 77.0, 85.0),
        _accuracy(20, 5, 90.0, 95.0),
    ],
    [
        Evaluation("VMA", "confounders", {}, {"num_samples": 50}),
        Evaluation("soft attention", "confounders", {}, {"num_samples": 50}),
        Evaluation("VMA", "addresses"),
        Evaluation("VMA", "fewshot_samples"),
    ],
)
_TABLE1_SMALL: Fields = {"num_samples": 20, "num_queries": 64}
_TABLE1 = Recipe(
    "VMA table 1: Generative Matching Networks, and VMA",
    {
        "GMN": Training("matching_network_omniglot_fewshot", {}, _FEW_SHOT_SMALL, 40),
        "VMA": _FEW_SHOT.runs["VMA"],
    },
    [
        Number(
            f"{run}, {classes} classes, {shots} shots",
            Evaluation(run, "table1", {}, _TABLE1_SMALL),
            "nll",
            paper,
            paper,
            {"classes": classes, "shots": shots},
        )
        for run, classes, shots, paper in (
            ("GMN", 1, 1, 83.3),
            ("GMN", 1, 19, 45.8),
            ("GMN", 4, 4, 85.4),
            ("VMA", 1, 1, 86.5),
            ("VMA", 1, 19, 73.9),
            ("VMA", 4, 4, 80.7),
            ("VMA", 16, 4, 81.9),
        )
    ],
)
_RECALL = Recipe(
    "VMA section 4.1: figure 2A",
    {"VMA": Training("vma_mnist_recall", small_minutes=3)},
    [
        Number("NLL, 256 slots", Evaluation("VMA", "recall"), "nll", 5.545, 5.595),
        Number(
            "NLL, 2048 slots", Evaluation("VMA", "recall"), "nll", 7.625, 7.675, {"num_slots": 2048}
        ),
    ],
)
_LEARNED_SMALL: Fields = {"training.num_steps": 6_000}
_LEARNED_MNIST = Recipe(
    "VMA section 4.1: learned memory on MNIST",
    {
        "VMA": Training("vma_mnist_learned", {}, _LEARNED_SMALL, 2),
        "VAE": Training("vae_mnist", {}, _LEARNED_SMALL, 1),
    },
    [Number("KL(q(a|x) || p(a))", Evaluation("VMA", "likelihood"), "kl_address", 2.5, 2.5)],
    [Evaluation("VAE", "likelihood")],
)
_LEARNED_OMNIGLOT = Recipe(
    "VMA section 4.2: learned memory on Omniglot",
    {"VMA": Training("vma_omniglot_learned", {}, _schedule(4_000, 1e-3), 20)},
    [_nll("VMA", 103.6, 101.0, {"num_samples": 1_000}, {"num_samples": 100})],
)

# MEM-VAE.

_NO_MEMORY: Fields = {"model.num_slots": (0, 0), "model.local_reconstruction": 0.0}


def _by_samples(config: str, small: Mapping[int, Fields], minutes: int) -> dict[str, Training]:
    return {
        f"{name} {samples}": Training(
            config,
            {"model.num_samples": samples, **(_NO_MEMORY if name == "VAE" else {})},
            small[samples],
            minutes,
        )
        for samples in small
        for name in ("VAE", "MEM-VAE")
    }


def _table(papers: Mapping[str, tuple[float, float]], options: Fields, small: Fields):
    return [_nll(run, paper, goal, options, small) for run, (paper, goal) in papers.items()]


_MNIST_SMALL: dict[str, Any] = _schedule(12_000, 1e-3, **{"optimizer.anneal_factor": 1.0})
_MNIST = Recipe(
    "MEM-VAE table 1 and 2, figures 3, 4, 6 and 8; classification",
    _by_samples(
        "mem_vae_mnist",
        {
            1: _MNIST_SMALL,
            5: _MNIST_SMALL | _schedule(3_000, 1e-3),
            50: _MNIST_SMALL | _schedule(300, 1e-3),
        },
        10,
    ),
    _table(
        {
            "VAE 1": (85.67, 85.0),
            "MEM-VAE 1": (84.41, 84.0),
            "VAE 5": (84.49, 84.0),
            "MEM-VAE 5": (83.26, 82.9),
            "VAE 50": (83.67, 83.0),
            "MEM-VAE 50": (82.84, 82.4),
        },
        {"num_samples": 5_000},
        {"num_samples": 100, "num_queries": 1_000},
    )
    + [
        Number(
            f"imputation error, {noise}, {run}",
            Evaluation(run, "impute", {}, {"num_queries": 1_000}),
            "error",
            paper,
            paper,
            {"noise": noise},
        )
        for noise, papers in {
            "RECT-12": (0.1403, 0.1362),
            "RAND-0.6": (0.0194, 0.0187),
            "HALF": (0.0550, 0.0539),
        }.items()
        for run, paper in zip(("VAE 1", "MEM-VAE 1"), papers, strict=True)
    ],
    [
        *(Evaluation(run, "probe") for run in ("VAE 1", "MEM-VAE 1")),
        *(Evaluation("MEM-VAE 1", task) for task in ("preference", "disable_memory", "samples")),
    ],
)


def _epochs(count: int) -> dict[str, Any]:
    """Epochs of the OCR letters, annealed in the last two thirds."""
    tenth = 321 * count // 10
    return {
        "training.num_steps": 321 * count,
        "training.log_every": tenth,
        "training.eval_every": tenth,
        "training.checkpoint_every": tenth,
        "optimizer.anneal_start": 107 * count,
        "optimizer.anneal_factor": 0.01 ** (3.0 / (2.0 * count)),
    }


_LETTERS = Recipe(
    "MEM-VAE table 1: OCR letters",
    _by_samples("mem_vae_ocr_letters", {1: {}, 5: _epochs(300), 50: _epochs(30)}, 70),
    _table(
        {
            "VAE 1": (30.09, 29.8),
            "MEM-VAE 1": (29.09, 28.5),
            "VAE 5": (28.69, 28.4),
            "MEM-VAE 5": (27.65, 27.3),
            "VAE 50": (27.60, 27.3),
            "MEM-VAE 50": (26.90, 26.5),
        },
        {"num_samples": 100_000},
        {"num_samples": 500},
    ),
)
_FREY = Recipe(
    "MEM-VAE section 5.3: Frey faces, figure 5",
    {
        f"{name} {batch_size}": Training(
            "mem_vae_frey_faces",
            {
                "episodes.batch_size": batch_size,
                **slots,
                **_schedule(1_860_000 // batch_size, 1e-3),
            },
            small_minutes=5 if batch_size == 100 else 50,
        )
        for batch_size in (100, 10)
        for name, slots in {"VAE": {"model.num_slots": (0,)}, "MEM-VAE": {}}.items()
    },
    [
        Number(
            f"log density, {run}",
            Evaluation(run, "likelihood", {"num_samples": 5_000}),
            "nll",
            paper,
            goal,
            factor=-1.0,
        )
        for run, paper, goal in (
            ("VAE 100", 1308.0, 1308.0),
            ("MEM-VAE 100", 1330.0, 1340.0),
            ("VAE 10", 1055.0, 1055.0),
            ("MEM-VAE 10", 1240.0, 1260.0),
        )
    ],
    [Evaluation(f"{name} 100", "samples") for name in ("VAE", "MEM-VAE")],
)

RECIPES: Mapping[str, Recipe] = {
    "kanerva_omniglot": _KANERVA,
    "vma_fewshot": _FEW_SHOT,
    "mem_vae_ocr_letters": _LETTERS,
    "mem_vae_mnist": _MNIST,
    "vma_learned_omniglot": _LEARNED_OMNIGLOT,
    "kanerva_rivals": _RIVALS,
    "kanerva_covariance": _COVARIANCE,
    "kanerva_cifar10": _CIFAR,
    "vma_recall": _RECALL,
    "vma_learned_mnist": _LEARNED_MNIST,
    "vma_table1": _TABLE1,
    "mem_vae_frey_faces": _FREY,
}
