from __future__ import annotations

import pytest
import torch

from simulations.audit.image_scores import most_alike, paired_with, psnr, score_images, ssim


def images(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error() -> None:
    grey = torch.full((3, 8, 8), 0.5)
    assert psnr(grey, grey + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(grey, grey) == 100.0


def test_ssim_is_one_only_for_the_same_image() -> None:
    one, other = images(2)
    assert ssim(one, one) == pytest.approx(1.0)
    assert ssim(one, other) == pytest.approx(ssim(other, one))
    assert ssim(one, other) < 0.3
    assert ssim(one, 1 - one) < 0


def test_ssim_of_flat_images_is_their_luminance_term() -> None:
    dark, light = torch.full((1, 12, 12), 0.2), torch.full((1, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(dark, light) == pytest.approx(expected, rel=1e-5)


def test_ssim_falls_with_noise_faster_than_with_brightness() -> None:
    ramp = torch.linspace(0.2, 0.8, 16).expand(3, 16, 16)
    noisy = ramp + 0.1 * (images(1)[0] - 0.5) * 12**0.5
    assert psnr(ramp, noisy) == pytest.approx(psnr(ramp, ramp + 0.1), abs=0.3)
    assert ssim(ramp, noisy) < 0.8 * ssim(ramp, ramp + 0.1)


def test_a_pale_and_blurred_copy_is_still_recognised() -> None:
    candidates = images(30)
    smooth = torch.nn.functional.avg_pool2d(candidates, 3, stride=1, padding=1, count_include_pad=False)
    assert most_alike(0.2 * smooth + 0.7, candidates).tolist() == list(range(30))


def test_pairs_are_those_with_the_smallest_errors() -> None:
    originals, order = images(5), torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(originals[order][paired_with(originals[order], originals)], originals)
    assert paired_with(originals[:1], originals).tolist() == [0] * 5


def test_scores_of_a_perfect_and_of_a_useless_reconstruction() -> None:
    candidates, places = images(20), torch.tensor([4, 7])
    perfect = score_images(candidates[places.flip(0)], candidates[places], candidates, places)
    assert (perfect.psnr, perfect.identified) == (100.0, 1.0)
    assert perfect.ssim == pytest.approx(1.0)
    useless = score_images(candidates[:2], candidates[places], candidates, places)
    assert useless.psnr < 12
    assert useless.identified == 0.0
