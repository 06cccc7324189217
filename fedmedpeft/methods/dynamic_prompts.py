"""The modules of dynamic visual prompt tuning (see ``dynamic_vpt``)."""

from __future__ import annotations

import torch
from torch import nn

from fedmedpeft.backbones import Inserted
from fedmedpeft.backbones.transformer import Readout
from fedmedpeft.methods.prompts import PromptTokens
from fedmedpeft.methods.shared_module import Lent


class Gate(Inserted):
    """A learned factor [1] of what passes."""

    def __init__(self, factor: nn.Parameter) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


class LatentReadout(Inserted):
    """Prompts [P, b] query latent tokens [B, N, b], and what they find goes back to the tokens that matched.

    With S = latent prompts^T / sqrt(b), [B, N, P]: prompt p reads O_p = sum_n softmax_n(S)[n, p] latent_n, and token n
    receives sum_p softmax_p(S)[n, p] O_p.
    """

    def __init__(self, prompts: nn.Parameter) -> None:
        super().__init__()
        self.prompts = prompts

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        scores = latent @ self.prompts.T * latent.shape[-1] ** -0.5
        found = scores.softmax(1).transpose(1, 2) @ latent
        received: torch.Tensor = scores.softmax(2) @ found
        return received


class GatedBottleneck(Inserted):
    """``gate * up(readout(quick_gelu(down(x))))`` on tokens [B, N, d]; without a read-out each token stays alone."""

    def __init__(self, down: nn.Linear, readout: LatentReadout | None, up: nn.Linear, gate: Gate) -> None:
        super().__init__()
        self.down, self.readout, self.up, self.gate = down, readout or nn.Identity(), up, gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        latent = self.down(x)
        output: torch.Tensor = self.gate(self.up(self.readout(latent * torch.sigmoid(1.702 * latent))))
        return output


class BesideFeedForward(Inserted):
    """``base(x) + bottleneck(x)``; a bottleneck may stand beside several blocks, lent to all but the first.

    Args:
        base: the feed-forward sub-layer with its norm and residual.
        bottleneck: reads what the sub-layer reads, before its norm.
        replaced: the last tokens, which first become what they read out of the others by attention
            softmax(x_last x_rest^T / sqrt(d)) x_rest; 0: none.
    """

    def __init__(self, base: nn.Module, bottleneck: GatedBottleneck | Lent, replaced: int) -> None:
        super().__init__()
        self.base, self.bottleneck, self.replaced = base, bottleneck, replaced

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.replaced:
            rest, prompts = x[:, : -self.replaced], x[:, -self.replaced :]
            attention = (prompts @ rest.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(-1)
            x = torch.cat([rest, attention @ rest], dim=1)
        output: torch.Tensor = self.base(x)
        beside: torch.Tensor = self.bottleneck(x)
        return output + beside


class AppendedPrompts(Inserted):
    """The embedding followed by P prompts with positions of their own: [B, N, d] -> [B, N + P, d]."""

    def __init__(self, base: nn.Module, prompts: PromptTokens, positions: PromptTokens) -> None:
        super().__init__()
        self.base, self.prompts, self.positions = base, prompts, positions

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.base(pixels)
        count = tokens.detach()  # as in InsertPrompts
        return torch.cat([tokens, self.prompts(count) + self.positions(count)], dim=1)


class MeanReadout(Inserted):
    """Tokens -> feature: the mean over the normalised class token and the last P tokens, projected."""

    def __init__(self, base: Readout, prompts: int) -> None:
        super().__init__()
        self.base: Readout = base
        self.prompts = prompts

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        read = torch.cat([tokens[:, :1], tokens[:, -self.prompts :]], dim=1)
        feature: torch.Tensor = self.base.projection(self.base.norm(read).mean(1))
        return feature
