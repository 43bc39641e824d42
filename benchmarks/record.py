"""Run commands in a terminal, and draw what stood on its screen at the end as an SVG.

    python benchmarks/record.py --folder runs/recorded --svg docs/terminal.svg --try-it "selfcorrect demo"

runs the demo in that folder (minutes), then the command that it suggests, and draws both with the time that they took.
What they wrote is kept in the folder as `recorded.json`; where that is there, nothing is run again:

    python benchmarks/record.py --folder runs/recorded --svg docs/terminal.svg
"""

import argparse
import io
import json
import os
import re
import shlex
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

COLUMNS, LINES = 96, 60


@dataclass(frozen=True)
class Recorded:
    """A command, the seconds it took, and the lines that it left on the screen, with their colours as ANSI codes."""

    command: str
    seconds: float
    screen: list[str]


# A terminal: enough of one for what rich writes.

CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])")


def screen(written: str) -> list[str]:
    """The lines that stand on a terminal once it was sent `written`. Lines are written whole, or erased and written
    anew from their beginning, as rich does; colours are kept as they came."""
    lines, row, end = [""], 0, 0
    for control in CONTROL.finditer(written):
        lines[row] += written[end : control.start()]
        end = control.end()
        number, kind, character = control.groups()
        if character == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif kind == "A":
            row = max(0, row - int(number or 1))
        elif kind == "K":
            lines[row] = ""
        elif kind == "m":
            lines[row] += control.group()
    lines[row] += written[end:]
    return [line.rstrip() for line in lines]


def run(command: str, folder: Path) -> Recorded:
    """Run `command` in `folder`, in a terminal of its own.

    Raises:
        CalledProcessError: it did not end well.
    """
    import fcntl
    import pty
    import termios

    began = time.monotonic()
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    terminal = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(shlex.split(command), cwd=folder, stdin=its, stdout=its, stderr=its, env=terminal)
    os.close(its)
    written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, written)
    return Recorded(command, round(time.monotonic() - began, 1), screen(written.decode("utf-8", "replace")))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that nobody writes any more
        return b""


def suggested(recorded: Recorded) -> str:
    """The command after "try it"."""
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in recorded.screen]
    text = "\n".join(plain)
    found = re.search(r"^try it +(.*(?:\n(?!\w+ {2,}).+)*)", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{recorded.command} suggests nothing to try")
    return found[1].replace("\n", "")


# The picture.


def drawn(records: list[Recorded], title: str) -> str:
    """The screens one below the other, each after its command and the time that it took, as SVG. It needs nothing from
    elsewhere: rich's fonts are left out, the viewer's own take their place."""
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for number, record in enumerate(records):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "green"), (record.command, "bold")))
        for line in trimmed(record.screen):
            console.print(Text.from_ansi(line))
        took = timedelta(seconds=round(record.seconds))
        console.print(Text(f"took {took}", style="dim"))
    colours = [SVG_EXPORT_THEME.ansi_colors[number] for number in range(8)]
    colours[1] = (224, 108, 117)  # rich's red, and its grey for what is dim, have contrasts of 3.5 and 4.1
    theme = TerminalTheme((31, 31, 31), (214, 217, 215), colours)
    svg = console.export_svg(title=title, unique_id="terminal", theme=theme)
    svg = re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg)
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def trimmed(lines: list[str]) -> list[str]:
    """Without the empty lines before and after, and never two of them in a row."""
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return text.split("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="each in quotes")
    parser.add_argument("--folder", type=Path, required=True, help="where they run")
    parser.add_argument("--svg", type=Path, required=True)
    parser.add_argument("--title", default="selfcorrect")
    parser.add_argument("--try-it", action="store_true", help="then run what the last one suggests")
    given = parser.parse_args()
    kept = given.folder / "recorded.json"
    if not kept.is_file():
        given.folder.mkdir(parents=True, exist_ok=True)
        records = [run(command, given.folder) for command in given.commands]
        if given.try_it:
            records.append(run(suggested(records[-1]), given.folder))
        kept.write_text(json.dumps([asdict(record) for record in records], ensure_ascii=False), encoding="utf-8")
    records = [Recorded(**record) for record in json.loads(kept.read_text(encoding="utf-8"))]
    given.svg.write_text(drawn(records, given.title), encoding="utf-8")
    print(f"{given.svg}: {len(records)} commands", file=sys.stderr)


if __name__ == "__main__":
    main()
