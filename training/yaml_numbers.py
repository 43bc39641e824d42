"""A YAML loader that reads 2e-4 as a number, as YAML 1.2 does; PyYAML's own reads it as text."""

import re

import yaml


class Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` with YAML 1.2's floats."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
