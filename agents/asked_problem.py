"""What somebody wants solved: a problem of a task, or a text of their own."""

import hashlib

from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.problem import Problem


def as_problem(problem: Problem | str, kind: str) -> Problem:
    """A text as a problem without a reference, whose id is `kind` and a hash of the text; a problem as it is.

    Raises:
        ConfigurationError: the text is blank.
    """
    if isinstance(problem, Problem):
        return problem
    if not problem.strip():
        raise ConfigurationError("the problem is blank")
    name = hashlib.blake2b(problem.encode(), digest_size=8).hexdigest()
    return Problem(id=f"{kind}-{name}", prompt=problem, reference=None, checker="none")
