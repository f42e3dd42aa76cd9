"""YAML as recipes need it: no key is given twice, and every number and date is one."""

from __future__ import annotations

from typing import Any

import yaml


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error: one of the values would be lost.

    What looks like a number or a date and is none, as the 45th day of a month, is an error of YAML
    with a line number; PyYAML itself raises whatever Python raises.
    """

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value."""
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, ValueError) as error:
            if isinstance(error, yaml.YAMLError):
                raise
            said = f"{node.value!r:.60} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None

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
