"""The residual network for small images."""

from collections import OrderedDict
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field

from persist_jax.models.adapters import LinenModel, linen
from persist_jax.models.convolution import convolution
from persist_jax.models.layers import BatchNormalization, Mode
from persist_jax.models.registry import MODELS

# Beyond these a network takes hours to compile, or more memory than any machine has.
Blocks = Annotated[int, Field(ge=1, le=200)]
Width = Annotated[int, Field(ge=1, le=100_000)]


class ResNet(nn.Module):
    """The residual network of `resnet`, as a module.

    Attributes:
        blocks: blocks per stage.
        width: channels of the first stage.
        classes: number of logits.
        axis_name: name of the mapped axis over which the batch is split; batch normalisation then
            takes statistics over the axis.
    """

    blocks: int
    width: int
    classes: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b classes"], OrderedDict[str, Array]]:
        mode, activations = Mode(train, self.axis_name), OrderedDict()
        x = nn.relu(_normalised_convolution(x, self.width, 1, "stem", mode))
        activations["stem"] = x
        for stage in range(3):
            for block in range(self.blocks):
                name = f"stage{stage + 1}_block{block + 1}"
                channels = self.width * 2**stage
                stride = 2 if stage > 0 and block == 0 else 1
                inner = nn.relu(_normalised_convolution(x, channels, stride, f"{name}_1", mode))
                outer = _normalised_convolution(inner, channels, 1, f"{name}_2", mode)
                x = nn.relu(outer + _shortcut(x, channels, stride))
                activations |= {f"{name}_1": inner, f"{name}_2": x}
        logits = nn.Dense(self.classes, name="logits")(x.mean(axis=(1, 2)))
        activations["logits"] = logits
        return logits, activations


def _normalised_convolution(x: Array, channels: int, stride: int, name: str, mode: Mode) -> Array:
    x = nn.Conv(
        channels,
        (3, 3),
        strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=convolution,
        name=f"{name}_convolution",
    )(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(x, f"{name}_normalisation", mode)


def _shortcut(x: Array, channels: int, stride: int) -> Array:
    """A shortcut without parameters: every `stride`-th position, padded with channels of zeros."""
    added = channels - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, added)))


@MODELS.register("resnet")
def resnet(
    input_shape: tuple[int, ...], classes: int = 10, *, blocks: Blocks = 3, width: Width = 16
) -> LinenModel:
    r"""Residual network for small images with $6 \cdot \mathrm{blocks} + 2$ layers of weights.

    The network is a 3x3 convolution, then three stages of blocks of two 3x3 convolutions, of
    `width`, `2 * width` and `4 * width` channels, each later stage at half the resolution of the
    previous one; then the mean over the image and an affine map to the logits. Every convolution is
    followed by batch normalisation. Shortcuts are identities (option A: zeros for new channels).

    The activations are a mapping in the order of the layers: "stem", the ReLU after the first
    normalisation; for every block "stage1_block1_1", the ReLU after its first normalisation, and
    "stage1_block1_2", the ReLU after the addition of its shortcut; and last "logits".

    Args:
        input_shape: shape of one image, `(h, w, c)`.
        classes: number of logits.
        blocks: blocks per stage: 3 for the ResNet-20, 9 for the ResNet-56.
        width: channels of the first stage.

    Returns:
        The network.

    Raises:
        ValueError: if the examples are not images.

    Example:
        >>> import jax
        >>> model = resnet((8, 8, 1), blocks=1, width=4)
        >>> x = jax.ShapeDtypeStruct((2, 8, 8, 1), "float32")
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), x)
        >>> logits, activations = jax.eval_shape(model.apply, variables, x)
        >>> activations["stage3_block1_2"].shape, list(activations)[-1]
        ((2, 2, 2, 16), 'logits')

    Reference:
        He et al., *Deep residual learning for image recognition*, CVPR 2016, section 4.2.
    """
    if len(input_shape) != 3:
        raise ValueError(f"resnet takes images (h, w, c), an example has the shape {input_shape}")
    return linen(ResNet(blocks, width, classes))
