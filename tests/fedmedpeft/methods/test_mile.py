"""Methods in an encoder-decoder against MILE's and MISS's reference values, and their counts at the published size."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import skeleton
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder, answer_loss
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser
from tests.fedmedpeft.backbones.test_encoder_decoder import published
from tests.golden_encoder_decoder import GoldenEncoderDecoder

LORA = "lora(rank=8, alpha=32, where='decoder')"
IA3 = "peft:ia3(targets='k,v,o,ffn_out', inputs='o,ffn_out', where='{parts}')"
PREFIX = "{name}(tokens=10, offset=true, where='decoder')"
CASES = {
    "lora": LORA,
    "ia3": IA3.format(parts="decoder"),
    "prefix": PREFIX.format(name="prefix"),
    "ptv2": PREFIX.format(name="p-tuning-v2"),
}
_PLACES = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "o",
    "crossattention.self.query": "cross.q",
    "crossattention.self.key": "cross.k",
    "crossattention.self.value": "cross.v",
    "crossattention.output.dense": "cross.o",
    "output.dense": "ffn_out",
}
_ADAPTED = re.compile(
    r"text_(encoder|decoder)\.base_model\.model\.(?:bert\.)?encoder\.layer\.(\d+)\.(.+)\.(lora_A|lora_B|ia3_l)\.default.*"
)


def own_key(name: str) -> str:
    """Of a tensor of LoRA or IA3 by its name in the reference."""
    match = _ADAPTED.fullmatch(name)
    assert match, name
    part = {"encoder": "text", "decoder": "decoder"}[match[1]]
    kind = "peft.ia3_l" if match[4] == "ia3_l" else match[4]
    return f"{part}.blocks.{match[2]}.{_PLACES[match[3]]}.{kind}"


def prompts(tensors: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Those of prefix tuning: the rows of one projection are cut by layer, keys before values."""
    prefix = "text_decoder.prompt_encoder.default."
    embedding = tensors[f"{prefix}embedding.weight"]
    places = [f"decoder.blocks.{layer}.{role}.prefix" for layer in range(layers) for role in "kv"]
    if len(tensors) == 1:
        return dict(zip(places, embedding.chunk(len(places), dim=1), strict=True))
    own = {"decoder.blocks.prefix.embedding": embedding}
    for kind in ("weight", "bias"):
        own[f"decoder.blocks.prefix.hidden.{kind}"] = tensors[f"{prefix}transform.0.{kind}"]
        rows = tensors[f"{prefix}transform.2.{kind}"].chunk(len(places))
        own |= {f"{place}.{kind}": part for place, part in zip(places, rows, strict=True)}
    return own


def adapted(reference: GoldenEncoderDecoder, method: str, case: str) -> tuple[EncoderDecoder, dict[str, nn.Parameter]]:
    """The backbone with the reference's adapter, and what that trains."""
    backbone = copy.deepcopy(reference.backbone)
    parameters = insert(backbone, method)
    tensors = reference.adapter(case)
    depth = len(backbone.decoder.blocks)
    named = (
        prompts(tensors, depth)
        if case in ("prefix", "ptv2")
        else {own_key(name): tensor for name, tensor in tensors.items()}
    )
    assert set(parameters) == set(named)
    with torch.no_grad():
        for key, tensor in named.items():
            parameters[key].copy_(tensor.reshape(parameters[key].shape))
    return backbone, parameters


def insert(backbone: EncoderDecoder, method: str) -> dict[str, nn.Parameter]:
    built = METHODS.build(method)
    with backbone.within(built.options.parts):
        return built.insert(backbone, Initialiser(0, torch.device("cpu")))


def check(reference: GoldenEncoderDecoder, backbone: EncoderDecoder, case: str) -> torch.Tensor:
    """Outputs in both precisions; returns the loss in float32."""
    question, answer = reference.question, reference.answer
    losses = []
    for dtype, prefix in ((torch.float64, "f64."), (torch.float32, "")):
        backbone.to(dtype)
        states = backbone.states(reference.pixels(dtype), question)
        logits = backbone.decode(states, question.mask, answer)
        losses.append(answer_loss(logits, answer, 0.1))
        reference.close(f"{prefix}{case}.out.decoder_logits", logits)
        reference.close(f"{prefix}{case}.out.loss_per_sample", losses[-1])
        reference.close(f"{prefix}{case}.out.loss", losses[-1].mean()[None])
    reference.close(f"{case}.mid.question_states", states)
    written = backbone.generate(states, torch.ones_like(question.mask), end=3)
    assert torch.equal(written, reference.values[f"{case}.out.generate_ids"])
    return losses[-1].mean()


