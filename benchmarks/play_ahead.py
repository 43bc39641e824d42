"""What `optimiser.play_ahead` gains: steps whose playing is mostly waiting, one after the other and overlapped.

    python benchmarks/play_ahead.py                # answers take 1.0 s
    python benchmarks/play_ahead.py --answer 3     # a server that is slower than the trainer

The server is a double: it sleeps as long as an answer takes and returns tokens that no model drew, so that it costs
this machine nothing, as a server with GPUs of its own would. What is measured is how much of the waiting for episodes
disappears behind learning; not how fast a vLLM server is, and not what the staleness of a step costs in learning. A
step has two turns, so it plays for two answers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from gpu_bench import make_tokenizer
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policies.vllm_training import VLLMServedPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer

VOCABULARY, TOKENS, PROBLEMS, EACH = 400, 24, 8, 4


@contextmanager
def slow_server(seconds: float) -> Iterator[str]:
    """Speaks vLLM's protocol and takes `seconds` for every answer, however many are asked at once."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            if not self.path.endswith("completions"):
                return self._answer({"data": [{"id": "model"}]})
            time.sleep(seconds)
            seed = given["seed"]
            ids = [3 + (seed + 7919 * place) % (VOCABULARY - 3) for place in range(TOKENS)]
            drawn = {"token_ids": ids, "logprobs": {"token_logprobs": [-6.0] * TOKENS}, "finish_reason": "length"}
            self._answer({"choices": [drawn]})

        do_POST = do_GET

        def _answer(self, body: dict[str, Any]) -> None:
            written = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


class Steps(TrainerCallback):  # type: ignore[misc]
    """When steps were over, and how long each waited for its episodes."""

    def __init__(self) -> None:
        self.ends, self.waited = list[float](), list[float]()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "tokens" in logs:
            self.ends.append(time.perf_counter())
            self.waited.append(logs["rollout_seconds"])


def measured(url: str, *, ahead: bool, steps: int) -> dict[str, float]:
    """Seconds a step, and of those the seconds that it waited for episodes; without the first step and the last."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(VOCABULARY)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
            max_position_embeddings=256, pad_token_id=0, eos_token_id=1, bos_token_id=None,
        )
    )  # fmt: skip
    policy = VLLMServedPolicy(
        model, tokenizer, server=VLLMServer(url), adapters=True, max_new_tokens=TOKENS, concurrency=PROBLEMS * EACH
    )
    log = Steps()
    judged = CheckerRewards(StageTwo(alpha=1.0), CountdownTask(4).checker)
    with tempfile.TemporaryDirectory() as folder:
        config = TurnPPOConfig(
            output_dir=Path(folder), steps=steps, problems_per_step=PROBLEMS, episodes_per_problem=EACH, save_every=0,
            play_ahead=ahead, max_kl=1e6, normalise_by="nothing", baseline="none",
        )  # fmt: skip
        trainer = TurnPPOTrainer(
            policy, build_graph(policy, prompts=COUNTDOWN), CountdownTask(4).problems("train", PROBLEMS * steps),
            lambda batch: judged, config, shuffled=True, callbacks=[log],
            peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
    between = steps - 2
    return {"step": (log.ends[-2] - log.ends[0]) / between, "waited": sum(log.waited[1:-1]) / between}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=float, default=1.0, metavar="SECONDS", help="that the server takes for one")
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    with slow_server(chosen.answer) as url:
        one, other = (measured(url, ahead=ahead, steps=chosen.steps) for ahead in (False, True))
    for name, found in (("one after the other", one), ("ahead", other)):
        print(f"{name:20} {found['step']:.2f} s a step, {found['waited']:.2f} s of them waiting for episodes")
    print(f"{1 - other['waited'] / one['waited']:.0%} of the waiting disappears")


if __name__ == "__main__":
    main()
