"""The files of a comparison as a whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfcorrect.training.compare.contest import Contest
from selfcorrect.training.compare.result import comparison
from selfcorrect.training.durable_files import write_whole
from selfcorrect.training.run_directory import Budget


def write_comparison(contest: Contest, out: Path, planned: Mapping[str, Budget], *, reference: str) -> dict[str, Any]:
    """Write compare.json and compare.html of all that is finished in `out`; returns what is in the first."""
    from selfcorrect.training.compare.page import compare_page

    result = comparison(contest, out, planned, reference=reference)
    write_whole(out / "compare.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / "compare.html", compare_page(result))
    return result
