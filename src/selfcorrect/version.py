"""The version that is installed. A module of its own, because looking it up is slow and hardly ever asked for."""

from importlib.metadata import version

__version__ = version("selfcorrect")
