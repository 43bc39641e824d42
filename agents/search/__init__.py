"""Search at test time: spend more tokens on one problem, and choose.

from selfcorrect.agents import Majority, search_sync

result = search_sync("3 5 7 9 get 56 :", Majority(16), policy, budget=400)
print(result.answer, result.tokens, result.stop_reason)
"""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from selfcorrect.public_names import moved_names

    __getattr__ = moved_names(__name__)
