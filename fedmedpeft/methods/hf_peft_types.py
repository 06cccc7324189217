"""What is known of each type of Hugging Face peft on a vision backbone; its code and its options are peft's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmedpeft.backbones import Role
from fedmedpeft.methods.method import Averaging
from fedmedpeft.methods.targets import NORMS, PROJECTIONS


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One ``peft:<name>``.

    Args:
        summary: in one line, with the defaults a reader needs.
        source: paper.
        learning_rate: AdamW step size that suits it: the best of 5e-4, 2e-3, 8e-3, ..., 0.3 over 30 steps on phantoms,
            or a little less; that of `layernorm` for the same thing.
        type: peft's name of the type; empty: the same as ours.
        averaging: what the mean of several sites' states is.
        targets: places it acts on by default.
        known: places it can act on.
        starts_frozen: training starts, to the bit, at the frozen model; where not, in a few cases only near it.
        hides: parameters of the frozen module that no gradient reaches under its layer.
        dp_capable: its parameters are owned by modules that are called once with the batch.
        mergeable: it can be folded into plain weights.
        on_meta: peft builds it on torch's meta device; where not, it is built on zeros for a skeleton.
        defaults: other defaults than peft's, where those fit no small backbone.
        preset: fields that are set and not offered as options.
    """

    summary: str
    source: str
    learning_rate: float
    type: str = ""
    averaging: Averaging = "factors"
    targets: str = "q,v"
    known: tuple[Role, ...] = PROJECTIONS
    starts_frozen: bool = True
    hides: tuple[str, ...] = ()
    dp_capable: bool = False
    mergeable: bool = True
    on_meta: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Any] = field(default_factory=dict)


_RANK = {"r": 8}
_WITH_CONV: tuple[Role, ...] = (*PROJECTIONS, "conv")
"""For types whose layers of convolutions are right; oft's do not start at the frozen model, others have none."""

