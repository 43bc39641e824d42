"""What pip knows of this package. A module of its own, because looking it up is slow and hardly ever asked for."""

import json
from importlib.metadata import distribution, requires, version

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


def requirement() -> str | None:
    """The line of a requirements.txt that installs this package from where it was installed here; None where nobody
    wrote that down.

    No package index has us, so that the name alone installs nothing. Installers write where a package came from beside
    it (direct_url.json, PEP 610): a repository with its commit, an archive, or a folder.
    """
    written = distribution("selfcorrect").read_text("direct_url.json")
    if written is None:
        return None
    origin = json.loads(written)
    address = origin["url"]
    if repository := origin.get("vcs_info"):
        address = f"{repository['vcs']}+{address}@{repository['commit_id']}"
    if folder := origin.get("subdirectory"):
        address += f"#subdirectory={folder}"
    return f"selfcorrect @ {address}"
