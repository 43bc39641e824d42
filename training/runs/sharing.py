"""Sharing what a run made on the Hugging Face Hub: its adapter, or its whole model, with a card that says what was
measured and what was not."""

import json
import re
from pathlib import Path
from typing import Any

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.runs.model_card import adapter_card, own_run_card, run_card

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHARED = re.compile(
    r"(adapter_)?config\.json|generation_config\.json|(adapter_)?model[\w.-]*\.safetensors(\.index\.json)?"
    r"|tokenizer[\w.]*|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.jinja"
)
"""The files of a model that others need. Nothing else of a folder is uploaded: problems, episodes and settings stay."""


def push_to_hub(
    run: Path, repo: str, *, base: str | None = None, private: bool = True, whole: bool = False, api: Any = None
) -> str:
    """Upload a run's adapter, or its model where all weights were trained, in one commit; returns the commit's address.

    Args:
        run: the run's folder, of any arm, `train`, or `adapt`.
        repo: OWNER/NAME; it is made if it is not there.
        base: the name on the Hub of the model that an adapter goes on; needed where the run knew it by a folder.
        private: whether a repository that is made now is seen by its owner alone.
        whole: upload the model with the adapter merged in, rather than the adapter.
        api: a `huggingface_hub.HfApi`; None uses the token that `hf auth login` left.

    Raises:
        ConfigurationError: there is nothing to upload, its base cannot be found by others, or a name is no name of the
            Hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not _HUB_ID.fullmatch(repo):
        raise ConfigurationError(f"{repo!r} is no name of a repository: write OWNER/NAME")
    files = shared_files(run, repo, base=base, whole=whole)
    hub = HfApi() if api is None else api
    hub.create_repo(repo, private=private, exist_ok=True)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=found) for name, found in files.items()]
    told = f"selfcorrect: {'adapter' if 'adapter_config.json' in files else 'model'} of a run"
    return str(hub.create_commit(repo, operations, commit_message=told).commit_url)


def shared_files(run: Path, repo: str, *, base: str | None = None, whole: bool = False) -> dict[str, Path | bytes]:
    """What `push_to_hub` uploads, by its name there: a path, or the content itself.

    Raises:
        ConfigurationError: as `push_to_hub`.
    """
    folder = _trained_folder(run, whole=whole)
    files: dict[str, Path | bytes] = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_file() and _SHARED.fullmatch(path.name)
    }
    if not any(name.endswith(".safetensors") for name in files):
        raise ConfigurationError(f"{folder} has no weights in safetensors; only those are shared")
    if "adapter_config.json" in files:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base = _public_base(base or config.get("base_model_name_or_path"))
        files["adapter_config.json"] = json.dumps(config, indent=2).encode()
    elif base is not None:
        raise ConfigurationError("base is of adapters; this is a whole model")
    files["README.md"] = _card(run, repo, base).encode()
    return files


def _trained_folder(run: Path, *, whole: bool) -> Path:
    adapter, model = run / "adapter", run / "model"
    if adapter.is_dir() and not whole:
        return adapter
    if model.is_dir():
        return model
    held = "only an adapter; leave `whole` out" if adapter.is_dir() else "neither adapter/ nor model/: has it ended?"
    raise ConfigurationError(f"{run} holds {held}")


def _public_base(name: str | None) -> str:
    if not name or not _HUB_ID.fullmatch(name) or Path(name).exists():
        raise ConfigurationError(
            f"the adapter goes on {name!r}, which nobody else can load: give base=OWNER/NAME (--base), the name of "
            "that very model on the Hub"
        )
    return name


def _card(run: Path, repo: str, base: str | None) -> str:
    """A card for the run; an adapter's says how it is loaded.

    Raises:
        ConfigurationError: the run has not ended, so that nobody knows what it made.
    """
    from selfcorrect.training.runs.run_directory import RunDirectory
    from selfcorrect.training.settings import read_settings

    there = RunDirectory(run)
    final, adapted = there.read_final(), (run / "adapt.json").is_file()
    if final is None and not adapted:
        raise ConfigurationError(f"{run} has not ended: there is no {there.final_path.name} to tell of in a card")
    if there.arm is not None:
        written = run_card(read_settings(there.config_path), final, arm=there.arm, folder=Path(repo))
    else:
        written = own_run_card(final, adapted=adapted)
    if base is None:
        return written
    load = f'AutoPeftModelForCausalLM.from_pretrained("{repo}")  # loads {base} first'
    told = f"This is an adapter (PEFT). It changes nothing until it is loaded:\n\n```python\n{load}\n```\n"
    return adapter_card(written, base, told)
