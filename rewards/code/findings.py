"""From what the processes reported to a verdict."""

from dataclasses import dataclass

from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code.scripts import Run
from selfcorrect.rewards.sandbox.zygote_pair import Report

_MAX_TOLD = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict in the making.

    Attributes:
        status: the outcome.
        reason: one sentence, for a person and for the `feedback` critique mode.
    """

    status: Status
    reason: str


def judge_report(report: Report, deadline: float) -> Finding:
    """All tests passed, or WRONG, unless the tests themselves or the machine are at fault."""
    if report.complete:
        return Finding(Status.CORRECT, f"passed {report.tests} of {report.tests} tests")
    last = report.last or {}
    if "unusable" in last:
        return Finding(Status.UNJUDGED, f"the tests cannot be used: {last['unusable']}")
    if report.tests is None:
        return Finding(
            Status.UNJUDGED, "the tests did not start in time" if report.timed_out else "the tests did not start"
        )
    if report.starved:
        return Finding(Status.UNJUDGED, f"the machine was too busy to run the program within {deadline:g} s")
    if "unloadable" in last:
        status = Status.WRONG if last["readable"] else Status.UNREADABLE
        return Finding(status, f"passed 0 of {report.tests} tests; the program cannot be run: {last['unloadable']}")
    return Finding(Status.WRONG, f"passed {len(report.passed)} of {report.tests} tests; {_failure(report, deadline)}")


def _failure(report: Report, deadline: float) -> str:
    if report.failed:
        number = min(report.failed)
        return f"test {number + 1} failed: {report.failed[number]}"
    if report.timed_out:
        return f"no result within {deadline:g} s" + (f"; running: {report.now}" if report.now else "")
    return "the tests could not be run to their end"


def judge_run(run: Run, deadline: float) -> Finding | None:
    """What is wrong with one run of a whole program, whatever it printed; None if it ended as it should."""
    if run.starved:
        return Finding(Status.UNJUDGED, f"the machine was too busy to run the program within {deadline:g} s")
    why = _script_failure(run, deadline)
    return None if why is None else Finding(Status.WRONG, why)


def _script_failure(run: Run, deadline: float) -> str | None:
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
