"""The configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import msgspec.yaml

from kubewitness.config.settings import Settings
from kubewitness.errors import KubewitnessError


def read(path: Path, environment: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """The settings in a file. Raises ``KubewitnessError``."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Settings, dec_hook=_path)
    except (OSError, msgspec.MsgspecError) as error:
        raise KubewitnessError(str(error), where=str(path)) from None


def _path(kind: type, value: Any) -> Any:
    return kind(value)
