"""From what the processes reported to a verdict."""

import time
from dataclasses import dataclass, replace

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code.scripts import JudgeFailed, Run, ask_judge, output_limit, run_script, same_output
from selfcorrect.rewards.code.suites import StdinCase, StdinStdout
from selfcorrect.rewards.sandbox.zygote_pair import Report, ZygotePair

_MAX_TOLD = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict in the making.

    Attributes:
        status: the outcome.
        reason: one sentence, for a person and for the `feedback` critique mode.
        fraction: the share of tests that passed, 0 to 1.
    """

    status: Status
    reason: str
    fraction: float = 0.0


def judge_report(report: Report, deadline: float) -> Finding:
    """All tests passed, or WRONG, unless the tests themselves or the machine are at fault."""
    if report.complete:
        return Finding(Status.CORRECT, f"passed {report.tests} of {report.tests} tests", 1.0)
    last = report.last or {}
    if "unusable" in last:
        return Finding(Status.UNJUDGED, f"the tests cannot be used: {last['unusable']}")
    if report.tests is None:
        late = "the tests did not start in time" if report.timed_out else "the tests did not start"
        return Finding(Status.UNJUDGED, late)
    if report.starved:
        return Finding(Status.UNJUDGED, f"the machine was too busy to run the program within {deadline:g} s")
    if "unloadable" in last:
        status = Status.WRONG if last["readable"] else Status.UNREADABLE
        return Finding(status, f"passed 0 of {report.tests} tests; the program cannot be run: {last['unloadable']}")
    passed = f"passed {len(report.passed)} of {report.tests} tests"
    share = (len(report.passed) + sum(report.shares.values())) / max(1, report.tests)
    return Finding(Status.WRONG, f"{passed}; {_failure(report, deadline)}", share)


def _failure(report: Report, deadline: float) -> str:
    if report.failed:
        number = min(report.failed)
        return f"test {number + 1} failed: {report.failed[number]}"
    if report.timed_out:
        return f"no result within {deadline:g} s" + (f"; running: {report.now}" if report.now else "")
    return "the tests could not be run to their end"


# Whole programs, case by case.


@dataclass(frozen=True, slots=True)
class Limits:
    """What one check may take: `seconds` for all its cases, or for each where the suite says so; `io_mb` MiB of input
    and of output for each; `every`: go on after a case that fails, to know the share."""

    seconds: float
    io_mb: float
    every: bool


def judge_script(pair: ZygotePair, program: str, suite: StdinStdout, limits: Limits) -> Finding:
    """All cases passed, or the first that did not.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    until, passed, first = time.monotonic() + limits.seconds, 0, ""
    for number, case in enumerate(suite.cases):
        if len(case.stdin) > limits.io_mb * 2**20:
            size = f"case {number + 1} has an input of {len(case.stdin):,} characters"
            return Finding(Status.UNJUDGED, f"{size}; the limit is io_mb={limits.io_mb:g}")
        own = case.seconds or suite.seconds
        failure = _judge_case(
            pair, program, suite, case, own or max(0.01, until - time.monotonic()), own or limits.seconds, limits
        )
        if failure is None:
            passed += 1
        elif failure.status is not Status.WRONG:
            return failure
        else:
            first = first or f"test {number + 1} failed: {failure.reason}"
            if not limits.every or (own is None and time.monotonic() > until):
                break
    told = f"passed {passed} of {len(suite.cases)} tests"
    if passed == len(suite.cases):
        return Finding(Status.CORRECT, told, 1.0)
    return Finding(Status.WRONG, f"{told}; {first}", passed / len(suite.cases))


def _judge_case(
    pair: ZygotePair, program: str, suite: StdinStdout, case: StdinCase, seconds: float, told: float, limits: Limits
) -> Finding | None:
    """What is wrong with one case, or None. `told`: the limit as a reason gives it."""
    run = run_script(pair, program, case.stdin, seconds, output_limit(suite, case, limits.io_mb))
    if run.starved:
        return Finding(Status.UNJUDGED, f"the machine was too busy to run the program within {told:g} s")
    if why := _ended_badly(run, told):
        return Finding(Status.WRONG, why)
    try:
        right = ask_special_judge(pair, suite, case, run.printed, max(1.0, limits.seconds)) if suite.judge else None
    except JudgeFailed as problem:
        return Finding(Status.UNJUDGED, str(problem))
    if right is None:
        right = same_output(run.printed, case.stdout, suite)
    return (
        None if right else Finding(Status.WRONG, f"it printed {_told(run.printed)!r}, which is not what was expected")
    )


def ask_special_judge(pair: ZygotePair, suite: StdinStdout, case: StdinCase, printed: bytes, seconds: float) -> bool:
    """What the special judge says. One that stumbles over this output, and takes the expected one, has said no.

    Raises:
        JudgeFailed: it stumbles over the expected output too: the tests' fault.
    """
    pair.end_tester()
    try:
        return ask_judge(pair, suite, case, printed, seconds)
    except JudgeFailed:
        if ask_judge(pair, suite, case, case.stdout.encode("utf-8", "surrogatepass"), seconds):
            return False
        raise JudgeFailed("the special judge fails, and refuses the expected output") from None


def _ended_badly(run: Run, deadline: float) -> str | None:
    if run.timed_out:
        return f"no result within {deadline:g} s"
    if run.too_long:
        return "it printed far more than expected"
    complaint = _told(run.complaint)
    if run.exit_code < 0:
        return f"the program was ended by signal {-run.exit_code}"
    if run.exit_code:
        return f"it ended with exit code {run.exit_code}" + (f": {complaint}" if complaint else "")
    return None


def _told(data: bytes) -> str:
    text = " ".join(data[: 4 * _MAX_TOLD].decode("utf-8", "replace").split())
    return text if len(text) <= _MAX_TOLD else text[: _MAX_TOLD - 3] + "..."


def unfinished(found: Finding, cut_off: str) -> Finding:
    """What is no Python because it was cut off is no answer, rather than a program with a slip of the pen."""
    return replace(found, status=Status.UNREADABLE, reason=cut_off)
