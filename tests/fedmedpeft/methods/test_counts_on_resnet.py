"""What each method exchanges on ResNet-50: integers that follow from arithmetic, not from running the code."""

from __future__ import annotations

import pytest

from fedmedpeft.learner import learner_skeleton
from tests.tiny_resnet import resnet_record

# 53 convolutions, each with a BatchNorm, give 26,560 channels: 64 + sum over the four stages, of width w and n layers,
# of n (w + w + 4 w) and 4 w for the shortcut.
_CHANNELS = 26_560

_COUNTS = {
    "head": 0,
    # the shift of each BatchNorm: convolutions have no bias
    "bitfit": _CHANNELS,
    # scale and shift
    "batchnorm": 2 * _CHANNELS,
    "batchnorm(statistics='site')": 2 * _CHANNELS,
    # a scale and a shift after each convolution and after each BatchNorm
    "ssf": 4 * _CHANNELS,
    # w^2 beside the 3x3 convolution of each layer
    "tsa": 3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2,
    # the last two layers of width 512
    "blocks": 2 * (2 * 2048 * 512 + 9 * 512**2 + 2 * (512 + 512 + 2048)),
    "full": 23_508_032,
    # the shift of each BatchNorm counts once
    "batchnorm+bitfit+tsa": 2 * _CHANNELS + 1_257_472,
}


@pytest.mark.parametrize("method", _COUNTS)
def test_counts_on_resnet_50(method: str) -> None:
    manifest = learner_skeleton(resnet_record(), method, "abcdefgh").manifest()
    assert manifest.numel("method") == _COUNTS[method]
    assert manifest.numel("head") == 8 * 2049
