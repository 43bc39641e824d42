"""The small policy that ships with the library, so that the whole loop runs without a download."""

from pathlib import Path

EMBEDDED = "embedded"
"""The name by which settings and commands call it."""


def embedded_folder() -> Path:
    """The folder of the embedded policy; loads with `AutoModelForCausalLM` and `AutoTokenizer`."""
    return Path(__file__).parent / "embedded"


def model_location(name: str) -> str:
    """`name` as `from_pretrained` takes it: the embedded policy's folder for "embedded", anything else as it is."""
    return str(embedded_folder()) if name == EMBEDDED else name
