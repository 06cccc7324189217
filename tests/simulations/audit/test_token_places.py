from __future__ import annotations

import torch

from simulations.audit.token_places import TokenPlaces


def tokens(images: int, seed: int) -> torch.Tensor:
    """[P, 9, 12]: contents that differ in ten directions, and positions that differ only in two more, and faintly."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(images, 9, 10, generator=generator)
    angle = 2 * torch.pi * torch.arange(9) / 9
    position = 0.05 * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([content, position + 1e-3 * torch.randn(images, 9, 2, generator=generator)], 2)


def test_positions_are_found_where_contents_drown_them() -> None:
    places, new = TokenPlaces.of(tokens(40, 0)), tokens(20, 1)
    assert places.share_found(new) > 0.99
    nearest = torch.cdist(new.double(), places.means).argmin(-1)
    assert float((nearest == torch.arange(9)).double().mean()) < 0.5


def test_the_mean_of_two_tokens_is_no_token() -> None:
    places, new = TokenPlaces.of(tokens(40, 0)), tokens(20, 1).double()
    _, single = places.find(new.flatten(0, 1))
    _, mixed = places.find((new[:, 0] + new[:, 4]) / 2)
    assert float((single <= places.far).double().mean()) > 0.95
    assert (mixed > places.far).all()


def test_directions_are_those_in_which_positions_differ() -> None:
    direction = TokenPlaces.of(tokens(40, 0)).direction(2, torch.Generator().manual_seed(0))
    assert float(direction.norm()) == torch.tensor(1.0)
    assert float(direction[10:].norm()) > 0.95
