"""YAML as recipes need it: no key is given twice."""

from __future__ import annotations

from typing import Any

import yaml


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error: one of the values would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Make a dictionary."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key.value, str) and key.value != "<<":
                if key.value in seen:
                    said = f"`{key.value}` is given twice"
                    raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)
