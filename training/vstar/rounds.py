"""V-STaR from beginning to end (Hosseini et al. 2024, arXiv 2402.06457)."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfcorrect.agents.choosing.sample_pool import Sample, read_pool, sample_pool, write_pool
from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.policies.rendering import ChatTemplate, Template, choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.whole_models import whole_location
from selfcorrect.agents.policy import Policy, Sampling, derive_seed
from selfcorrect.agents.prompts import COUNTDOWN, Prompts
from selfcorrect.agents.search.cached import CachedPolicy, KeptAnswers
from selfcorrect.agents.state import Message
from selfcorrect.errors import TrainingError
from selfcorrect.files import write_whole
from selfcorrect.rewards.verifiers.encoding import Wording
from selfcorrect.rewards.verifiers.folder import Platt
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.tasks.validate import FiniteTask
from selfcorrect.training.arms.specs import Budget
from selfcorrect.training.arms.supervised.writing import AnswerWriter
from selfcorrect.training.processes import (
    agreed,
    by_first,
    joined,
    rank,
    refuse_divided,
    refuse_uneven,
    replacing_by_first,
    shared,
    together,
)
from selfcorrect.training.reporting.services import Reporters
from selfcorrect.training.runs.fitting import shown_problems
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.held_out import HeldOut
from selfcorrect.training.runs.holding import opened_run
from selfcorrect.training.runs.memory import refuse_too_large, vstar_load
from selfcorrect.training.runs.opening import chosen_lora, meet, open_graph, open_run_policy, prompts_for, refuse_best
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings
from selfcorrect.training.vstar.fits import StepLog, refuse_muon, train_generator
from selfcorrect.training.vstar.measuring import verifier_figures, verifier_page, with_answer_keys
from selfcorrect.training.vstar.settings import Kind
from selfcorrect.training.vstar.verifiers import calibrate, train_verifier

# From settings to what V-STaR works with: wording, problems, seeds.

_COUNTDOWN_REVIEW = "check : {last_step} right"
"""The policy's own verdict on a right answer, with the last step worked out once more."""


def wording_for(settings: RunSettings, policy: TransformersPolicy) -> Wording:
    """How the verifiers are shown problems and answers: as the policy is, system message and end of turn included."""
    prompts = prompts_for(settings, policy)
    template = choose_template(policy.tokenizer, settings.policy.template)
    chat = isinstance(template, ChatTemplate)
    review = settings.vstar.review
    if review is None:
        review = _COUNTDOWN_REVIEW if prompts == COUNTDOWN and not chat else ""
    return Wording(
        attempt=prompts.attempt,
        template="chat" if chat else "plain",
        separator=settings.task.separator,
        review=review,
        system=prompts.system,
        end=_end_of_turn(policy, template, prompts),
        reads=settings.vstar.reads,
    )


def _end_of_turn(policy: TransformersPolicy, template: Template, prompts: Prompts) -> str:
    """The token with which the policy ends an answer; "" where it is the tokenizer's EOS."""
    messages = [Message(role="user", content=prompts.attempt)]
    end = AnswerWriter(policy, template, prompts.revise).end_after(messages)
    return "" if end == policy.tokenizer.eos_token_id else str(policy.tokenizer.convert_ids_to_tokens(end))


def draw_problems(
    settings: RunSettings, task: Task, shown: Callable[[list[Problem]], list[Problem]] = list
) -> tuple[list[Problem], list[Problem]]:
    """The training problems, and those that are kept for calibration: none is in both. A task that has fewer than are
    asked for is divided in their proportion. `shown` says which of some the policy can be shown.

    Raises:
        TaskError: none can be shown.
        TrainingError: too few are left for calibration.
    """
    vstar = settings.vstar
    asked = vstar.problems + vstar.calibration_problems
    count = min(asked, task.available("train")) if isinstance(task, FiniteTask) else asked
    drawn = list(task.problems("train", count, seed=settings.seed))
    begin = vstar.problems if count == asked else round(count * vstar.problems / asked)
    learnt, kept = shown(drawn[:begin]), shown(drawn[begin:])
    if len(kept) < 5:
        raise TrainingError(
            f"only {len(kept)} of {len(drawn)} problems are left for calibration, and it needs 5: raise "
            "vstar.calibration_problems"
        )
    return learnt, kept


