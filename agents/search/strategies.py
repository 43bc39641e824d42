"""Ways to spend tokens on one problem. Each is a small frozen type that builds a LangGraph graph; its `name` is what
the command line and plans call it.

    majority:16            16 answers, the most frequent one wins
    best_of_n:16           16 answers, the one the verifier likes best
    weighted:16            16 answers, equal ones sum their scores
    beam:4x4               search over steps, 4 beginnings in 4 ways each
    revise:4               one answer and 4 revisions of it in sequence
    mixed:4x3              4 such chains side by side, with 3 revisions each
    self_judged:4x3        up to 4 chains, each revised until the policy calls its answer right; no verifier
    self_judged:16x0       up to 16 answers, until the policy calls one right

`best_of_n:16:sure=0.9` ends as soon as an answer is scored 0.9, `best_of_n:16:distinct=true` gives no answer twice.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from selfcorrect.agents.search.beam import BeamRules, beam_graph
from selfcorrect.agents.search.chains import SearchGraph, chain_graph
from selfcorrect.agents.search.selection import ChainRules, Pick
from selfcorrect.agents.search.self_judged import SelfJudgedRules, self_judged_graph
from selfcorrect.agents.search.state import SearchModels
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, called, is_address, shown_kind
from selfcorrect.rewards.checker import STEP_SEPARATOR


class Strategy(Protocol):
    """How to spend tokens on a problem."""

    @property
    def name(self) -> str:
        """What the command line, plans and results call it."""
        ...

    def graph(self, search_models: SearchModels) -> SearchGraph:
        """The compiled graph that plays it, over `SearchState`.

        Raises:
            ConfigurationError: the search_models lack what it needs, or its own numbers make no sense.
        """
        ...


@dataclass(frozen=True)
class Majority:
    """`n` answers, of which the most frequent one wins (self-consistency, Wang et al. 2022, arXiv 2203.11171).

    With `early`, sampling ends as soon as no further answer can change the vote.
    """

    n: int = 16
    early: bool = True

    @property
    def name(self) -> str:
        return f"majority:{self.n}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        return chain_graph(search_models, ChainRules(self.n, 0, "majority", self.early), name=self.name)


@dataclass(frozen=True)
class BestOfN:
    """`n` answers, of which the verifier's highest score wins. `sure`: end at the first answer with such a score.

    With `distinct`, answers are drawn without replacement (Shi et al. 2020, arXiv 2002.09067): none is paid for twice,
    and the search ends when the policy has nothing else to say.

    `wave` answers are drawn at a time where `sure` or `distinct` is given: more are faster, fewer waste less. None is
    4, and 1 with `distinct`, whose answers of one wave do not know of each other.
    """

    n: int = 16
    sure: float | None = None
    wave: int | None = None
    distinct: bool = False

    @property
    def name(self) -> str:
        wave = "" if self.wave is None else f":wave={self.wave}"
        return f"best_of_n:{self.n}{':distinct=true' if self.distinct else ''}{_sure(self.sure)}{wave}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        usual = 1 if self.distinct else _WAVE
        wave = usual if self.wave is None else self.wave
        rules = ChainRules(self.n, 0, "verifier", sure=self.sure, wave=wave, distinct=self.distinct)
        if self.distinct:
            search_models.need_renewing_policy(self.name)
        return chain_graph(search_models, rules, name=self.name)


@dataclass(frozen=True)
class WeightedBestOfN:
    """`n` answers; the scores of equal answers are summed, the largest sum wins (Li et al. 2022, arXiv 2206.02336)."""

    n: int = 16
    early: bool = True
    sure: float | None = None
    wave: int = 4

    @property
    def name(self) -> str:
        return f"weighted:{self.n}{_sure(self.sure)}{_wave(self.wave, self.sure is not None)}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        rules = ChainRules(self.n, 0, "weighted", self.early, self.sure, self.wave)
        return chain_graph(search_models, rules, name=self.name)


@dataclass(frozen=True)
class Beam:
    """Beam search over steps with a step verifier, and lookahead search (Snell et al. 2024, section 5.2); see
    `BeamRules`."""

    width: int = 4
    expand: int = 4
    max_steps: int = 40
    lookahead: int = 0
    separator: str = STEP_SEPARATOR
    pick: Pick = "verifier"

    @property
    def name(self) -> str:
        return f"beam:{self.width}x{self.expand}{f':lookahead={self.lookahead}' if self.lookahead else ''}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        rules = BeamRules(self.width, self.expand, self.max_steps, self.lookahead, self.separator, self.pick)
        return beam_graph(search_models, rules, name=self.name)


@dataclass(frozen=True)
class Mixed:
    """`parallel` chains of one answer and `revisions` revisions each; the answer is picked from all of them.

    A revision sees the problem and `window` earlier answers of its chain (Snell et al. show four).
    """

    parallel: int = 4
    revisions: int = 3
    pick: Pick = "verifier"
    sure: float | None = None
    wave: int = 4
    window: int | None = 1

    @property
    def name(self) -> str:
        options = f"{_pick(self.pick)}{_sure(self.sure)}{_wave(self.wave, self.sure is not None)}"
        return f"mixed:{self.parallel}x{self.revisions}{options}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        rules = ChainRules(self.parallel, self.revisions, self.pick, sure=self.sure, wave=self.wave)
        return chain_graph(search_models, rules, name=self.name, window=self.window)


@dataclass(frozen=True)
class SequentialRevisions:
    """One answer and `n` revisions of it, one after the other; the answer is the last one, the most frequent or the
    best scored."""

    n: int = 4
    pick: Pick = "last"
    sure: float | None = None
    window: int | None = 1

    @property
    def name(self) -> str:
        return f"revise:{self.n}{_pick(self.pick, usual='last')}{_sure(self.sure)}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        rules = ChainRules(1, self.n, self.pick, sure=self.sure, wave=1)
        return chain_graph(search_models, rules, name=self.name, window=self.window)


@dataclass(frozen=True)
class SelfJudged:
    """Up to `parallel` chains, one after the other, of an answer and up to `revisions` revisions, each revised until
    the policy itself calls its answer right (self-verification as in SETS, Chen et al. 2025, arXiv 2501.19306).

    For policies that judge their own answers well; no verifier is asked. Verdicts are generated and counted. `agree`:
    end as soon as so many answers that were called right are the same (1: at the first one; 0 plays all chains);
    `wave`: chains side by side. Without revisions, every answer called wrong is followed by a new one.
    """

    parallel: int = 16
    revisions: int = 0
    agree: int = 1
    wave: int = 1

    @property
    def name(self) -> str:
        agree = "" if self.agree == 1 else f":agree={self.agree}"
        wave = "" if self.wave == 1 else f":wave={self.wave}"
        return f"self_judged:{self.parallel}x{self.revisions}{agree}{wave}"

    def graph(self, search_models: SearchModels) -> SearchGraph:
        rules = SelfJudgedRules(self.parallel, self.revisions, self.agree, self.wave)
        return self_judged_graph(search_models, rules, name=self.name)


_WAVE = 4


def _sure(sure: float | None) -> str:
    return "" if sure is None else f":sure={sure:g}"


def _wave(wave: int, counts: bool) -> str:
    return f":wave={wave}" if counts and wave != _WAVE else ""


def _pick(pick: Pick, usual: Pick = "verifier") -> str:
    return "" if pick == usual else f":pick={pick}"


# Strategies by name, as the command line and plans write them: KIND[:NUMBERS][:OPTION=VALUE ...].

_PICKS = ("last", "majority", "verifier", "weighted")
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "sure": float,
    "wave": int,
    "agree": int,
    "window": int,
    "lookahead": int,
    "max_steps": int,
    "early": lambda text: {"true": True, "false": False}[text],
    "distinct": lambda text: {"true": True, "false": False}[text],
    "pick": lambda text: _PICKS[_PICKS.index(text)],
}


Size = tuple[str, list[str]]
"""The numbers of a strategy as its name writes them, and its options."""


def _so_many(answers: int, options: list[str]) -> Size | None:
    return str(answers), options


@dataclass(frozen=True)
class StrategyKind:
    """One kind of strategy.

    Attributes:
        made: makes a strategy of its numbers and options, which are its parameters' names.
        numbers: which of them a name writes as "4x4", in order.
        sized: the size and the options with which it writes about so many answers; None where it has none so small.
    """

    made: Callable[..., Strategy]
    numbers: tuple[str, ...] = ("n",)
    sized: Callable[[int, list[str]], Size | None] = _so_many


def strategy_named(name: str) -> Strategy:
    """The strategy called `name`, such as "majority:16", "beam:4x4" or "mixed:4x3:pick=majority".

    Raises:
        ConfigurationError: there is none of that name, or its numbers are of another kind.
    """
    kind, parts = _kind_and_parts(name)
    found = STRATEGIES.find(kind)
    known = inspect.signature(found.made).parameters
    given: dict[str, Any] = {}
    if parts and "=" not in parts[0]:
        given |= _numbers(name, parts.pop(0), found.numbers)
    for part in parts:
        option, _, value = part.partition("=")
        if option not in known:
            raise ConfigurationError(f"strategy {name!r}: {kind} has no option {option!r}")
        try:
            given[option] = _OPTIONS.get(option, _number_or_text)(value)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"strategy {name!r}: {option} cannot be {value!r}") from error
    return called(f"strategy {name!r}", found.made, **given)


def _kind_and_parts(name: str) -> tuple[str, list[str]]:
    """The kind, which may be a user's own `package.module:Name`, and what follows it."""
    kind, *parts = name.strip().split(":")
    if kind not in STRATEGIES and parts and is_address(f"{kind}:{parts[0]}"):
        kind = f"{kind}:{parts.pop(0)}"
    return kind, parts


