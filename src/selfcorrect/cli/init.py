"""`selfcorrect init graph`: a folder that LangGraph's server and Studio serve, outside this repository."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from selfcorrect.cli.console import notes, reporting
from selfcorrect.errors import ConfigurationError

_FILES = {
    "langgraph.json": """\
{
  "dependencies": ["."],
  "graphs": {"selfcorrect": "./graph.py:graph"},
  "env": ".env"
}
""",
    "graph.py": '''\
"""A conversation whose replies have been revised. Start it with: langgraph dev

Change the model and the loop here; .env changes them without editing (see selfcorrect.agents.serving.langgraph_app).
"""

import asyncio
import os

from selfcorrect.agents.serving.langgraph_app import conversation_graph, model_from


async def graph():
    """What langgraph.json names; the model is loaded off the server's event loop."""
    model = await asyncio.to_thread(model_from, os.environ)
    return conversation_graph(model)
''',
    ".env": """\
# "embedded", a model folder, a Hugging Face id, or "provider:model" of LangChain
SELFCORRECT_MODEL=embedded
SELFCORRECT_REVISIONS=1
SELFCORRECT_CRITIQUE=instruction
""",
    "requirements.txt": """\
selfcorrect
langgraph-cli[inmem]>=0.4
""",
}


def init(
    what: Annotated[Literal["graph"], typer.Argument(help="graph: for langgraph dev, up and Studio.")],
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path("."),
) -> None:
    """Write the files of a LangGraph application around a correction loop into FOLDER."""
    with reporting(as_json=False):
        there = [name for name in _FILES if (folder / name).exists()]
        if there:
            raise ConfigurationError(f"{folder} already holds {', '.join(there)}; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _FILES.items():
            (folder / name).write_text(text, encoding="utf-8")
        notes.print(f"wrote {', '.join(_FILES)} to {folder}; start it with: cd {folder} && langgraph dev", markup=False)
