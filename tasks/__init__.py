"""What is asked: problems, sources of problems, and the proof that their references can be judged.

The public names are listed in `__init__.pyi`, one a line; each is loaded when it is first used.
"""

if __name__ == "tasks":
    raise ImportError("this folder is selfcorrect.tasks; install the project and import it by that name")

from selfcorrect.public_names import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
