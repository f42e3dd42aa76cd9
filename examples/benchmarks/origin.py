"""Where numbers come from: machine, versions, date and command, for the JSON of a benchmark."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tensornet


def origin(packages: Sequence[str] = ("torch", "numpy")) -> dict[str, Any]:
    """Say on which machine, with which versions, when and by which command something runs."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": [round(x, 2) for x in os.getloadavg()],
            "system": platform.platform(),
        },
        "versions": {
            "tensornet": tensornet.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *(Path(word).name for word in sys.argv)]),
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON, and say where."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"written to {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
