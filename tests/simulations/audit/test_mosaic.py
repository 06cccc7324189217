from __future__ import annotations

import torch

from simulations.audit.adapter_tap import first_taps
from simulations.audit.image_scores import psnr
from simulations.audit.image_search import Search
from simulations.audit.mosaic import image_of_tokens
from simulations.audit.token_places import TokenPlaces
from tests.simulations.audit.runs import audit_run


def test_tokens_in_any_order_and_a_false_one_make_the_image_again() -> None:
    run = audit_run("embedded", method="adaptformer")
    learner, public = run.fresh(), smooth(40, 0)
    tap = first_taps(learner, set(learner.trainables))[0]
    secret = smooth(1, 1)
    with torch.no_grad():
        places = TokenPlaces.of(tap.tokens(learner, public))
        tokens = tap.tokens(learner, secret)[0].double()
    shuffled = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    told = torch.cat([shuffled, (shuffled[:1] + shuffled[1:2]) / 2])
    start = public.mean(0, keepdim=True)
    image = image_of_tokens(learner, tap, told, places, start, Search(80, 0.05, 0.001))
    assert psnr(image[0], secret[0]) > psnr(start[0], secret[0]) + 8


def test_without_a_token_that_fits_anywhere_nothing_is_made_up() -> None:
    run = audit_run("embedded", method="adaptformer")
    learner, public = run.fresh(), smooth(20, 0)
    tap = first_taps(learner, set(learner.trainables))[0]
    with torch.no_grad():
        places = TokenPlaces.of(tap.tokens(learner, public))
    noise = 50 * torch.randn(10, 192, generator=torch.Generator().manual_seed(0))
    start = public.mean(0, keepdim=True)
    assert torch.equal(image_of_tokens(learner, tap, noise, places, start, Search(5, 0.05, 0.001)), start)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Smooth random images of the embedded backbone's size."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=64, mode="bicubic").clamp(0, 1)
