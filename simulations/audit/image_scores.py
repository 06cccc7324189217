"""How much a rebuilt image shows of the original: PSNR, SSIM, and whether it tells which of many images it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import conv2d

_WINDOW, _SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_PEAK = 100.0
"""dB reported for equal images, whose PSNR is infinite."""


@dataclass(frozen=True)
class ImageScores:
    """Means over the original images of a batch.

    Attributes:
        psnr: dB. ssim: -1 to 1.
        identified: share of the originals that are the nearest candidate of some rebuilt image.
    """

    psnr: float
    ssim: float
    identified: float


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in 0..1 of one shape; 100 at most."""
    error = float((first - second).square().mean())
    return min(_PEAK, -10 * math.log10(error)) if error else _PEAK


def ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    """Structural similarity of two images [C, H, W] in 0..1, mean over channels and places.

    Wang et al., IEEE TIP 13(4), 2004: Gaussian window of 11 pixels (fewer where the image is smaller), sigma 1.5.
    """
    window = _window(min(_WINDOW, *first.shape[-2:]))
    first, second = first.double(), second.double()
    stacked = torch.stack([first, second, first * first, second * second, first * second])
    mean1, mean2, square1, square2, product = conv2d(stacked.flatten(0, 1)[:, None], window).unflatten(0, (5, -1))
    variance1, variance2 = square1 - mean1**2, square2 - mean2**2
    covariance = product - mean1 * mean2
    luminance = (2 * mean1 * mean2 + _LUMINANCE) / (mean1**2 + mean2**2 + _LUMINANCE)
    structure = (2 * covariance + _CONTRAST) / (variance1 + variance2 + _CONTRAST)
    return float((luminance * structure).mean())


def most_alike(images: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """For each of ``images`` [R, C, H, W] the candidate [N, C, H, W] with the highest correlation, int64 [R].

    Correlation, since a blurred or pale copy still tells whose image it was. One without contrast matches the first.
    """
    return (_standardised(images) @ _standardised(candidates).T).argmax(1)


def score_images(
    rebuilt: torch.Tensor, originals: torch.Tensor, candidates: torch.Tensor, places: torch.Tensor
) -> ImageScores:
    """Score ``rebuilt`` [R, C, H, W] against ``originals`` [B, C, H, W], all in 0..1.

    Each original is compared with the rebuilt image that is given to it so that errors are smallest in sum; where there
    are fewer, several originals may get the same one.

    Args:
        candidates: [N, C, H, W], among them the originals.
        places: int64 [B], where they are.
    """
    paired = rebuilt[paired_with(rebuilt, originals)]
    found = set(most_alike(rebuilt, candidates).tolist())
    pairs = list(zip(paired, originals, strict=True))
    return ImageScores(
        psnr=sum(psnr(*pair) for pair in pairs) / len(pairs),
        ssim=sum(ssim(*pair) for pair in pairs) / len(pairs),
        identified=sum(place in found for place in places.tolist()) / len(pairs),
    )


def mean_scores(scores: Sequence[ImageScores]) -> ImageScores:
    """The mean of each."""
    count = len(scores)
    return ImageScores(
        sum(one.psnr for one in scores) / count,
        sum(one.ssim for one in scores) / count,
        sum(one.identified for one in scores) / count,
    )


def paired_with(rebuilt: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    """Which of ``rebuilt`` belongs to each of ``originals``, int64 [B]."""
    error = torch.cdist(originals.flatten(1).double(), rebuilt.flatten(1).double()).square()
    if len(rebuilt) < len(originals):
        return error.argmin(1)
    _, columns = linear_sum_assignment(error.numpy())
    return torch.from_numpy(columns).long()


def _window(size: int) -> torch.Tensor:
    """float64 [1, 1, size, size], sums to one."""
    distance = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-0.5 * (distance / _SIGMA) ** 2)
    line = line / line.sum()
    return torch.outer(line, line)[None, None]


def _standardised(images: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N, C H W], mean 0 and norm 1; zero where there is no contrast."""
    flat = images.flatten(1).double()
    centred = flat - flat.mean(1, keepdim=True)
    standardised: torch.Tensor = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return standardised
