"""What pip knows of this package. A module of its own, because looking it up is slow and hardly ever asked for."""

from importlib.metadata import requires, version

__version__ = version("selfcorrect")


def install_command(extra: str) -> str:
    """The command that installs the packages of one of our extras.

    It names the packages, so that it works for a checkout, a wheel and an installation from a repository alike: no
    package index needs to know us.
    """
    wanted = [line.partition(";") for line in requires("selfcorrect") or ()]
    packages = [f"'{package.strip()}'" for package, _, marker in wanted if f'extra == "{extra}"' in marker]
    if not packages:  # a checkout that was installed before the extra was there
        return f"pip install -e '.[{extra}]' (in the checkout)"
    return f"pip install {' '.join(packages)}"