KINDS: dict[str, Kind] = {
    "lora": Kind(
        known=_WITH_CONV,
        summary="low-rank updates (rank 8 on q and v)",
        source="Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685)",
        learning_rate=5e-3,
        dp_capable=True,
    ),
    "rslora": Kind(
        known=_WITH_CONV,
        type="lora",
        preset={"use_rslora": True},
        summary="LoRA scaled by alpha / sqrt(rank) (rank 8 on q and v)",
        source="Kalajdzievski, rsLoRA, 2023 (arXiv 2312.03732)",
        learning_rate=3e-3,
        dp_capable=True,
    ),
    "dora": Kind(
        known=_WITH_CONV,
        type="lora",
        preset={"use_dora": True},
        summary="magnitude and direction of the weights, the direction by LoRA (rank 8 on q and v)",
        source="Liu et al., DoRA, ICML 2024 (arXiv 2402.09353)",
        learning_rate=5e-3,
    ),
    "adalora": Kind(
        known=_WITH_CONV,
        preset=dict.fromkeys(("beta1", "beta2", "orth_reg_weight"), 0.5)
        | {"r": 8, "target_r": 8, "tinit": 0, "tfinal": 0, "deltaT": 1, "total_step": 1},
        summary="updates in the form of an SVD, at a fixed rank: ranks are not re-allocated (rank 12 on q and v)",
        source="Zhang et al., AdaLoRA, ICLR 2023 (arXiv 2303.10512)",
        learning_rate=2e-2,
    ),
    "beft": Kind(
        targets="v",
        averaging="exact",
        summary="one more bias on chosen projections (v)",
        source="Huang et al., BEFT, 2025 (arXiv 2509.15974)",
        learning_rate=5e-2,
    ),
    "boft": Kind(
        on_meta=False,
        summary="orthogonal rotation of the weights, as butterflies (blocks of 4 on q and v)",
        source="Liu et al., BOFT, ICLR 2024 (arXiv 2311.06243)",
        learning_rate=2e-2,
    ),
    "c3a": Kind(
        averaging="exact",
        preset={"init_weights": True},
        defaults={"block_size": 64},
        summary="updates that are circular convolutions (blocks of 64 on q and v)",
        source="Chen et al., C3A, 2024 (arXiv 2407.19342)",
        learning_rate=0.3,
    ),
    "deft": Kind(
        starts_frozen=False,
        summary="removes a subspace of the weights and injects another one (rank 8 on q and v)",
        source="Hugging Face peft 0.21, DEFT",
        learning_rate=5e-3,
    ),
    "delora": Kind(
        summary="low-rank updates of bounded, learned norm (rank 8 on q and v)",
        source="Bini et al., DeLoRA, ICLR 2025 (arXiv 2503.18225)",
        learning_rate=3e-3,
    ),
    "fourierft": Kind(
        averaging="exact",
        preset={"init_weights": True},
        summary="updates that are sparse in frequency (1000 coefficients on each q and v)",
        source="Gao et al., FourierFT, ICML 2024 (arXiv 2405.03003)",
        learning_rate=3e-2,
    ),
    "glora": Kind(
        summary="low-rank scale and shift of weights and biases (rank 8 on q and v)",
        source="Chavan et al., GLoRA, 2023 (arXiv 2306.07967)",
        learning_rate=5e-3,
    ),
    "gralora": Kind(
        summary="low-rank updates block by block (rank 32, 2 x 2 blocks on q and v)",
        source="Jung et al., GraLoRA, NeurIPS 2025 (arXiv 2505.20355)",
        learning_rate=3e-3,
    ),
    "hira": Kind(
        known=_WITH_CONV,
        summary="weights times a low-rank update, element by element (rank 32 on q and v)",
        source="Huang et al., HiRA, ICLR 2025 (OpenReview TwJrTz9cRS)",
        learning_rate=2e-2,
    ),
    "hra": Kind(
        known=_WITH_CONV,
        hides=("weight",),
        starts_frozen=False,
        summary="Householder reflections of the weights (8 on q and v)",
        source="Yuan et al., HRA, NeurIPS 2024 (arXiv 2405.17484)",
        learning_rate=1e-2,
    ),
    "ia3": Kind(
        targets="k,v,ffn_out",
        known=_WITH_CONV,
        averaging="exact",
        summary="scales of keys, values and the feed-forward network's hidden channels",
        source="Liu et al., IA3, NeurIPS 2022 (arXiv 2205.05638)",
        learning_rate=5e-2,
    ),
    "lily": Kind(
        mergeable=False,
        summary="LoRA whose up-projections all blocks share, chosen by a router (rank 32 on q and v)",
        source="Zhong and Zhou, Lily, 2024 (arXiv 2407.09946)",
        learning_rate=5e-3,
    ),
    "ln_tuning": Kind(
        targets="norm1,norm2",
        known=NORMS,
        hides=("weight", "bias"),
        averaging="exact",
        dp_capable=True,
        summary="scale and shift of the LayerNorms in the blocks",
        source="Zhao et al., LN tuning, ICLR 2024 (arXiv 2312.11420)",
        learning_rate=3e-3,
    ),
    "loha": Kind(
        known=_WITH_CONV,
        summary="element-wise products of two low-rank updates (rank 8 on q and v)",
        source="Hyeon-Woo et al., FedPara, ICLR 2022 (arXiv 2108.06098)",
        learning_rate=2e-2,
    ),
    "lokr": Kind(
        known=_WITH_CONV,
        summary="Kronecker products (rank 8 on q and v)",
        source="Yeh et al., LyCORIS, ICLR 2024 (arXiv 2309.14859)",
        learning_rate=3e-2,
    ),
    "miss": Kind(
        averaging="exact",
        defaults=_RANK,
        preset={"init_weights": True},
        summary="one shard that all slices of the input share (rank 8 on q and v)",
        source="Kang and Yin, MiSS, 2024 (arXiv 2409.15371)",
        learning_rate=5e-3,
    ),
    "oft": Kind(
        summary="orthogonal rotation of the inputs, block by block (blocks of 32 on q and v)",
        source="Qiu et al., OFT, NeurIPS 2023 (arXiv 2306.07280)",
        learning_rate=2e-3,
    ),
    "peanut": Kind(
        summary="updates that a small network makes of the weights (rank 32 on q and v)",
        source="Zhong et al., PEANuT, 2024 (arXiv 2410.01870)",
        learning_rate=5e-3,
    ),
    "pvera": Kind(
        summary="VeRA with a learned variance while training (rank 256 on q and v)",
        source="PVeRA, 2025 (arXiv 2512.07703)",
        learning_rate=5e-2,
    ),
    "randlora": Kind(
        summary="scales of random bases of full rank (rank 32 on q and v)",
        source="Albert et al., RandLoRA, ICLR 2025 (arXiv 2502.00987)",
        learning_rate=2e-3,
    ),
    "road": Kind(
        summary="rotation and scale of pairs of outputs (q and v)",
        source="Liao and Monz, RoAd, NeurIPS 2024 (arXiv 2409.00119)",
        learning_rate=5e-2,
    ),
    "shira": Kind(
        hides=("weight",),
        averaging="exact",
        on_meta=False,
        summary="a random sparse part of the weights (as many as rank 32 on q and v)",
        source="Bhardwaj et al., SHiRA, NeurIPS 2024 (arXiv 2406.13175)",
        learning_rate=5e-3,
    ),
    "supertuning": Kind(
        averaging="exact",
        preset={"r": None, "lora_alpha": None, "lora_dropout": 0.0},
        summary="the largest 1 % of the weights (q and v)",
        source="Super-Tuning, 2026 (arXiv 2607.09287)",
        learning_rate=5e-2,
    ),
    "unilora": Kind(
        starts_frozen=False,
        on_meta=False,
        summary="LoRA of which one short vector gives every entry (256 numbers, rank 4 on q and v)",
        source="Li et al., Uni-LoRA, NeurIPS 2025 (arXiv 2506.00799)",
        learning_rate=0.3,
    ),
    "vblora": Kind(
        starts_frozen=False,
        defaults={"vector_length": 64},
        summary="LoRA composed of vectors from one bank (256 vectors of 64, rank 4 on q and v)",
        source="Li et al., VB-LoRA, NeurIPS 2024 (arXiv 2405.15179)",
        learning_rate=2e-2,
    ),
    "vera": Kind(
        summary="scales of one pair of random matrices (rank 256 on q and v)",
        source="Kopiczko et al., VeRA, ICLR 2024 (arXiv 2310.11454)",
        learning_rate=5e-2,
    ),
    "waveft": Kind(
        averaging="exact",
        summary="updates that are sparse in a wavelet basis (2592 coefficients on each q and v)",
        source="Bilican et al., WaveFT, 2025 (arXiv 2505.12532)",
        learning_rate=1e-3,
    ),
}  # fmt: skip
"""Every type that works, by the name behind ``peft:``."""

_TEXT = "prompt learning of peft needs a text model with a vocabulary; vpt-deep and vpt-shallow are prompts for images"
_SVD = "its frozen basis is an SVD, made at each site and never sent: two machines need not get the same one"

EXCLUDED: dict[str, str] = {
    "adamss": "how many numbers it trains follows from the backbone's weights, which the server does not have",
    "adaption_prompt": "only for language models of the Llama and Mistral kind",
    "cartridge": _TEXT,
    "cpt": _TEXT,
    "frod": _SVD,
    "multitask_prompt_tuning": _TEXT,
    "osf": _SVD,
    "p_tuning": _TEXT,
    "poly": "needs to be told the task of every example",
    "prefix_tuning": _TEXT,
    "prompt_tuning": _TEXT,
    "psoft": _SVD,
    "shadow": "copies a whole language model; fails on a vision backbone",
    "tinylora": _SVD,
    "trainable_tokens": "rows of a vocabulary's embedding; images have none",
    "xlora": "mixes LoRAs that were trained before",
}
"""Every other type of peft, and why it is not offered."""
