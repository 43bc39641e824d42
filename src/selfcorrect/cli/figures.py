"""The figures that matter while training, and how each is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a step.

    Attributes:
        name: in `metrics.jsonl`.
        label: for people.
        form: how its number is written.
        style: rich style of its number.
    """

    name: str
    label: str
    form: str
    style: str = ""

    @property
    def held_out(self) -> str:
        """Its name when it was measured on held-out problems."""
        return f"eval_{self.name}"

    def text(self, metrics: Mapping[str, float], prefix: str = "") -> str:
        """The number in `metrics`, or a dash if it is not there."""
        value = metrics.get(prefix + self.name)
        return "–" if value is None else format(value, self.form)


FIGURES = (
    Figure("accuracy_t1", "accuracy@1", ".3f"),
    Figure("accuracy_t2", "accuracy@2", ".3f", "bold"),
    Figure("delta", "delta", "+.3f", "bold cyan"),
    Figure("i_to_c", "i→c", ".3f", "green"),
    Figure("c_to_i", "c→i", ".3f", "red"),
    Figure("kl_t1", "KL turn 1", ".4f"),
    Figure("kl_t2", "KL turn 2", ".4f"),
    Figure("nll_base", "NLL", ".4f"),
    Figure("nll", "NLL after thinking", ".4f", "bold"),
    Figure("gain", "gain of thinking", "+.4f", "bold cyan"),
    Figure("weight", "weight of thoughts", ".3f"),
    Figure("tokens_per_second", "tokens/s", ",.0f", "dim"),
)


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """`values` as at most `width` little bars, from their least to their largest; each stands for the mean of equal parts."""
    parts = min(width, len(values))
    bounds = [len(values) * part // parts for part in range(parts + 1)]
    means = [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(bounds)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[0] * parts
    return "".join(_BARS[int((mean - low) / (high - low) * (len(_BARS) - 1))] for mean in means)
