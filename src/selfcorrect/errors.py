"""Every error the library raises on purpose, on one page.

Rule: an error says what was wrong, where (file, line, field, problem id) and what to do. What a *policy* does wrong is
never an exception: it is a `Verdict`. What a *judge* does wrong is the verdict `UNJUDGED`. Only what the user or the
machine does wrong is raised, as one of these:

SelfCorrectError
├── ConfigurationError   a setting is unknown, ill-typed or contradicts another one
├── TaskError            a data set or one of its rows is unusable
├── PolicyError          a model folder, tokenizer or generation call is unusable
│   └── UnreadablePromptError  too long for the policy's context, or words that its tokenizer does not know
├── GraphError           a graph cannot be played or trained as it is
├── CheckerError         a checker cannot start or a reference cannot be read (never: an answer is wrong)
│   └── SandboxError     the jail for untrusted code cannot be built or failed its own test
└── TrainingError        a run cannot start or go on
    └── DivergenceError  loss or gradient is no longer finite; the last good checkpoint was kept
"""


class SelfCorrectError(Exception):
    """Base of all errors raised on purpose by selfcorrect."""


class ConfigurationError(SelfCorrectError):
    """A setting is unknown, ill-typed or contradicts another one."""


class TaskError(SelfCorrectError):
    """A data set or one of its rows is unusable."""


class PolicyError(SelfCorrectError):
    """A model folder, tokenizer or generation call is unusable."""


class UnreadablePromptError(PolicyError):
    """The policy cannot be shown this: it is too long for its context, or has words that its tokenizer does not
    know."""


class GraphError(SelfCorrectError):
    """A graph cannot be played or trained as it is."""


class CheckerError(SelfCorrectError):
    """A checker cannot start, or a reference (never an answer) cannot be read."""


class SandboxError(CheckerError):
    """The jail for untrusted code cannot be built, or failed its own test."""


class TrainingError(SelfCorrectError):
    """A run cannot start or cannot go on."""


class DivergenceError(TrainingError):
    """Loss or gradient is no longer finite, or the KL jumped; the last good checkpoint was kept."""
