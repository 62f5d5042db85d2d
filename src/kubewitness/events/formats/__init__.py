"""Every shape in which audit events travel, turned into one. Pure functions: no file, no clock.

``outcomes`` takes any decoded value and gives the events in it and, for all the rest, why not.
``splitting.pieces`` cuts a stream into such values. A format is one function in a module of its own
that unwraps a JSON object, listed in ``registry.FORMATS``; its module names its source.
"""

from kubewitness.events.formats.canonical import encode
from kubewitness.events.formats.outcome import Broken, Event, Found, Outcome, Skipped
from kubewitness.events.formats.registry import outcomes

__all__ = ["Broken", "Event", "Found", "Outcome", "Skipped", "encode", "outcomes"]
