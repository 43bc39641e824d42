"""What takes Python's place in other tests behaves as Python does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="there Python itself is used"),
]
PROGRAM = """
import os, sys, torch
sys.stderr.write(sys.stdin.read() + os.environ["ASKED"])
print(sys.argv, __name__, os.getcwd(), torch.get_num_threads())
sys.exit(7)
"""


def test_arguments_streams_environment_and_status_are_those_of_a_process_of_ones_own(
    warm_python: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    for named in (["-u", "-W", "ignore", str(script)], ["-c", PROGRAM]):
        command, asked = [warm_python, *named, "a", "b c"], os.environ | {"ASKED": "in the environment"}
        done = subprocess.run(
            command, input="said, ", cwd=tmp_path, env=asked, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (7, "said, in the environment")
        assert done.stdout == f"{[named[-1] if str(script) in named else '-c', 'a', 'b c']} __main__ {tmp_path} 1\n"
    told = subprocess.run([warm_python, "-m", "selfcorrect", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout


def test_signals_reach_it_and_it_dies_with_the_one_in_its_place(warm_python: str) -> None:
    waits = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [warm_python, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            pid = int(process.stdout.readline())
            assert pid != process.pid
            process.send_signal(number)
            assert process.stdout.read() == "", "the end of the stream is the end of all who hold it"
            assert ("KeyboardInterrupt" in process.stderr.read()) == (number == signal.SIGINT)
            assert process.wait(60) == -number
    killed = subprocess.run([warm_python, "-c", "import os; os.kill(os.getpid(), 9)"], check=False)
    assert killed.returncode == -signal.SIGKILL
