"""Search at test time: spend more tokens on one problem, and choose.

from selfcorrect.agents.search import Majority, search_sync

result = search_sync("3 5 7 9 get 56 :", Majority(16), policy, budget=400)
print(result.answer, result.tokens, result.stop_reason)
"""

from selfcorrect.agents.search.answer_keys import AnswerKey, answer_key
from selfcorrect.agents.search.compute_optimal import ComputeOptimal
from selfcorrect.agents.search.plan import SearchPlan
from selfcorrect.agents.search.search import search, search_all, search_sync, stream_candidates
from selfcorrect.agents.search.search_models import SearchModels
from selfcorrect.agents.search.state import Candidate, SearchContext, SearchResult, SearchState
from selfcorrect.agents.search.strategies import (
    Beam,
    BestOfN,
    Majority,
    Mixed,
    Revise,
    Strategy,
    WeightedBestOfN,
    strategy_named,
)

__all__ = [
    "AnswerKey",
    "Beam",
    "BestOfN",
    "Candidate",
    "ComputeOptimal",
    "Majority",
    "Mixed",
    "Revise",
    "SearchContext",
    "SearchModels",
    "SearchPlan",
    "SearchResult",
    "SearchState",
    "Strategy",
    "WeightedBestOfN",
    "answer_key",
    "search",
    "search_all",
    "search_sync",
    "strategy_named",
    "stream_candidates",
]
