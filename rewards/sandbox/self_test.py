"""The jail attacks itself before it is trusted: every attempt must fail, in a program's process and in the tests'
alike.

The parent lays out what the attacks are aimed at: a secret file, itself. A layer that the kernel only pretends to have
(a container runtime that filters the calls, say) is found here, whatever the reason.
"""

import os
import select
import socket
import tempfile
from pathlib import Path

from selfcorrect.errors import SandboxError
from selfcorrect.rewards import framing
from selfcorrect.rewards.sandbox.jail import Isolation
from selfcorrect.rewards.sandbox.zygote_pair import LAST_BREATH, ZygotePair
from selfcorrect.rewards.sandbox.zygote_process import ZygoteLost, ZygoteProcess

_SECONDS = 10.0


def prove(pair: ZygotePair) -> None:
    """Run the attacks in a child of each zygote of `pair`.

    Raises:
        SandboxError: one of them succeeded, or did not report.
        ZygoteLost: a zygote was killed from outside meanwhile.
    """
    try:
        place = tempfile.TemporaryDirectory(prefix="selfcorrect-")
    except OSError as error:
        raise SandboxError(
            f"the jail's own test needs a folder for a secret file, and "
            f"none can be written ({error}); set TMPDIR to one"
        ) from error
    with place as folder:
        secret = Path(folder, "secret")
        secret.write_text("not for programs")
        for zygote in (pair.programs, pair.tests):
            open_doors = _attack(zygote, str(secret))
            if open_doors:
                raise SandboxError(
                    f"the jail failed its own test: a jailed program could {', '.join(open_doors)}. Nothing was run. "
                    'To run programs with resource limits only, pass isolation="unsafe"'
                )


def make_ready(pair: ZygotePair) -> None:
    """Wait until a pair serves, and, the first time, have its jail attacked.

    Raises:
        SandboxError: processes cannot be started or jailed on this machine.
        ZygoteLost: a zygote was killed from outside.
    """
    if not pair.proven:
        pair.wait_until_ready()
        if pair.confinement.isolation is not Isolation.UNSAFE:
            prove(pair)
        pair.proven = True


def _attack(zygote: ZygoteProcess, secret: str) -> list[str]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            zygote.fork("attack", _SECONDS, [theirs.fileno()])
        try:
            channel = framing.Channel(ours.fileno())
            channel.send({"secret": secret, "parent": os.getpid()})
            heard = select.select([ours], [], [], _SECONDS)[0]
            answer = channel.receive() if heard else None
        except (framing.ChannelClosed, framing.BadMessage):
            answer = None
        ending = zygote.end_child(LAST_BREATH if answer is None else 0.0)
    if not isinstance(answer, list):
        if ending.exit_code in (-9, -15) and ending.by_itself:
            raise ZygoteLost
        raise SandboxError(f"the jail's own test did not report (exit code {ending.exit_code}). Nothing was run")
    return [str(door) for door in answer]
