"""Makes a picture of the documentation again: python -m experiments.figures --name=forgetting.

`forgetting` is drawn here, in seconds. The others are figures of runs, which the command copies
from the folder in --runs; docs/results says how each run is trained and evaluated.

  recall: recall_256/figures/recall.png
  generate: kanerva_omniglot/figures/generate_memory_12_classes.png
  one_shot: vma_omniglot_fewshot_8x16/figures/fewshot_samples.png
  learned_slots: vma_omniglot_learned_40000/figures/fewshot_samples.png
  interpolate_cifar10: small/kanerva_cifar10/figures/interpolate.png
      --task=interpolate --option=num_pairs=4
  impute: demo/mem_vae_digits/figures/impute_HALF.png
      of `make demo`; --task=impute --option=rect_size=4
  denoise_digits: kanerva_digits_denoise/figures/denoise.png
  denoise_omniglot: kanerva_omniglot_denoise/figures/denoise.png
  denoise_pseudo_inverse: kanerva_omniglot_pseudo_inverse/figures/denoise.png
  denoise_pseudo_inverse_images: kanerva_omniglot_pseudo_inverse/figures/denoise_block_by_means.png
  denoise_pseudo_inverse_mnist: kanerva_mnist_pseudo_inverse/figures/denoise.png
      all five with --option=by=samples,means,modes
  rivals: compare_rivals/figures/learning_curves.png
  fewshot_curves: compare_fewshot/figures/learning_curves.png
      both of experiments.compare
"""

import re
import shutil
from pathlib import Path

from absl import flags

from experiments import cli
from memjax.errors import UserError

_COPIES = dict(re.findall(r"^  (\w+): (.+)$", __doc__ or "", re.M))
_NAME = flags.DEFINE_enum("name", None, ["forgetting", *_COPIES], "Which.", required=True)
_RUNS = flags.DEFINE_string("runs", "runs", "Folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", "docs", "Folder for the picture, NAME.png.")


def main() -> None:
    """Draws or copies."""
    path = Path(_OUTPUT.value) / f"{_NAME.value}.png"
    if not path.parent.is_dir():
        raise UserError(f"output {path.parent} does not exist")
    if _NAME.value in _COPIES:
        source = Path(_RUNS.value) / _COPIES[_NAME.value]
        if not source.is_file():
            raise UserError(f"{source} does not exist: train and evaluate as --help says")
        shutil.copy(source, path)
    else:
        draw_forgetting(path)
    print(path)


def draw_forgetting(path: Path) -> None:
    """What is read at a digit's place after more and more digits are written."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from memjax import data, plotting
    from memjax.memory import kanerva

    images = data.load("digits", "train").images[:64].astype(np.float32) / 255
    codes = jnp.asarray(images.reshape(len(images), -1) * 2 - 1)  # [T, C]
    weights = jax.random.normal(jax.random.key(0), (len(images), 16)) / 4.0  # of 16 slots
    prior = kanerva.prior(16, codes.shape[1])
    memories = jax.jit(kanerva.write_prefix)(prior, weights, codes, 0.1)
    read, _ = jax.jit(jax.vmap(kanerva.read, in_axes=(0, None)))(memories, weights[0])
    shown = np.clip((np.asarray(read) + 1) / 2, 0, 1).reshape(-1, *images.shape[1:])
    writes = np.array([1, 4, 8, 12, 16, 24, 32, 64])
    plotting.image_grid(path, {"the first digit, after 1 to 64 writes": shown[writes - 1]})


if __name__ == "__main__":
    cli.run(main)
