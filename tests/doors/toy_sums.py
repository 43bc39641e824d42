"""A task set of verifiers for the tests: sums, with rewards of different weights, and kinds that cannot be judged in a
process: they need a runtime, a container, a key, docker; or they have no rewards."""

import os

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


class ContainerTask(SumTask):
    NEEDS_CONTAINER = True


class PreparedTask(SumTask):
    async def setup(self, trace, runtime) -> None:
        await runtime.write("sum.txt", b"")


class ToolTask(SumTask):
    @classmethod
    def toolsets(cls, config):
        return [vf.Toolset(vf.ToolsetConfig())]


class PlayedTask(vf.Task[SumData]):
    """Paid by an environment that plays with it."""


KINDS = {"plain": SumTask, "runtime": RuntimeTask, "container": ContainerTask, "prepared": PreparedTask}
KINDS |= {"tools": ToolTask, "played": PlayedTask}
PICTURE = vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url="data:image/png;base64,"))
PROMPTS = {
    "pictured": [vf.UserMessage(content=[vf.TextContentPart(text="What is this?"), PICTURE])],
    "begun": [
        vf.UserMessage(content="What is 1 + 1?"),
        vf.AssistantMessage(content="3"),
        vf.UserMessage(content="No."),
    ],
    "in_messages": [vf.SystemMessage(content="Add."), vf.UserMessage(content=[vf.TextContentPart(text="1 + 1")])],
}


class SumConfig(vf.TasksetConfig):
    numbers: int = 40
    kind: str = "plain"


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        wanted = self.config.kind
        if wanted == "keyed":
            os.environ["A_KEY_THAT_NOBODY_HAS"]
        if wanted == "docker":
            raise RuntimeError("docker is not running")
        kind = KINDS.get(wanted, SumTask)
        judged = vf.TaskConfig(judges=[vf.ReferenceJudgeConfig()]) if wanted == "judged" else self.config.task
        for n in range(self.config.numbers):
            prompt = PROMPTS.get(wanted, f"What is {n} + {n}?")
            yield kind(SumData(prompt=prompt, answer=str(2 * n), id=str(n)), judged)
