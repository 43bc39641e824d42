"""What learns: per-turn PPO on TRL, the arms of training, comparisons at equal cost, reports.

The public names are listed in `__init__.pyi`, one a line; each is loaded when it is first used.
"""

if __name__ == "training":
    raise ImportError("this folder is selfcorrect.training; install the project and import it by that name")

from selfcorrect.public_names import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
