"""Good input made bad: for each kind, a function of a folder and a seed that gives what to run."""

import gzip
import io
import json
import os
import pickle
import random
import runpy
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Case = Callable[[], None]

_CONFIG = Path(__file__).with_name("config.py")
_VALUES = (
    *("", "0", "-1", "1", "3", "1e9", "1e400", "nan", "-inf", "0.5", "True", "None", "x", "()"),
    *(
        "(4,)",
        "(0,)",
        "(-1, 2)",
        "[1, [2]]",
        "{}",
        "'",
        "\x00",
        "\u2028",
        "é",
        "--",
        "=",
        "a" * 999,
    ),
    *(
        "99999999999999999999",
        "../x",
        "/",
        "__import__('os')",
        "lambda: 0",
        "$(touch x)",
        "vae.VAE",
    ),
    *("adam", "sgd", "mnist", "digits", "train", "recall", "minibatch", "vae.jnp", "os.system"),
)
_RUN_FLAGS = ("--workdir=run", f"--config={_CONFIG}")
_COMMANDS = {
    "train": (*_RUN_FLAGS, "--config.training.num_steps=4", "--config.seed=1"),
    "evaluate": ("--workdir=run", "--task=samples", "--option=seed=1", "--data_dir=data"),
    "sweep": (*_RUN_FLAGS, "--vary=seed=0", "--config.training.num_steps=4"),
    "compare": ("--workdirs=a=run,run", "--output=out", "--task=recall"),
}
_FIELDS = (
    *("seed", "data_dir", "dataset.name", "dataset.train_split", "dataset.eval_split"),
    *("dataset.binarization", "episodes.name", "episodes.batch_size", "eval.episodes.name"),
    *("eval.episodes.batch_size", "eval.num_batches", "model.name", "model.hidden_sizes"),
    *("model.latent_size", "model.num_samples", "optimizer.name", "optimizer.learning_rate"),
    *("optimizer.clip_norm", "optimizer.decay_steps", "optimizer.anneal_factor", "optimizer.l2"),
    *("optimizer.anneal_start", "optimizer.anneal_every", "training.num_steps", "training"),
    *("training.log_every", "training.eval_every", "training.checkpoint_every", "episodes"),
    *("training.skip_nonfinite", "training.ema_decay", "model.nothing"),
)


def wrong_flags(folder: Path, rng: random.Random) -> Case:
    """A command whose flags are dropped, doubled, swapped, or changed in some characters."""
    command = rng.choice(list(_COMMANDS))
    arguments = list(_COMMANDS[command])
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(arguments)) if arguments else 0
        old = arguments[place] if arguments else "--"
        name = old.partition("=")[0]
        new = rng.choice(
            [
                [],
                [old, f"{name}={rng.choice(_VALUES)}"],
                [f"{name}={rng.choice(_VALUES)}"],
                [_change_text(old, rng)],
                [name],
                [rng.choice(_VALUES), old],
                [f"--no{name[2:]}", old],
            ]
        )
        arguments[place : place + 1] = new
    # No system passes a command line with a zero byte in it.
    arguments = [argument.replace("\x00", "") for argument in arguments]
    return partial(run_command, command, *arguments)


def wrong_fields(folder: Path, rng: random.Random) -> Case:
    """Training with one to three fields of the config changed."""
    fields = [f"--config.{rng.choice(_FIELDS)}={rng.choice(_VALUES)}" for _ in range(_few(rng))]
    fields = [field.replace("\x00", "") for field in fields]
    return partial(run_command, "train", *_COMMANDS["train"], *fields)


