"""Images side by side, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image

_SIDE, _GAP = 128, 6


def strip(rows: Sequence[torch.Tensor]) -> bytes:
    """One row for each of ``rows`` [B, 3, S, S] in 0..1, enlarged without smoothing to at least 128 px a side."""
    size = int(rows[0].shape[-1])
    side = size * max(1, -(-_SIDE // size))
    most = max(len(row) for row in rows)
    sheet = Image.new("RGB", (most * (side + _GAP) - _GAP, len(rows) * (side + _GAP) - _GAP), "white")
    for down, images in enumerate(rows):
        for across, image in enumerate(images):
            pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).mul(255).round().byte().numpy()
            enlarged = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (across * (side + _GAP), down * (side + _GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