_CALIBRATION, _HELD_OUT = 1_000_001, 1_000_002
"""Seeds of the last two pools, as children of the run's seed; round t samples with child t."""


@partial(takes_objects, reloads=True, unused=["objective"])
def vstar(settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False) -> RunResult:
    """Train a generator and verifiers of it, kept apart.

    Every round samples all training problems with the last generator. Its right answers, with those of the rounds
    before, train the next generator from the base; all answers, labelled, collect into the verifiers' data. After the
    last round each verifier starts from the base and learns from the collected answers; it is calibrated on answers of
    the last generator to problems that nothing was trained on. With 0 rounds the base stays the generator, or whoever
    `vstar.asked` names; there is no `model/` then.

    The run folder holds, besides the usual files (`model/` is the last generator): `rounds/N/` with each round's
    samples and generator, `verifiers/KIND/` with the verifiers (see `load_verifier`), `verifiers.json` and
    `verifiers.html` with what they are worth on held-out problems. A resumed run repeats no finished round and no
    finished verifier.

    Raises:
        TrainingError: the answers are all right or all wrong, so there is nothing to learn from.
        DivergenceError: a fit went wrong; the rounds before it are kept.
        TrainingError, TaskError, PolicyError, ConfigurationError: before any training, if something is unusable.
    """
    refuse_best(settings, "vstar")
    refuse_divided("vstar", "its verifiers are fitted by optimisers of their own, which it cannot divide")
    for fit in ("generator", *settings.vstar.kinds):
        refuse_uneven(getattr(settings.vstar, fit).batch, f"vstar.{fit}.batch")
    meet(settings)
    with opened_run("vstar", settings, out=out, progress=progress, resume=resume, several=True) as (run, sink):
        return agreed(lambda: _Vstar(run, settings, sink)).play_through()


