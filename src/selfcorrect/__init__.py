"""Teach language models to fix their own mistakes: loops as LangGraph graphs, trained in place with per-turn PPO.

The public names are listed in `__init__.pyi`, one a line; each is loaded when it is first used, so that
`import selfcorrect` stays cheap. `selfcorrect.rewards`, `.tasks`, `.agents` and `.training` have lists of their own.
"""

from selfcorrect.public_names import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
