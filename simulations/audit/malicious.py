"""A malicious server: it sends an adapter of its own making."""

from __future__ import annotations

from simulations.audit.curious import Row, images_of
from simulations.audit.finding import Figure, Finding
from simulations.audit.forgery import LOUD, QUIET, Forgery, attacked
from simulations.audit.inbound_check import check_of_crafted
from simulations.audit.scene import Scene, Sent

COLUMNS = (
    "state",
    "images in the step",
    "what was sent",
    "tokens read",
    "PSNR (dB)",
    "SSIM",
    "identified",
    "by chance",
)


def malicious_server(scene: Scene) -> list[Finding]:
    """What crafted adapters tell, and which of them the site's inbound check refuses."""
    forgery = Forgery.of(scene)
    if forgery is None:
        return [
            Finding(
                title="Rebuilding images with a state of the server's own making",
                summary="No crafted state is known to this audit for a method without bottleneck adapters.",
                columns=(),
                rows=(),
                notes=("That none is known here proves nothing: prompts, LoRA and norms can be crafted as well.",),
            )
        ]
    return [_unchecked(forgery), check_of_crafted(forgery)]


def _unchecked(forgery: Forgery) -> Finding:
    scene, rows, figures = forgery.scene, list[Row](), list[Figure]()
    for batch in (1, 8):
        if batch <= len(scene.rows):
            for sent in _sent_kinds(scene):
                scene.run.say(f"inversion: crafted adapter, {images_of(batch)}, {sent}")
                bins = forgery.bins(batch, LOUD if sent == "one gradient, private" else QUIET)
                row, figure = attacked(forgery, bins, bins.state(), batch, sent)
                rows.append(row)
                figures += [figure] if batch == 1 else []
    return Finding(
        title="Rebuilding images with a state of the server's own making",
        summary=(
            f"From the update of a step with one image, a server that may send any adapter reads {rows[0][3]} of the "
            f"image's {forgery.tokens.shape[1]} tokens (a token is a patch of the image; one stands for all of it)."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        figures=tuple(figures),
        notes=(
            f"The server chose {forgery.tap.prefix.rstrip('.')}; the backbone is pinned by its fingerprint.",
            "Without the site's inbound check. 'Tokens read' counts those within 2 % of a true one.",
            "Several images of a step cannot be told apart by this attack, but their patches are read all the same.",
            "An attack that fails proves nothing: a better one may not.",
        ),
    )


def _sent_kinds(scene: Scene) -> list[Sent]:
    kinds: list[Sent] = ["one gradient", "one AdamW step", "a whole visit"]
    return [*kinds, "one gradient, private"] if scene.run.privacy is not None else kinds