@dataclass
class _Vstar:
    """One call of `vstar`."""

    run: RunDirectory
    settings: RunSettings
    progress: ProgressSink

    def __post_init__(self) -> None:
        self.base = whole_location(self.settings.policy.model)
        self.task = self.settings.task.open()
        smaller = [
            "a smaller vstar.generator.micro_batch and vstar.likelihood.micro_batch",
            "a smaller policy.max_new_tokens",
        ]
        refuse_too_large(self.settings, self.progress, vstar_load(self.settings), advice=smaller)
        self.policy = open_run_policy(self.settings)
        self.lora = chosen_lora(self.settings.policy)
        if self.lora is not None:
            refuse_muon(self.settings.vstar)
        self.player: Policy = self._asked() or self.policy
        self.prompts = prompts_for(self.settings, self.policy)
        self.wording = wording_for(self.settings, self.policy)
        self.problems, self.kept = draw_problems(self.settings, self.task, self._shown)
        learnt, kept = len(self.problems), len(self.kept)
        self.progress.message(f"{learnt} problems to learn from, {kept} for calibration")
        self.held_out = HeldOut.of(self.settings.evaluation, self.task, self.run, self.progress, self.policy.tokenizer)
        self.measured = self._shown(self.held_out.problems)

    def _asked(self) -> Policy | None:
        """Who answers in the policy's place; what it has answered is kept as it comes."""
        if self.settings.vstar.asked is None:
            return None
        policy, _ = named_policy(self.settings.vstar.asked)
        return CachedPolicy(policy, KeptAnswers(self.run.path / f"answers-{rank()}.jsonl"))

    def _shown(self, problems: list[Problem]) -> list[Problem]:
        return shown_problems(problems, self.policy, self.prompts, self.progress)

    def play_through(self) -> RunResult:
        vstar = self.settings.vstar
        before = self.held_out.before(self._graph(0))
        self.progress.start(vstar.rounds + len(vstar.kinds), "V-STaR")
        samples: list[Sample] = [] if vstar.rounds else self._drawn(0)
        for number in range(1, vstar.rounds + 1):
            samples += self._round(number, samples)
        self._verifiers(samples)
        if vstar.rounds:
            by_first(self._publish_generator)
        self._measure()
        budget = self._budget(samples)
        if not vstar.rounds:
            return self.held_out.finish_as_before(before, budget)
        return self.held_out.finish(self._graph(vstar.rounds), before, budget)

    def _graph(self, number: int) -> CorrectionGraph:
        """In which the generator after round `number` is evaluated."""
        return open_graph(self.settings.for_evaluation, self._generator(number), self.task.checker)

    def _drawn(self, number: int) -> list[Sample]:
        """The answers to the training problems of round `number`; of round 0, those of a run without a generator."""
        vstar = self.settings.vstar
        told = f"round {number}: " if number else ""
        self.progress.message(f"{told}sampling {vstar.samples_per_problem} answers to each problem")
        path = self.run.path / "rounds" / str(number) / "samples.jsonl"
        return self._pool(path, max(0, number - 1), self.problems, vstar.samples_per_problem, number)

    def _round(self, number: int, earlier: list[Sample]) -> list[Sample]:
        """Sample with the last generator, train the next; the round's samples."""
        folder, new = self.run.path / "rounds" / str(number), self._drawn(number)

        def train(unfinished: Path) -> dict[str, float]:
            seed = derive_seed(self.settings.seed, number)
            with closing(self._reporters(f"round-{number}")) as reporters:
                return train_generator(
                    self.settings,
                    [*earlier, *new],
                    wording=self.wording,
                    out=unfinished,
                    seed=seed,
                    reporters=reporters,
                )

        self.progress.message(f"round {number}: training the generator from the base")
        judged = [one for one in new if one.correct is not None]
        share = sum(bool(one.correct) for one in judged) / max(1, len(judged))
        figures = {"accuracy_t1": share, "tokens": sum(one.tokens for one in new), "unjudged": len(new) - len(judged)}
        self._once(folder / "generator", number, figures, train)
        return new

    def _verifiers(self, samples: list[Sample]) -> None:
        vstar = self.settings.vstar
        self.progress.message("sampling answers for calibration")
        fresh = self._pool(
            self.run.path / "calibration.jsonl", vstar.rounds, self.kept, vstar.calibration_samples, _CALIBRATION
        )
        for offset, kind in enumerate(vstar.kinds, start=1):

            def train(unfinished: Path, kind: Kind = kind) -> dict[str, float]:
                last: dict[str, float] = {}
                with closing(self._reporters(f"verifier-{kind}")) as reporters:
                    log = StepLog(last.update, reporters)
                    verifier = train_verifier(
                        kind,
                        self.base,
                        samples,
                        vstar,
                        wording=self.wording,
                        work=self._work,
                        seed=self._small_seed,
                        log=log,
                        lora=self.lora,
                        device=self.settings.policy.device,
                        dtype=self.settings.policy.dtype,
                    )
                by_first(lambda: calibrate(verifier, fresh, unfinished, temperature=vstar.temperature))
                if warning := cannot_tell(kind, verifier.platt):
                    self.progress.message(warning)
                return {"optimiser_steps": log.steps, **_fit_figures(last)}

            self.progress.message(f"training the {kind} verifier")
            self._once(self.run.path / "verifiers" / kind, vstar.rounds + offset, {"tokens": 0}, train)

    def _reporters(self, part: str) -> Reporters:
        """Tells the services of one fit of the run."""
        name = f"{self.run.path.name}-{part}"
        return Reporters(self.settings.report_to, run_name=name, folder=self.run.path / "services" / part)

    def _once(
        self, folder: Path, step: int, figures: Mapping[str, float], train: Callable[[Path], dict[str, float]]
    ) -> None:
        """Make `folder` by `train` unless an earlier call has finished it, and log one step."""
        if not by_first(folder.exists):
            with replacing_by_first(folder) as unfinished:
                metrics = {"step": step, **figures, **train(unfinished)}
                self.run.truncate_metrics(step - 1)
                self.run.append_metrics(metrics)
        self.progress.step(next(row for row in self.run.read_metrics() if row["step"] == step))

    def _pool(self, path: Path, generator: int, problems: list[Problem], per_problem: int, child: int) -> list[Sample]:
        """The samples in `path`, drawn now if they are not there: each process asks its share of the problems."""
        if not by_first(path.exists):
            here = shared(range(len(problems)))
            mine = asyncio.run(
                sample_pool(
                    self._generator(generator),
                    [problems[number] for number in here],
                    self.task.checker,
                    per_problem=per_problem,
                    prompts=self.prompts,
                    sampling=self._sampling(),
                    seed=derive_seed(self.settings.seed, child),
                    numbers=here,
                )
            )
            groups = together([mine[begin : begin + per_problem] for begin in range(0, len(mine), per_problem)])
            samples = [sample for group in joined(groups) for sample in group]
            by_first(lambda: write_pool(path, samples))
        return read_pool(path)

    def _sampling(self) -> Sampling:
        limit = self.settings.policy.max_new_tokens
        return Sampling(temperature=self.settings.vstar.temperature, max_new_tokens=limit)

    def _generator(self, number: int) -> Policy:
        """The generator after round `number`; 0 is the base, or who is asked in its place."""
        if number == 0:
            return self.player
        return open_run_policy(self.settings, self.run.path / "rounds" / str(number) / "generator")

    def _publish_generator(self) -> None:
        self.run.publish(self.run.path / "rounds" / str(self.settings.vstar.rounds) / "generator")

    def _measure(self) -> None:
        """What the verifiers are worth on held-out problems, as figures and as a page."""
        self.progress.message("choosing among answers to held-out problems")
        vstar = self.settings.vstar
        path = self.run.path / "held_out.jsonl"
        drawn = self._pool(path, vstar.rounds, self.measured, vstar.candidates, _HELD_OUT)
        pool = with_answer_keys(drawn, self.measured)
        by_first(lambda: self._write_figures(pool))

    def _write_figures(self, pool: list[Sample]) -> None:
        vstar = self.settings.vstar
        folders = {kind: self.run.path / "verifiers" / kind for kind in vstar.kinds}
        device = self.settings.policy.device
        figures = {
            str(kind): verifier_figures(load_verifier(folder, device=device), pool) for kind, folder in folders.items()
        }
        write_whole(self.run.path / "verifiers.json", json.dumps(figures, indent=2) + "\n")
        write_whole(self.run.path / "verifiers.html", verifier_page(figures))

    def _budget(self, samples: list[Sample]) -> Budget:
        steps = sum(round(row["optimiser_steps"]) for row in self.run.read_metrics())
        return Budget(generated_tokens=sum(one.tokens for one in samples), optimiser_steps=steps)

    @property
    def _small_seed(self) -> int:
        """The run's seed as transformers takes it."""
        return self.settings.seed % 2**32

    @property
    def _work(self) -> Path:
        return self.run.checkpoints_path / "work"


def cannot_tell(kind: Kind, platt: Platt) -> str | None:
    """What to say of a verifier whose calibration came out flat."""
    if platt.slope > 0:
        return None
    return (
        f"the {kind} verifier does not tell right from wrong answers to the calibration problems, so it gives all the "
        f"same probability: raise vstar.samples_per_problem or vstar.problems, or change vstar.{kind}.learning_rate"
    )


def _fit_figures(last: Mapping[str, float]) -> dict[str, float]:
    """What a step's log keeps of a fit: its last loss, and of DPO how many pairs it orders rightly."""
    names = {"loss": "loss", "rewards/accuracies": "pair_accuracy", "rewards/margins": "pair_margin"}
    return {kept: last[name] for name, kept in names.items() if name in last}
