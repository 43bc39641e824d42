"""Jobs for the tests of the worker pool; imported by worker processes."""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any


def serve(payload: dict[str, Any], report: Callable[[str], None]) -> Any:
    for stage in payload.get("stages", []):
        report(stage)
    action = payload["do"]
    if action == "sleep":
        time.sleep(payload["seconds"])
    elif action == "spin":
        while True:
            pass
    elif action == "eat":
        return len(bytearray(payload["megabytes"] * 2**20))
    elif action == "segfault":
        ctypes.string_at(0)
    elif action == "exit":
        os._exit(3)
    elif action == "raise":
        raise ValueError(payload["message"])
    elif action == "recurse":
        return serve({"do": "recurse"}, report)
    elif action == "print":
        print("noise" * 1000, flush=True)
        os.write(1, b"more noise")
    elif action == "where":
        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "environment": dict(os.environ),
            "main": __import__("__main__").__dict__.get("__file__"),
        }
    elif action == "flood":
        while True:
            report("x" * 10_000)
    elif action == "nan":
        return float("nan")
    return payload.get("echo")
