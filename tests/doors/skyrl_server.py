"""SkyRL's server of Tinker's training API on the CPU, for a test: `python skyrl_server.py MODEL PORT FOLDER`.

It starts its engine by `uv`, in a project of its own; here the engine is another process of this environment.
"""

import runpy
import sys
import typing

import typing_extensions

typing.TypedDict = typing_extensions.TypedDict  # below Python 3.12 pydantic wants it so, and skyrl says 3.11 will do

if sys.argv[1] == "engine":
    del sys.argv[0]
    runpy.run_module("skyrl.tinker.engine", run_name="__main__", alter_sys=True)
    sys.exit()

import uvicorn
from skyrl.tinker import api
from skyrl.tinker.config import EngineConfig, config_to_argv

model, port, folder = sys.argv[1:]
small = {
    "max_lora_adapters": 16, "max_lora_rank": 8, "train_micro_batch_size": 8, "sample_max_num_sequences": 32,
}  # fmt: skip
api._build_uv_run_cmd_engine = lambda _, config: [sys.executable, __file__, "engine", *config_to_argv(config)]
api.app.state.engine_config = EngineConfig(
    base_model=model, backend="jax", backend_config=small, database_url=f"sqlite:///{folder}/tinker.db",
    checkpoints_base=f"{folder}/checkpoints",
)  # fmt: skip
uvicorn.run(api.app, host="127.0.0.1", port=int(port), log_level="warning")