def wrong_workdir(folder: Path, rng: random.Random) -> Case:
    """A run's files, changed; read as resuming, evaluating and comparing read them."""
    from tests.robustness.config import get_config

    config = get_config()
    run = folder / "run"
    run.mkdir()
    entries = [{"step": i, "nll": 1.5, "eval/nll": 2.5, "steps_per_second": 9.0} for i in (1, 2)]
    table = {"table": [{"nll": 1.0}], "curves": {"a": {"b": _PANEL}}, "figures": ["a"]}
    texts = {
        "config.json": config.to_json(indent=2),
        "metrics.jsonl": "".join(json.dumps(entry) + "\n" for entry in entries),
        "skipped_steps.jsonl": json.dumps({"step": 1, "not_finite": "query"}) + "\n",
        "eval_recall.json": json.dumps(table),
    }
    changed = rng.choice(list(texts))
    for name, text in texts.items():
        content = text.encode()
        if name == changed:
            content = _change_bytes(content, rng) if rng.random() < 0.5 else _change_json(text, rng)
        (run / name).write_bytes(content)

    def read() -> None:
        from memjax.training.metrics import MetricWriter
        from memjax.training.workdir import load_config, open_workdir

        load_config(run)
        with open_workdir(run, config):
            writer = MetricWriter(run, 1, 4)
            writer.count_skipped(0, 9)
            writer.close()

    arguments = ["--workdirs=run", "--output=out", *rng.choice([[], ["--task=recall"]])]
    compare = partial(run_command, "compare", *arguments)
    return compare if changed == "eval_recall.json" or rng.random() < 0.5 else read


def wrong_data(folder: Path, rng: random.Random) -> Case:
    """A data set's cache or original file, changed; loaded."""
    kind = rng.choice(["cache", "cache", "ocr_letters", "frey_faces"])
    if kind == "cache":
        path = folder / "data/cache/tiny.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(_cache(rng))
        return partial(load_tiny, folder)
    return partial(read_original, kind, folder, _original(kind, rng))


def run_command(name: str, *arguments: str) -> None:
    """`python -m experiments.NAME ARGUMENTS`, in this process."""
    sys.argv = [f"experiments/{name}.py", *arguments]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


def load_tiny(folder: Path) -> None:
    """A set of 40 images of 6 x 5 from its cache; there is no source to make it from again."""
    from memjax.data import loading, sources

    spec = sources.Spec((6, 5, 1), 3, 40, {"train": 30, "test": 10})
    sources.SPECS = {**sources.SPECS, "tiny": spec}  # type: ignore[assignment]
    os.environ["MEMJAX_CACHE_DIR"] = str(folder / "home")
    images, labels, _ = loading.load("tiny", "train", folder / "data")
    expected = _tiny()
    assert np.array_equal(images, expected["images"][:30]), "damaged images were loaded"
    assert np.array_equal(labels, expected["labels"][:30]), "damaged labels were loaded"


def read_original(name: str, folder: Path, content: bytes) -> None:
    """The original file of a set, read by its builder."""
    from memjax.data import builders

    classes = {"ocr_letters": builders.OcrLetters, "frey_faces": builders.FreyFaces}
    path = folder / "original"
    path.write_bytes(content)
    images, _ = classes[name].read(classes[name].__new__(classes[name]), path)
    assert images.dtype == np.uint8 and images.ndim == 4


class Canary:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


CANARY = Path(tempfile.gettempdir()) / f"memjax_canary_{os.getpid()}"
EVIL = Path(tempfile.gettempdir()) / "memjax_evil"


def _cache(rng: random.Random) -> bytes:
    from memjax.data import loading

    arrays = {"version": np.array(loading._CACHE_VERSION), **_tiny()}
    name = rng.choice(list(arrays))
    array = arrays[name]
    changes: list[Callable[[], np.ndarray | None]] = [
        lambda: None,
        lambda: array[..., None],
        lambda: array.ravel()[:-1],
        lambda: array.astype(np.float32) * np.nan,
        lambda: array.astype(rng.choice(["f8", "i8", "S3", "c8", "M8[s]"])),
        lambda: np.array([Canary(CANARY)], object),
        lambda: np.array([{"an": "object"}], object),
        lambda: array.astype(np.int64) - 5,
        lambda: np.zeros((0, *array.shape[1:]), array.dtype),
    ]
    warnings.simplefilter("ignore")  # of a name that is there twice
    file = io.BytesIO()
    how = rng.choice(["arrays", "bytes", "members", "pickle"])
    if how == "pickle":
        return pickle.dumps(Canary(CANARY))
    if how == "arrays":
        changed = rng.choice(changes)()
        arrays.pop(name)
        if changed is not None:
            arrays[name] = changed
    (np.savez_compressed if rng.random() < 0.5 else np.savez)(file, **arrays)  # type: ignore
    if how == "members":
        with zipfile.ZipFile(file, "a") as archive:
            member = rng.choice(["../../evil", f"{EVIL}", "images", "a/../../b", "x" * 999])
            archive.writestr(f"{member}.npy", pickle.dumps(Canary(CANARY)))
    return _change_bytes(file.getvalue(), rng) if how == "bytes" else file.getvalue()


