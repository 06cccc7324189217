"""Where the draws of a private training come from: who is sampled, and the noise."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Protocol

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BITS = 53
"""Of a float64's fraction: what a uniform draw has."""
_SUMMED = 4
"""Gaussians that one coordinate of the system's noise is made of."""
_AES_BLOCK = 16
_CHUNK = 2**14
"""Coordinates drawn at a time, so that what they are made of stays small beside what is trained."""


class Randomness(Protocol):
    """Uniform and Gaussian draws."""

    def uniform(self, count: int) -> torch.Tensor:
        """float64 [count] in [0, 1), on the CPU."""
        ...

    def normal(self, shape: Sequence[int], *, std: float, device: torch.device | str = "cpu") -> torch.Tensor:
        """float32 of this shape with mean 0, independent of each other and of all that was drawn before."""
        ...


class SystemRandomness:
    """Draws from the operating system's generator (``os.urandom``), which no seed of a run can foretell.

    Each call takes a key from there and uses it once: what is drawn is the key stream of AES-256 in counter mode, which
    is fifteen times as fast as the system's generator itself and as good, unless AES is broken. torch's and numpy's
    generators are neither used nor changed. A coordinate of noise is half the sum of four Gaussians
    by Box and Muller in float64, each of a pair of its own (Holohan & Braghin, Secure Random Sampling in Differential
    Privacy, ESORICS 2021): the gaps between the numbers that one Gaussian's floating-point formula can give would
    otherwise tell what noise was added to (Mironov, CCS 2012).

    What it is not: a proof. The result is rounded to float32 and added in floating point, which no theorem of the
    Gaussian mechanism covers; a Gaussian in it ends at 8.6 standard deviations (1e-17 of its mass lies beyond); and how
    long a draw takes is not hidden.
    """

    def uniform(self, count: int) -> torch.Tensor:
        return _uniform(count, torch.device("cpu"))

    def normal(self, shape: Sequence[int], *, std: float, device: torch.device | str = "cpu") -> torch.Tensor:
        drawn = torch.empty(math.prod(shape), dtype=torch.float32, device=device)
        for part in drawn.split(_CHUNK):
            part.copy_(_gaussians(len(part), drawn.device).mul_(std))
        return drawn.view(*shape)


class SeededRandomness:
    """The same draws for the same seed: for tests, never for data that is to be protected."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)

    def normal(self, shape: Sequence[int], *, std: float, device: torch.device | str = "cpu") -> torch.Tensor:
        return (std * torch.randn(*shape, generator=self._generator, dtype=torch.float64)).float().to(device)


def _uniform(count: int, device: torch.device) -> torch.Tensor:
    """float64 [count] in [0, 1), multiples of 2^-53."""
    if not count:
        return torch.zeros(0, dtype=torch.float64, device=device)
    stream = bytearray(8 * count + _AES_BLOCK - 1)
    Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(_AES_BLOCK))).encryptor().update_into(
        bytes(8 * count), stream
    )
    bits = torch.frombuffer(stream, dtype=torch.int64, count=count).to(device)
    drawn: torch.Tensor = (bits & (2**_BITS - 1)).double() * 2.0**-_BITS
    return drawn


def _gaussians(count: int, device: torch.device) -> torch.Tensor:
    """float64 [count], standard normal."""
    pairs = (count + 1) // 2
    uniform = _uniform(2 * _SUMMED * pairs, device).view(2, _SUMMED, pairs)
    # In (0, 1], of which a logarithm exists. The two of a pair go to different coordinates: their sum would be no more
    # than another Gaussian of the same bits.
    radius = uniform[0].neg_().add_(1).log_().mul_(-2).sqrt_()
    angle = uniform[1].mul_(2 * math.pi)
    sums = torch.cat([(radius * angle.cos()).sum(0), (radius * angle.sin()).sum(0)])[:count]
    return sums.mul_(math.sqrt(1 / _SUMMED))
