"""Load image sets, from tfds or embedded, as a `Dataset`."""

import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from persist_jax.data.cache import Conversion, entry, read_arrays
from persist_jax.data.dataset import Dataset, Split
from persist_jax.data.digits import digits
from persist_jax.data.registry import DATASETS
from persist_jax.parameters import Rate, Size

Draw = Literal["per_seed", "first"]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
# As in tfds: name/config:version.
Name = Annotated[str, Field(pattern=r"^\w+([/:]\w[\w.*+-]*)*$", max_length=100)]
_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


def _scaled(pixels: np.ndarray, top: float, double_division: bool) -> np.ndarray:
    scaled = pixels.astype(np.float32) / np.float32(top)
    return scaled / np.float32(top) if double_division else scaled


def _conversion(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> Conversion:
    arguments = {
        "name": name,
        "data_dir": data_dir and os.path.abspath(data_dir),
        "manual_dir": manual_dir and os.path.abspath(manual_dir),
    }
    module = "persist_jax.data.convert"
    return Conversion(name.replace("/", "_"), module, "images", {"name": name}, arguments)


def load_images(
    name: str,
    *,
    validation_fraction: float = 0.2,
    train_examples: int | None = None,
    draw: Draw = "first",
    label_noise: float = 0.0,
    double_division: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load an image data set; the end of its train split becomes the validation part.

    Args:
        name: "digits" (embedded, 8 x 8 x 1), or a tfds data set with `image`, `label` and the
            splits `train` and `test`: "mnist", "fashion_mnist", "kmnist", "cifar10", ...
        validation_fraction: share of the train split, at its end, that becomes validation.
        train_examples: number of examples to train on; None for all. Validation and test stay
            whole.
        draw: which examples these are. "first": the first ones, the same for every seed; the spread
            over seeds then leaves out the choice of the examples. "per_seed", the default in a
            configuration: each seed draws its own from `train`; `Dataset.of_seed` returns those of
            one seed.
        label_noise: share of the training labels that each seed replaces by other classes;
            validation and test labels stay unchanged. See `Dataset.drawn`.
        double_division: divide the pixels by their largest value twice, as the published code does.
        data_dir: folder in which tfds keeps its files; None for its own default.
        manual_dir: folder with the original files, so that nothing is downloaded.
        cache: the cache folder; None for `PERSIST_JAX_CACHE` or `~/.cache/persist_jax`.

    Returns:
        The data set, with pixels in [0, 1].

    Raises:
        ValueError: an unknown name, a fraction outside (0, 1), more examples than there are, or a
            failed download; the last message says how to get the data with or without a network.

    Example:
        >>> dataset = load_images("digits")
        >>> dataset.train.x.shape, len(dataset.validation.y), len(dataset.test.y)
        ((1200, 8, 8, 1), 300, 297)

    Reference:
        Decorrelating neurons using persistence, arXiv 2308.04870: 60 000 images split 80/20.
    """
    if not 0.0 < validation_fraction < 1.0:
        raise ValueError(f"validation_fraction = {validation_fraction}, not between 0 and 1")
    folder = None
    if name == "digits":
        arrays, top = digits(), 16.0
    else:
        folder = entry(_conversion(name, data_dir, manual_dir), cache)
        arrays, top = dict(zip(_ARRAYS, read_arrays(folder, _ARRAYS), strict=True)), 255.0
    x = _scaled(arrays["train_x"], top, double_division)
    y = np.array(arrays["train_y"])
    cut = len(y) - round(validation_fraction * len(y))
    if not 0 < cut < len(y):
        raise ValueError(
            f"validation_fraction: {validation_fraction} of {len(y)} examples leaves none to "
            f"{'validate' if cut else 'train'} on"
        )
    used = cut if train_examples is None else train_examples
    if not 0 < used <= cut:
        raise ValueError(f"train_examples: {used} is not between 1 and {cut}")
    drawn = used if draw == "per_seed" and used < cut else None
    used = cut if draw == "per_seed" else used

    def origin(part: str, position: int) -> str:
        stored = "test" if part == "test" else "train"
        number = position + cut if part == "validation" else position
        return f"{folder or 'embedded'}, {stored} image {number}"

    test = Split(_scaled(arrays["test_x"], top, double_division), np.array(arrays["test_y"]))
    train, validation = Split(x[:used], y[:used]), Split(x[cut:], y[cut:])
    drawing = {"drawn_examples": drawn, "label_noise": label_noise}
    return Dataset(name, train, validation, test, origin=origin, **drawing)


def _at_hand(*, name: str, cache: str | None, **others: object) -> bool:
    return name == "digits" or _conversion(name).is_done(cache)


@DATASETS.register("images", places=("data_dir", "manual_dir", "cache"), at_hand=_at_hand)
def _images(
    *,
    name: Name,
    validation_fraction: InnerShare = 0.2,
    train_examples: Size | None = None,
    draw: Draw = "per_seed",
    label_noise: Rate = 0.0,
    double_division: bool = False,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    cache: str | None = None,
) -> Dataset:
    return load_images(
        name,
        validation_fraction=validation_fraction,
        train_examples=train_examples,
        draw=draw,
        label_noise=label_noise,
        double_division=double_division,
        data_dir=data_dir,
        manual_dir=manual_dir,
        cache=cache,
    )
