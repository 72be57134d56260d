"""The `config.yaml` of a folder that CellOT's own code wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import InputError


def read_config(path: Path) -> Any:
    """What it holds, of whatever form.

    Raises
    ------
    InputError
        It is not there, or no YAML.
    """
    import yaml

    if not path.is_file():
        raise InputError(f"{path} does not exist; it stands beside cache/ in the folder of a run of CellOT")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
