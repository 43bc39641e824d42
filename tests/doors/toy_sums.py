"""A task set of verifiers for the tests: sums, with rewards of different weights, and one that needs a runtime."""

import verifiers.v1 as vf

__all__ = ["SumTaskset"]


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData]):
    @vf.reward(weight=3.0)
    async def right(self, trace) -> float:
        return float(trace.last_reply.strip().endswith(self.data.answer))

    @vf.reward(weight=1.0)
    async def polite(self, trace) -> float:
        return float("please" in trace.last_reply)

    @vf.reward(weight=0.0)
    async def length(self, trace) -> float:
        return float(len(trace.last_reply))


class RuntimeTask(SumTask):
    @vf.reward(weight=1.0)
    async def file_is_there(self, trace, runtime) -> float:
        return 1.0


class SumConfig(vf.TasksetConfig):
    numbers: int = 40
    in_a_runtime: bool = False


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        kind = RuntimeTask if self.config.in_a_runtime else SumTask
        for n in range(self.config.numbers):
            yield kind(SumData(prompt=f"What is {n} + {n}?", answer=str(2 * n), id=str(n)), self.config.task)
