"""A causal chain or a blast radius as one HTML page, in the style of the report."""

from __future__ import annotations

from markupsafe import Markup

from kubewitness import __version__
from kubewitness.forensics.causes.graph import Chain, Reach
from kubewitness.report import html


def chain_page(chain: Chain) -> str:
    """What ``kubewitness cause --report`` writes."""
    return _page("cause.html.j2", title=f"Cause of {chain.subject}", chain=chain)


def reach_page(reach: Reach) -> str:
    """What ``kubewitness blast-radius --report`` writes."""
    return _page("reach.html.j2", title=f"Blast radius of {reach.subject}", reach=reach)


def _page(template: str, **subject: object) -> str:
    return (
        html.environment()
        .get_template(template)
        .render(
            style=Markup((html.TEMPLATES / "report.css").read_text(encoding="utf-8")),
            version=__version__,
            **subject,
        )
    )
