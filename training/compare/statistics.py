"""Means over seeds and differences between arms, with no more confidence than the data give."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TypeVar

# Student's t distribution, without scipy.

_SMALLEST = 1e-300
_ENOUGH = 1e-15
_MOST_TERMS = 500


def two_sided_p(t: float, df: float) -> float:
    """P(|T| >= |t|) of a t distribution with `df` degrees of freedom (infinity is the normal distribution)."""
    if math.isnan(t):
        return math.nan
    if math.isinf(df):
        return math.erfc(abs(t) / math.sqrt(2))
    return incomplete_beta(df / 2, 0.5, df / (df + t * t))


def quantile(confidence: float, df: float) -> float:
    """The t with P(|T| <= t) = `confidence`, such as 2.776 for 0.95 and 4 degrees of freedom."""
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - confidence else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    return front / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, _MOST_TERMS):
        m, odd = divmod(term, 2)
        if odd:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _away_from_zero(1 + numerator * d)
        c = _away_from_zero(1 + numerator / c)
        value *= c * d
        if abs(c * d - 1) < _ENOUGH:
            break
    return value


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _SMALLEST else _SMALLEST


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


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Mean and t-interval of one figure per seed."""
    if len(values) < 2:
        return Mean(fmean(values) if values else math.nan, (math.nan, math.nan), len(values))
    half = quantile(0.95, len(values) - 1) * math.sqrt(variance(values) / len(values))
    mean = fmean(values)
    return Mean(mean, (mean - half, mean + half), len(values))


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
    half = quantile(0.95, noise.df) * error
    p = two_sided_p(mean / error, noise.df) if error > 0 else float(mean == 0)
    return Difference(mean, (mean - half, mean + half), p, len(rows), len(kept))


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
