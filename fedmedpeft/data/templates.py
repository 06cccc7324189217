"""Questions in the format of instructions: the data level of MILE (Chen et al., MICCAI 2024). The wordings are our own.

Which kind of wording a question gets follows its answer type, as in the published instruction data: it tells a model
closed from open questions, so figures with and without templates are not of the same task.
"""

from __future__ import annotations

import hashlib
import re

OPEN = (
    "Look at the image and answer in a few words: {question}",
    "{question} Reply with a short phrase.",
    "Question: {question} Short answer:",
    "Here is a question about the image. {question} Give the answer only, without a sentence around it.",
    "Using what can be seen, tell briefly: {question}",
    "Read the question, look closely, then write the answer in as few words as you can. {question}",
)
CLOSED = (
    "Look at the image and decide: {question}",
    "{question} Settle on one of the possible answers.",
    "Question: {question} Chosen answer:",
    "Here is a question with only a few possible answers. {question} Which one is right?",
    "Using what can be seen, choose: {question}",
)
YES_NO = (
    "Look at the image and answer yes or no: {question}",
    "{question} Options: yes, no.",
    "Question: {question} Choose between yes and no. Chosen answer:",
    "Check the image for this. {question} Reply with a single word.",
    "Using what can be seen, decide: {question} (yes or no)",
    "Is it so or not? {question}",
)

# A question that begins so asks for yes or no, unless it offers a choice.
_ASKS_YES_NO = re.compile(
    r"\s*(is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|any)\b", re.IGNORECASE
)
_OFFERS_CHOICE = re.compile(r"\bor\b|\bvs\b|\bversus\b", re.IGNORECASE)


def instruct(question: str, answer_type: str, *, image: str, seed: int) -> str:
    """``question`` in a wording drawn for its ``answer_type`` (``closed`` or ``open``).

    The draw depends on seed, image and question only, never on other rows or their order. Whether the options yes and
    no are offered follows from how the question begins; the answer itself is not looked at.
    """
    templates = _pool(question, answer_type)
    digest = hashlib.sha256("\0".join((str(seed), image, question)).encode()).digest()
    return templates[int.from_bytes(digest[:8], "big") % len(templates)].replace("{question}", question)


def _pool(question: str, answer_type: str) -> tuple[str, ...]:
    if answer_type == "open":
        return OPEN
    asks = _ASKS_YES_NO.match(question) and not _OFFERS_CHOICE.search(question)
    return YES_NO if asks else CLOSED
