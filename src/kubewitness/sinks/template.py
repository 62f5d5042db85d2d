"""A user's Jinja template that makes a JSON body of a notice.

What it prints is made right for JSON by the environment itself: ``"{{ incident.title }}"`` means
the same as ``{{ incident.title | tojson }}``, whatever a title holds, and
``{{ incident.objects }}`` is a list. The result is sent only if it is JSON.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    pass_eval_context,
)
from jinja2.exceptions import TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from kubewitness.report.inert import plain
from kubewitness.sinks.bounds import bounded
from kubewitness.sinks.sink import SLOWLY, DeliveryError, Notice

if TYPE_CHECKING:
    from jinja2 import Template as JinjaTemplate
    from jinja2.nodes import EvalContext


class Template:
    """The template in a file, compiled again when the file changes; it may include others that
    lie beside it. Raises ``DeliveryError`` where it cannot be compiled."""

    def __init__(self, path: Path, sink: str) -> None:
        self._path = path
        self._sink = sink
        self._compiled()

    def render(self, notice: Notice) -> bytes:
        """The body. Raises ``DeliveryError``: whoever wrote the template may still mend it."""
        compiled = self._compiled()
        try:
            body = compiled.render(
                kind=notice.kind,
                revision=notice.revision,
                headline=notice.headline,
                incident=bounded(notice.incident),
            )
            msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise self._fault(f"what it makes is not JSON: {plain(str(error))}") from None
        except Exception as error:  # a template may do anything that Python can fail at
            raise self._fault(plain(str(error) or type(error).__name__)) from None
        return body.encode()

    def _compiled(self) -> JinjaTemplate:
        try:
            return self._environment.get_template(self._path.name)
        except TemplateNotFound:
            raise self._fault("there is no such file") from None
        except TemplateSyntaxError as error:
            raise self._fault(plain(str(error.message)), f":{error.lineno}") from None
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            raise self._fault(plain(str(error))) from None

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self._path.parent),
            # Not for HTML: so that what a macro made is not made right a second time.
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_json,
        )
        for name in ("e", "escape", "forceescape"):
            environment.filters[name] = _json
        for name in ("safe", "urlize", "xmlattr"):
            del environment.filters[name]
        return environment

    def _fault(self, what: str, line: str = "") -> DeliveryError:
        return DeliveryError(
            f"the template cannot be used: {what}",
            where=f"sink {self._sink}: {self._path}{line}",
            remedy="kubewitness sinks show tells what it makes of an incident",
            retry_after=SLOWLY,
        )


@pass_eval_context  # so that constants, too, come here before they are escaped for HTML
def _json(_: EvalContext, value: Any) -> Markup:
    """A text as it stands within the quotes of JSON, anything else as JSON."""
    if hasattr(value, "__html__"):
        return Markup(value)
    if isinstance(value, Undefined):
        return Markup(str(value))  # '' for an "if" without "else", else it raises
    if isinstance(value, str):
        return Markup(json.dumps(value)[1:-1])
    return Markup(json.dumps(value, default=list))
