"""A causal chain in words: the same in the terminal, on the page and in an incident."""

from __future__ import annotations

from kubewitness.activity.technique import GRAVE
from kubewitness.forensics.causes.found import KINDS
from kubewitness.forensics.causes.graph import Chain, Link, Reach, Step, Touched
from kubewitness.report.wording import brief, duration, moment, plural, principal, utc

_CONTROLLER = "system:serviceaccount:kube-system:"


def who(step: Step) -> str:
    """Who did it, controllers by their own name."""
    name = step.principal
    if step.kind == "control-plane" and name.startswith(_CONTROLLER):
        name = name.removeprefix(_CONTROLLER)
    acting = f" as {principal(step.acting_as)}" if step.acting_as else ""
    return f"{principal(name)}{acting}"


def deed(step: Step) -> str:
    """What was done, to what: ``create pods/web-0 in shop``."""
    verb, _, rest = step.action.partition(" ")
    resource, _, subresource = rest.partition("/")
    kind, slash, name = step.object.partition("/")
    what = f"{kind}/{name}" if slash else resource or step.object
    if subresource:
        what += f" ({subresource})"
    home = f" in {step.namespace}" if step.namespace and kind != "namespaces" else ""
    return brief(f"{verb} {what}{home}")


def known(link: Link) -> str:
    """How sure a link is."""
    return "certain" if link.certain else f"inferred, {link.confidence:.0%}"


def meaning(link: Link) -> str:
    """The kind of link in words."""
    return KINDS.get(link.kind, link.kind)


def into(chain: Chain, effect: int) -> list[Link]:
    """The links into a step, that of the line first."""
    line = dict(zip(chain.line[1:], chain.line, strict=False))
    links = [link for link in chain.links if link.effect == effect]
    return sorted(links, key=lambda link: (link.cause != line.get(effect), not link.certain))


def sentence(chain: Chain) -> str:
    """The answer in one sentence."""
    first, last = chain.steps[chain.line[0]], chain.steps[chain.line[-1]]
    began = f"{moment(first.at)} UTC, {deed(first)}"
    sure = [link for step in chain.line[1:] for link in into(chain, step)[:1]]
    weak = [link for link in sure if not link.certain]
    if len(chain.line) == 1:
        return f"{chain.subject}: {who(first)} did it ({began}); nothing is seen before that."
    steps = plural(len(chain.line) - 1, "step")
    span = duration(utc(last.at) - utc(first.at))
    trust = (
        "every link is certain"
        if not weak
        else f"{plural(len(weak), 'link')} of {len(sure)} inferred"
    )
    return f"{chain.subject} goes back to {who(first)} ({began}) in {steps} over {span}; {trust}."


def summary(reach: Reach) -> str:
    """The extent in one sentence."""
    caused = sum(one.n for one in reach.touched if one.caused)
    done = sum(one.n for one in reach.touched if not one.caused)
    grave = sum(one.weight >= GRAVE for one in reach.touched)
    places = plural(len(reach.namespaces), "namespace") if reach.namespaces else "no namespace"
    return (
        f"{plural(done, 'request')} on objects, which led to {plural(caused, 'further one')} by"
        f" others, in {places} over {duration(utc(reach.end) - utc(reach.start))};"
        f" {plural(grave, 'kind')} of it grave."
    )


def touched(one: Touched) -> str:
    """``secrets in shop (db, api, +3 more)``."""
    home = f" in {one.namespace}" if one.namespace else ""
    names = ", ".join(one.examples[:3])
    rest = one.objects - min(3, len(one.examples))
    more = f", +{rest} more" if rest > 0 else ""
    return brief(one.resource) + home + (f" ({names}{more})" if names else "")
