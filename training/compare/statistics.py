"""Means over seeds and differences between arms, with no more confidence than the data give."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TypeVar

Interval = tuple[float, float]
Name = TypeVar("Name")
Grid = Sequence[Sequence[float | None]]
"""One row a seed, one column a problem; None where a problem was not judged."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `n` seeds and its 95 % t-interval, which is (nan, nan) for one seed.

    The interval is about other seeds on the same held-out problems; other problems are no part of it.
    """

    mean: float
    interval: Interval
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two arms.

    Attributes:
        mean: over problems and seeds.
        interval: 95 %.
        p: two-sided, that there is none.
        seeds, problems: how many were paired.
    """

    mean: float
    interval: Interval
    p: float
    seeds: int
    problems: int


def mean_over_seeds(values: Sequence[float], *, is_share: bool = False) -> Mean:
    """Mean and t-interval of one figure per seed. Where that of a share would leave [0, 1], it is the t-interval on the
    scale of the mean's log-odds (by the delta method, whose factor is 1 / (m (1 - m))), which cannot."""
    if len(values) < 2:
        return Mean(fmean(values) if values else math.nan, (math.nan, math.nan), len(values))
    mean, half = fmean(values), _t95(len(values) - 1) * math.sqrt(variance(values) / len(values))
    if is_share and 0 < mean < 1 and not half <= min(mean, 1 - mean):
        centre, half = math.log(mean / (1 - mean)), half / (mean * (1 - mean))
        return Mean(mean, (_share_at(centre - half), _share_at(centre + half)), len(values))
    return Mean(mean, (mean - half, mean + half), len(values))


def _share_at(log_odds: float) -> float:
    return (1 + math.tanh(log_odds / 2)) / 2  # which no number overflows


def paired_difference(one: Grid, other: Grid) -> Difference:
    """The mean of one - other over the same seeds and problems, with the noise of both.

    Seeds and problems are crossed: every seed meets every problem. The variance of the mean is that of the seeds' means
    plus that of the problems' means, minus the part that is in both (two-way clustering: Cameron, Gelbach and Miller,
    Journal of Business & Economic Statistics 29, 2011), with Satterthwaite's degrees of freedom, at least seeds - 1 (as
    Westfall, Kenny and Judd do for crossed samples, Journal of Experimental Psychology: General 143, 2014). With a
    single seed the interval is about problems only, and normal.

    Args:
        one, other: of the same shape; a problem that some seed has not judged in either arm is left out.
    """
    kept = [
        column
        for column in range(min((len(row) for row in (*one, *other)), default=0))
        if all(row[column] is not None for row in (*one, *other))
    ]
    rows = [
        [float(a[column] or 0.0) - float(b[column] or 0.0) for column in kept] for a, b in zip(one, other, strict=True)
    ]
    if not rows or not kept:
        return Difference(math.nan, (math.nan, math.nan), math.nan, len(rows), len(kept))
    mean = fmean(map(fmean, rows))
    noise = _noise_of_mean(rows)
    error = math.sqrt(noise.variance)
    half = _t95(noise.df) * error
    p = _two_sided_p(mean / error, noise.df) if error > 0 else float(mean == 0)
    return Difference(mean, (mean - half, mean + half), p, len(rows), len(kept))


def _t95(df: float) -> float:
    """The t with P(|T| <= t) = 0.95, such as 2.776 for 4 degrees of freedom; infinity is the normal distribution."""
    from scipy.stats import t  # a second to import

    return float(t.isf(0.025, df))


def _two_sided_p(value: float, df: float) -> float:
    """P(|T| >= |value|)."""
    from scipy.stats import t

    return float(2 * t.sf(abs(value), df))


@dataclass(frozen=True, slots=True)
class _Noise:
    """The variance of a mean, and how many degrees of freedom its estimate has."""

    variance: float
    df: float


def _noise_of_mean(rows: Sequence[Sequence[float]]) -> _Noise:
    seeds, problems = len(rows), len(rows[0])
    by_seed = [fmean(row) for row in rows]
    by_problem = [fmean(column) for column in zip(*rows, strict=True)]
    of_problems = _Noise(_variance(by_problem) / problems, math.inf if seeds == 1 else max(1, problems - 1))
    if seeds == 1:
        return of_problems
    of_seeds = _Noise(_variance(by_seed) / seeds, seeds - 1)
    mean = fmean(by_seed)
    residuals = sum(
        (value - by_seed[s] - by_problem[p] + mean) ** 2 for s, row in enumerate(rows) for p, value in enumerate(row)
    )
    degrees = max(1, (seeds - 1) * (problems - 1))
    shared = _Noise(residuals / degrees / (seeds * problems), degrees)
    both = of_seeds.variance + of_problems.variance - shared.variance
    if both <= max(of_seeds.variance, of_problems.variance):
        # By chance the shared part can exceed the smaller of the two; the larger one is then the honest answer.
        return max(of_seeds, of_problems, key=lambda noise: noise.variance)
    spread = sum(noise.variance**2 / noise.df for noise in (of_seeds, of_problems, shared))
    return _Noise(both, max(of_seeds.df, both**2 / spread))


def _variance(values: Sequence[float]) -> float:
    return variance(values) if len(values) > 1 else 0.0


def holm(ps: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's adjusted p of several tests (Scandinavian Journal of Statistics 6, 1979): any of them false with at
    most that risk."""
    adjusted: dict[Name, float] = {}
    least = 0.0
    ordered = sorted((name for name in ps if not math.isnan(ps[name])), key=lambda name: ps[name])
    for position, name in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - position) * ps[name]))
        adjusted[name] = least
    return {name: adjusted.get(name, math.nan) for name in ps}