@pytest.fixture(scope="module")
def mile(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> GoldenEncoderDecoder:
    return GoldenEncoderDecoder.read(golden / "mile", tmp_path_factory.mktemp("mile"))


@pytest.mark.parametrize("case", CASES)
def test_a_method_in_the_decoder_is_that_of_mile(mile: GoldenEncoderDecoder, case: str) -> None:
    backbone, parameters = adapted(mile, CASES[case], case)
    seen: dict[str, torch.Tensor] = {}
    watched = {
        f"{case}.mid.decoder.embeddings": backbone.decoder.norm_pre,
        **{f"{case}.mid.decoder.layer{index}": block for index, block in enumerate(backbone.decoder.blocks)},
    }
    hooks = [
        module.register_forward_hook(lambda _, __, output, key=key: seen.setdefault(key, output))
        for key, module in watched.items()
    ]
    with torch.no_grad():
        states = backbone.states(mile.pixels(), mile.question)
        backbone.decode(states, mile.question.mask, mile.answer)
    for hook in hooks:
        hook.remove()
    for key in watched:
        mile.close(key, seen[key])
    check(mile, backbone, case).backward()
    check_gradients(mile, case, parameters, len(backbone.decoder.blocks))


def check_gradients(
    reference: GoldenEncoderDecoder, case: str, parameters: dict[str, nn.Parameter], layers: int
) -> None:
    keys = [key for key in reference.values if key.startswith(f"{case}.grad.")]
    assert keys
    gradients = {key: parameter.grad for key, parameter in parameters.items() if parameter.grad is not None}
    for key in keys:
        theirs = key.removeprefix(f"{case}.grad.")
        if case in ("prefix", "ptv2"):
            whole = {
                "embedding.weight": ["decoder.blocks.prefix.embedding"],
                "transform.2.bias": [f"decoder.blocks.{i}.{r}.prefix.bias" for i in range(layers) for r in "kv"],
            }[theirs.removeprefix("text_decoder.prompt_encoder.default.")]
            if case == "ptv2":
                whole = [f"decoder.blocks.{i}.{r}.prefix" for i in range(layers) for r in "kv"]
            found = torch.cat([gradients[own] for own in whole], dim=-1)
        else:
            found = gradients[own_key(theirs)]
        reference.close(key, found.reshape(reference.values[key].shape))


def test_ia3_in_both_networks_is_that_of_miss(golden: Path, tmp_path: Path) -> None:
    reference = GoldenEncoderDecoder.read(golden / "miss", tmp_path)
    backbone, parameters = adapted(reference, IA3.format(parts="text,decoder"), "ia3_encoder_decoder")
    check(reference, backbone, "ia3_encoder_decoder").backward()
    check_gradients(reference, "ia3_encoder_decoder", parameters, 2)


def test_without_the_offset_a_prefix_is_another_one(mile: GoldenEncoderDecoder) -> None:
    backbone, _ = adapted(mile, CASES["prefix"].replace("true", "false"), "prefix")
    with torch.no_grad():
        states = backbone.states(mile.pixels(), mile.question)
        logits = backbone.decode(states, mile.question.mask, mile.answer)
    assert (logits - mile.values["prefix.out.decoder_logits"]).abs().max() > 1


_BOTH = "text,decoder"
_COUNTS = {
    f"lora(rank=4, alpha=32, where='{_BOTH}')": (589_824, 0.163),
    f"lora(rank=8, alpha=32, where='{_BOTH}')": (1_179_648, 0.325),
    f"peft:ia3(targets='k,v,o,ffn_out', inputs='o,ffn_out', where='{_BOTH}')": (184_320, 0.051),
    "p-tuning-v2(where='decoder')": (184_320, 0.051),
    f"p-tuning-v2(where='{_BOTH}')": (368_640, 0.102),
    "prefix(where='decoder')": (14_772_480, 3.926),
    f"prefix(where='{_BOTH}')": (29_544_960, 7.556),
}


@pytest.mark.parametrize("method", _COUNTS)
def test_counts_are_those_of_mile(method: str) -> None:
    """Its share is of the network with what was added, as Hugging Face peft prints it."""
    expected, percent = _COUNTS[method]
    added = count(method)
    assert added == expected
    total = sum(parameter.numel() for parameter in skeleton(published()).original_parameters().values())
    assert round(100 * added / (total + added), 3) == percent


@pytest.mark.parametrize(("rank", "percent"), [(4, 0.327), (8, 0.652)])
def test_lora_in_all_three_networks(rank: int, percent: float) -> None:
    """As MILE prints it: its image tower has one projection to q, k and v, and so one A where there are three here, and
    the name that it gives for ``o`` is that of the patch projection too."""
    everywhere = f"lora(rank={rank}, where='vision', targets='q,k,v,o,ffn_in,ffn_out')"
    added = count(everywhere) + count(f"lora(rank={rank}, where='{_BOTH}')")
    published_count = added - 12 * 2 * rank * 768 + rank * (3 * 16 * 16 + 768)
    total = sum(parameter.numel() for parameter in skeleton(published()).original_parameters().values())
    assert round(100 * published_count / (total + published_count), 3) == percent


def test_layernorm_tuning_has_all_that_the_reference_lists(mile: GoldenEncoderDecoder) -> None:
    listed = json.loads((mile.directory / "meta.json").read_text())["trainable"]["layernorm_all"]
    built = METHODS.build("layernorm")
    backbone = copy.deepcopy(mile.backbone)
    with backbone.within(backbone.parts):
        found = built.insert(backbone, Initialiser(0, torch.device("cpu")))
    assert len(found) == len(listed) == 40
    assert {"decoder.head.norm.weight", "text.norm_pre.bias", "vision.norm.weight"} <= set(found)


def count(method: str) -> int:
    learner = learner_skeleton(published(), method, (), "generation")
    return sum(trainable.parameter.numel() for trainable in learner.trainables.values())