def _original(kind: str, rng: random.Random) -> bytes:
    if kind == "frey_faces":
        import scipy.io

        file = io.BytesIO()
        columns = np.zeros((560, 1965), np.uint8)
        if rng.random() < 0.5:
            changes = [columns[1:], columns.astype(float) * np.nan, columns[0], columns[:, :-1]]
            columns = rng.choice(changes)
        scipy.io.savemat(file, {rng.choice(["ff", "ff", "gg"]): columns}, do_compression=True)
        content = file.getvalue()
    else:
        lines = [_letter(rng) for _ in range(rng.choice([1, 3, 50]))]
        lines *= 52_152 // len(lines) if rng.random() < 0.3 else 1
        content = gzip.compress("\n".join(lines).encode(), 1)
    how = rng.random()
    return pickle.dumps(Canary(CANARY)) if how < 0.1 else _change_bytes(content, rng)


def _letter(rng: random.Random) -> str:
    fields = ["1", "o", "2", "1", "1", "0", *("01"[rng.random() < 0.5] for _ in range(128))]
    if rng.random() < 0.3:
        fields[rng.randrange(len(fields))] = rng.choice(_VALUES)
    return "\t".join(fields[: rng.choice([1, 6, 7, 134, 134, 134, 134])])


def _tiny() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (40, 6, 5, 1), np.uint8),
        "labels": rng.integers(0, 3, 40, np.int32),
        "splits": np.arange(40) // 30 == np.arange(2)[:, None],
    }


def _change_json(text: str, rng: random.Random) -> bytes:
    """JSON of another form, or with a value of another kind."""
    values = [None, 0, -1, "x", [], {}, True, 1e308, float("nan"), [[]], "../x", 10**30]
    words = text.split(": ")
    place = rng.randrange(1, len(words)) if len(words) > 1 else 0
    rest = words[place].partition(",")[2] if "," in words[place] else "\n}"
    words[place] = json.dumps(rng.choice(values)) + "," + rest
    changed = rng.choice([": ".join(words), json.dumps(rng.choice(values)), "", "\n" + text])
    return changed.encode()


def _change_bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(_few(rng)):
        place = rng.randrange(len(changed) + 1)
        how = rng.randrange(5)
        if how == 0:
            del changed[place:]
        elif how == 1:
            changed[place:place] = rng.randbytes(rng.randint(1, 20))
        elif how == 2:
            del changed[place : place + rng.randint(1, 20)]
        elif changed:
            changed[place % len(changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _change_text(text: str, rng: random.Random) -> str:
    return _change_bytes(text.encode(), rng).decode(errors="replace")


def _few(rng: random.Random) -> int:
    return rng.choice([1, 1, 2, 3])


_PANEL = {"x_label": "x", "y_label": "y", "lines": {"c": [[1, 2], [3, 4]]}}

# By name, with how many of twenty cases are of the kind: training takes seconds, reading does not.
KINDS = {
    "fields": (wrong_fields, 2),
    "flags": (wrong_flags, 3),
    "workdir": (wrong_workdir, 5),
    "data": (wrong_data, 10),
}


def make(kind: str, folder: Path, rng: random.Random) -> Case:
    """A case of a kind, in an empty folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return KINDS[kind][0](folder, rng)
