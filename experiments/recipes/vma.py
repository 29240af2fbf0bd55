"""Variational Memory Addressing's tables and figures."""

from experiments.recipes.recipe import Number, Recipe, Task, Training, schedule

_SMALL = schedule(5_000, 2e-3, **{"model.num_filters": 16})
# At 2e-3 it leaves z unused.
_SMALL_GMN = schedule(5_000, 6e-4, **{"model.num_filters": 16})
_TRAININGS = {
    "VAE": Training("vae_omniglot_fewshot", {}, _SMALL, 20),
    "soft attention": Training("soft_memory_omniglot_fewshot", {}, _SMALL, 20),
    "VMA": Training("vma_omniglot_fewshot", {}, _SMALL, 20),
    "GMN": Training("matching_network_omniglot_fewshot", {}, _SMALL_GMN, 20),
}
_LIKELIHOOD = Task(
    "", "likelihood", {"num_queries": 1024, "num_samples": 100}, {"num_queries": 256}
)
_NLL = Number("NLL", _LIKELIHOOD, "nll")
_KL_ADDRESS = Number("KL(a)", _LIKELIHOOD, "kl_address")
_KL_LATENT = Number("KL(z)", _LIKELIHOOD, "kl_latent")
_LEARNED = Task("", "likelihood", {"num_samples": 5_000}, {"num_samples": 100})
_LEARNED_STEPS = {
    "optimizer.decay_steps": 5_000,
    "training.num_steps": 5_000,
    "training.eval_every": 1_000,
    "training.checkpoint_every": 1_000,
}
_LEARNED_SLOTS = (64, 128, 256, 512, 1024)
_RECALL = Task("VMA", "recall")
_SHOTS = {"1 image": 1, "4 images": 4, "8 images": 8}


def _accuracy(ways: int, shots: int, paper: float, goal: float) -> Number:
    name, where = f"{ways}-way {shots}-shot, per cent", {"ways": ways, "shots": shots}
    task = Task("VMA", "classify")
    return Number(name, task, "accuracy by q(a|x)", paper, goal, where, factor=100.0)


def _by_shots(shots: int) -> Training:
    """The VMA with so many images of each class in memory; with 4, that of the other tables."""
    if shots == 4:
        return _TRAININGS["VMA"]
    fields = {"episodes.num_support": shots, "eval.episodes.num_support": shots}
    return _TRAININGS["VMA"]._replace(fields=fields)


def _table1(run: str, classes: int, shots: int, paper: float) -> Number:
    task = Task(run, "table1", {}, {"num_samples": 20, "num_queries": 64})
    name = f"NLL, {run}, {classes} classes, {shots} images of each"
    return Number(name, task, f"{shots}", paper, paper, {"classes": classes})


RECIPES = {
    "vma_fewshot": Recipe(
        "VMA section 4.2: figures 3, 4A and 5, few-shot classification",
        {name: _TRAININGS[name] for name in ("VAE", "soft attention", "VMA")},
        [
            _NLL.of("VAE", 90.8, 88.0),
            _NLL.of("soft attention", 73.4, 73.0)._replace(
                name="NLL, soft attention, 8 x 4 in memory (the paper: 1 or 2 x 16)"
            ),
            _NLL.of("VMA", 68.8, 65.0)._replace(
                name="NLL, VMA, 8 x 4 in memory (the paper: its best)"
            ),
            _accuracy(5, 1, 91.0, 95.0),
            _accuracy(5, 5, 97.0, 98.5),
            _accuracy(20, 1, 77.0, 85.0),
            _accuracy(20, 5, 90.0, 95.0),
        ],
        [
            Task("VMA", "confounders", {}, {"num_samples": 50}),
            Task("soft attention", "confounders", {}, {"num_samples": 50}),
            Task("VMA", "addresses"),
            Task("VMA", "fewshot_samples"),
        ],
    ),
    "vma_fewshot_shots": Recipe(
        "VMA figures 4B and 5B: memories of 1, 4 and 8 images of a class",
        {name: _by_shots(shots) for name, shots in _SHOTS.items()},
        [
            _NLL.of("1 image", 75.1),
            _NLL.of("8 images", 69.1),
            _KL_ADDRESS.of("1 image", 2.0),
            _KL_ADDRESS.of("8 images", 4.5),
            _KL_LATENT.of("1 image", 28.2),
            _KL_LATENT.of("8 images", 21.8),
        ],
        [_LIKELIHOOD._replace(run="4 images")]
        + [Task(run, "confounders", {}, {"num_samples": 50}) for run in _SHOTS],
    ),
    "vma_table1": Recipe(
        "VMA table 1: Generative Matching Networks, and VMA; on the split of section 4.2",
        {name: _TRAININGS[name] for name in ("GMN", "VMA")},
        [
            _table1("GMN", 1, 1, 83.3),
            _table1("GMN", 1, 19, 45.8),
            _table1("GMN", 4, 4, 85.4),
            _table1("VMA", 1, 1, 86.5),
            _table1("VMA", 1, 19, 73.9),
            _table1("VMA", 4, 4, 80.7),
            _table1("VMA", 16, 4, 81.9),
        ],
    ),
    "vma_learned_omniglot": Recipe(
        "VMA section 4.2: learned memory on Omniglot",
        {"VMA": Training("vma_omniglot_learned", {}, schedule(4_000, 1e-3), 27)},
        [_NLL._replace(task=_LEARNED).of("VMA", 103.6, 101.0)],
    ),
    "vma_recall": Recipe(
        "VMA section 4.1: figure 2A",
        {"VMA": Training("vma_mnist_recall", small_minutes=3)},
        [
            Number("NLL, 256 slots", _RECALL, "nll", 5.545, 5.595, {"num_slots": 256}),
            Number("NLL, 2048 slots", _RECALL, "nll", 7.625, 7.675, {"num_slots": 2048}),
        ],
    ),
    "vma_learned_mnist": Recipe(
        "VMA section 4.1: learned memory on MNIST, figure 2B",
        {
            f"VMA, {slots} slots": Training(
                "vma_mnist_learned", {"model.num_slots": slots}, _LEARNED_STEPS, 4
            )
            for slots in _LEARNED_SLOTS
        }
        | {
            "VAE": Training(
                "vae_mnist", {"optimizer.decay_steps": 100_000}, _LEARNED_STEPS, small_minutes=1
            )
        },
        [
            _KL_ADDRESS._replace(task=Task("", "likelihood")).of(f"VMA, {slots} slots", 2.5)
            for slots in _LEARNED_SLOTS
        ],
        [Task("VAE", "likelihood"), Task("VMA, 256 slots", "fewshot_samples")],
    ),
}
