"""The embedded engine: a DuckDB connection with bounds on memory and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from duckdb.func import FunctionNullHandling
from duckdb.sqltypes import VARCHAR

from kubewitness.events.redaction import Redactor

# Leaves room for Python, the models and the report inside the 1.5 GB budget.
MEMORY_LIMIT = "700MB"


@contextmanager
def engine(spill: Path, redactor: Redactor | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB that spills to ``spill``, closed at the end.

    DuckDB database files are locked by one process even for readers, so none is ever opened;
    what must last is Parquet. Extensions are never downloaded.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(spill),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    try:
        # Or every query reads the footers of all parts again.
        connection.execute("SET parquet_metadata_cache = true")
        if redactor is not None:
            connection.create_function("redact_uri", redactor.uri, [VARCHAR], VARCHAR)
            connection.create_function("redact_text", redactor.text, [VARCHAR], VARCHAR)
            connection.create_function(
                "redact_body",
                redactor.body,
                [VARCHAR, VARCHAR],
                VARCHAR,
                null_handling=FunctionNullHandling.SPECIAL,
            )
        yield connection
    finally:
        connection.close()
