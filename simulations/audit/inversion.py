"""Images out of updates: what a curious or malicious server can rebuild of a site's training images."""

from __future__ import annotations

from fedmedpeft.tasks.classification import Classification
from simulations.audit.audited import AuditRun
from simulations.audit.curious import curious_server
from simulations.audit.finding import Finding
from simulations.audit.malicious import malicious_server
from simulations.audit.scene import Scene

_TITLE = "Rebuilding images from updates"


def audit_inversion(run: AuditRun) -> list[Finding]:
    """Attack updates of ``run.site`` of one and of eight images; the learner is left in its initial state.

    It covers classification of images alone. On anything else one finding says so.
    """
    learner = run.fresh()
    if not isinstance(learner.task, Classification) or learner.backbone.text_length or run.data.train.text is not None:
        return [
            Finding(
                title=_TITLE,
                summary="Not attempted: these attacks are written for classification of images without texts.",
                columns=(),
                rows=(),
                notes=("That nothing was attempted proves nothing.",),
            )
        ]
    scene = Scene.of(run)
    findings = [curious_server(scene), *malicious_server(scene)]
    run.fresh()
    return findings
