"""`selfcorrect train star`, `train pair-sft` and `train sft`: which data are learnt, and how a run is gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.training.arms.supervised.run import SupervisedPlan
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings

FIGURES = {"n": 10, "accuracy_t1": 0.5, "accuracy_t2": 0.5, "delta": 0.0, "i_to_c": 0.0, "c_to_i": 0.0}


class ScriptedRun:
    """Stands for `train_supervised`: makes the run's folder and is stopped, or ends."""

    def __init__(self) -> None:
        self.plan: SupervisedPlan | None = None
        self.settings: RunSettings | None = None
        self.resumed = False
        self.stopped = False

    def __call__(
        self, plan: SupervisedPlan, settings: RunSettings, *, out: Path, progress: ProgressSink | None, resume: bool
    ) -> RunResult:
        self.plan, self.settings, self.resumed = plan, settings, resume
        RunDirectory.create(out, settings, resume=resume, arm=plan.arm)
        if self.stopped:
            raise KeyboardInterrupt
        return RunResult(out, FIGURES, FIGURES)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedRun:
    scripted = ScriptedRun()
    for home in ["star", "sft"]:
        monkeypatch.setattr(f"selfcorrect.training.arms.{home}.train_supervised", scripted)
    monkeypatch.chdir(tmp_path)
    return scripted


@pytest.mark.parametrize(
    ("arguments", "arm"),
    [
        (["star"], "star --data multi"),
        (["star", "--data", "single+rationalised"], "star --data single+rationalised"),
        (["star", "--set", "star.data=single"], "star --data single"),
        (["pair-sft"], "pair-sft --data pairs"),
        (["pair-sft", "--data", "pairs+correct"], "pair-sft --data pairs+correct"),
    ],
)
def test_the_data_can_be_chosen(run: Any, training: ScriptedRun, arguments: list[str], arm: str) -> None:
    assert run("train", *arguments, "--preset", "demo").status == 0
    assert training.plan is not None and training.plan.arm == arm


def test_a_stopped_run_goes_on_with_its_own_data(run: Any, training: ScriptedRun) -> None:
    training.stopped = True
    done = run("train", "star", "--data", "single", "--out", "here", "--set", "star.loops=3")
    assert done.status == 130 and "selfcorrect train star --resume here" in done.stderr
    training.stopped = False
    assert run("train", "star", "--resume", "here").status == 0
    assert training.resumed and training.settings is not None
    assert training.settings.star.data == "single" and training.settings.star.loops == 3


def test_unknown_data_are_refused_with_those_that_there_are(run: Any, training: ScriptedRun) -> None:
    done = run("train", "pair-sft", "--data", "triples")
    assert done.status == 2 and "pairs+correct" in done.stderr
    assert training.plan is None


def test_loops_of_other_shapes_are_refused_before_training(run: Any, training: ScriptedRun) -> None:
    done = run("train", "pair-sft", "--set", "graph.revisions=2", "--out", "here")
    assert done.status == 2 and "two turns" in done.stderr and not Path("here").exists()


# `selfcorrect train sft`, on a model that knows every byte and a file in the format of GSM8K.

ROWS = [
    {
        "question": f"Tom has {n} bags of 4 apples. How many?",
        "answer": f"{n} * 4 = <<{n}*4={4 * n}>>{4 * n}\n#### {4 * n}",
    }
    for n in range(2, 10)
]


@pytest.fixture(scope="module")
def any_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of bytes, as a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {letter: n for n, letter in enumerate(["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = Tokenizer(models.BPE(vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **shape, **ids))
    folder = tmp_path_factory.mktemp("bytes")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def of_gsm8k(any_text: Path, tmp_path: Path) -> list[str]:
    """The options that train that model on such a file, for three steps."""
    for name, rows in (("train", ROWS[:6]), ("test", ROWS[6:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [f"task.test_path={tmp_path / 'test.jsonl'}", "policy.max_new_tokens=80", "evaluation.problems=2"]
    changes += ["sft.problems=6", "sft.steps=3", "sft.batch_size=4"]
    sets = [part for change in changes for part in ("--set", change)]
    model = ["--model", str(any_text), "--prompts", "plain", "--preset", "demo"]
    return [*model, "--task", f"gsm8k:{tmp_path / 'train.jsonl'}", "--out", str(tmp_path / "run"), *sets]


@pytest.mark.slow
def test_a_model_that_is_never_right_is_told_to_learn_answers_before_verdicts(run: Any, of_gsm8k: list[str]) -> None:
    done = run("train", "sft", "--form", "verdicts", *of_gsm8k)
    assert done.status != 0 and "warm up by form 'attempt' first" in " ".join(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["attempt", "pairs"])
def test_the_warm_up_learns_the_solutions_of_a_file(
    run_json: Any, run: Any, of_gsm8k: list[str], tmp_path: Path, form: str
) -> None:
    done = run_json("train", "sft", "--form", form, *of_gsm8k)
    assert done["before"]["n"] == done["after"]["n"] == 2
    lines = (tmp_path / "run/loops/loop-1/examples.jsonl").read_text().splitlines()
    learnt = [json.loads(line) for line in lines]
    assert {"2 * 4 = <<2*4=8>>8\nThe final answer is $\\boxed{8}$."} < {row["answer"] for row in learnt}
    assert {row["kind"] for row in learnt} == {"gold" if form == "attempt" else "incorrect to gold"}
    assert (tmp_path / "run/report.html").exists() and (tmp_path / "run/model/config.json").exists()
    assert run("train", "sft", "--resume", tmp_path / "run").status == 0


def test_solutions_longer_than_an_answer_may_be_end_the_warm_up_in_words(run: Any, of_gsm8k: list[str]) -> None:
    done = run("train", "sft", *of_gsm8k, "--set", "policy.max_new_tokens=10")
    assert done.status == 1 and "6 too long" in done.stderr and "policy.max_new_tokens" in done.stderr


def test_a_file_without_solutions_is_refused_before_training(run: Any, any_text: Path, tmp_path: Path) -> None:
    rows = [{"prompt": row["question"], "answer": "print('x')"} for row in ROWS]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ["--task", tmp_path / "bare.jsonl", "--set", "task.checker=operator:eq", "--set", "sft.problems=3"]
    done = run("train", "sft", "--model", any_text, *task, "--out", tmp_path / "run")
    assert done.status == 1 and "training problems have none" in done.stderr
    assert not (tmp_path / "run").exists()
