"""What acts: policies, correction loops as LangGraph graphs, search, and their places in applications.

The public names are listed in `__init__.pyi`, one a line; each is loaded when it is first used.
"""

if __name__ == "agents":
    raise ImportError("this folder is selfcorrect.agents; install the project and import it by that name")

from selfcorrect.public_names import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