def _number_or_text(text: str) -> int | float | str:
    """The value of an option of a strategy of a user's own."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _numbers(name: str, text: str, fields: tuple[str, ...]) -> dict[str, int]:
    if not fields:
        raise ConfigurationError(f"strategy {name!r}: it has no parameter n, so that no number can follow its name")
    if not re.fullmatch(r"\d+(x\d+)*", text) or text.count("x") + 1 != len(fields):
        raise ConfigurationError(
            f"strategy {name!r}: after the first ':' come {' x '.join(fields)}, as in {_example(fields)}"
        )
    return dict(zip(fields, map(int, text.split("x")), strict=True))


def _example(fields: tuple[str, ...]) -> str:
    return "16" if len(fields) == 1 else "4x4"


# Strategies by the size of the budget: "beam" at 16 answers is a beam of 4 x 4. For comparing strategies at equal
# tokens.

_EXPAND = 4
"""Ways in which a beam goes on with each beginning, as in Snell et al."""
_LONGEST_CHAIN = 16
"""Answers of the longest single chain that is compared: its revisions cannot share a batch, and take longest by far."""


def sized(family: str, answers: int) -> Strategy | None:
    """The strategy of `family` that writes about `answers` answers; None where it has none so small.

    A family is the kind of a strategy with its options: "majority", "best_of_n:sure=0.95", "revise:pick=majority"
    (pick=verifier unless said otherwise), "beam", "beam:lookahead=1", "mixed:revisions=3" (1 unless said otherwise: as
    many revisions as attempts), "self_judged:revisions=3" (0 unless said otherwise).

    Raises:
        ConfigurationError: there is no such family.
    """
    kind, options = _kind_and_parts(family)
    size = STRATEGIES.find(kind).sized(answers, options)
    return None if size is None else strategy_named(":".join([kind, size[0], *size[1]]))


def _beam_of(answers: int, options: list[str]) -> Size | None:
    expand = min(_EXPAND, answers)
    return f"{answers // expand}x{expand}", options


def _mixed_of(answers: int, options: list[str]) -> Size | None:
    revisions = _revisions(options)
    return (f"{answers // (1 + revisions)}x{revisions}", options) if answers > revisions else None


def _chain_of(answers: int, options: list[str]) -> Size | None:
    picks = [] if any(option.startswith("pick=") for option in options) else ["pick=verifier"]
    return (str(answers - 1), options + picks) if 1 < answers <= _LONGEST_CHAIN else None


def _judged_of(answers: int, options: list[str]) -> Size | None:
    """As many chains as there are answers: most end early, and the budget ends the last."""
    revisions = _revisions(options, usual=0, least=0)
    return (f"{answers}x{revisions}", options) if answers > 1 else None


def _revisions(options: list[str], usual: int = 1, least: int = 1) -> int:
    """Takes "revisions=..." out of `options`."""
    given = next((option for option in options if option.startswith("revisions=")), None)
    if given is None:
        return usual
    options.remove(given)
    number = given.partition("=")[2]
    if not number.isdigit() or int(number) < least:
        raise ConfigurationError(f"{given}: the revisions of a chain are a number of {least} or more")
    return int(number)


def _own(address: str, found: Any) -> StrategyKind:
    """A kind of a user's own: a `StrategyKind`, or a class with a name and a graph whose parameter `n`, if it has one,
    is the number of answers."""
    if isinstance(found, StrategyKind):
        return found
    if not isinstance(found, type) or not callable(getattr(found, "graph", None)):
        raise ConfigurationError(
            f"{address} is no strategy: expected a StrategyKind or a class with name and graph(search_models), got "
            f"{shown_kind(found)}"
        )
    return StrategyKind(found, ("n",) if "n" in inspect.signature(found).parameters else ())


STRATEGIES: Registry[StrategyKind] = Registry(
    "strategy",
    {
        "majority": StrategyKind(Majority),
        "best_of_n": StrategyKind(BestOfN),
        "weighted": StrategyKind(WeightedBestOfN),
        "revise": StrategyKind(SequentialRevisions, sized=_chain_of),
        "beam": StrategyKind(Beam, ("width", "expand"), _beam_of),
        "mixed": StrategyKind(Mixed, ("parallel", "revisions"), _mixed_of),
        "self_judged": StrategyKind(SelfJudged, ("parallel", "revisions"), _judged_of),
    },
    accept=_own,
)
"""The kinds of strategies, by name."""
KINDS = STRATEGIES.names
