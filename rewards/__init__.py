"""The judges: checkers that say whether an answer is right, verifiers that guess it, and what turns are paid for.

The public names are listed in `__init__.pyi`, one a line; each is loaded when it is first used.
"""

if __name__ == "rewards":
    raise ImportError("this folder is selfcorrect.rewards; install the project and import it by that name")

from selfcorrect.public_names import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
