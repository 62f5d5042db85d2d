"""What a request does to its object: it may begin it, or, as a dry run, do nothing at all.

A dry run says so in its URI or, where something is to be deleted, in the options in its body
(``kubectl delete --dry-run=server``): at level Metadata nothing tells such a one from a deletion.
The SQL is over event columns; ``DRY_RUN`` is in ``events.change``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

BEGINS = "((verb = 'create' OR code IS NOT DISTINCT FROM 201) AND coalesce(subresource, '') = '')"


def begins(verb: str, subresource: str, code: int | None) -> bool:
    """``BEGINS`` of one request: an update and an apply make what is not there.

    >>> begins("create", "", 201), begins("patch", "", 201), begins("create", "binding", 201)
    (True, True, False)
    """
    return (verb == "create" or code == 201) and not subresource


def dry_run(verb: str, subresource: str, uri: str, request: Any) -> bool:
    """``events.change.DRY_RUN`` of one request, of which ``request`` is the body.

    >>> dry_run("delete", "", "/api/v1/namespaces/shop/pods/web", {"dryRun": ["All"]})
    True
    """
    if "dryRun" in parse_qs(urlsplit(uri).query, keep_blank_values=True):
        return True
    options = request if verb in ("delete", "deletecollection") else None
    if subresource == "eviction" and isinstance(request, dict):
        options = request.get("deleteOptions")
    return isinstance(options, dict) and bool(options.get("dryRun"))
