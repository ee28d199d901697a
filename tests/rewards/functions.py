"""Reward functions, good and bad, that a worker imports by ``tests.rewards.functions:name``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any

from ridgeline.schema.records import Sample

NOT_A_FUNCTION = 3
calls = 0


def lengths(samples: list[Sample]) -> list[float | None]:
    return [len(sample.text) / 3 for sample in samples]


async def lengths_async(samples: list[Sample]) -> list[float | None]:
    async def one(sample: Sample) -> float:
        await asyncio.sleep(0.05)
        return len(sample.text) / 3

    return list(await asyncio.gather(*map(one, samples)))


def process_facts(samples: list[Sample]) -> list[float | None]:
    """pid, session id, whether torch is loaded, calls so far in this process."""
    global calls
    calls += 1
    return [float(os.getpid()), float(os.getsid(0)), float("torch" in sys.modules), float(calls)]


def hangs(samples: list[Sample]) -> list[float | None]:
    time.sleep(60)
    return [1.0] * len(samples)


def hangs_on_p1(samples: list[Sample]) -> list[float | None]:
    """With a child that would outlive a worker killed alone; its pid goes to row["pid_file"]."""
    for sample in samples:
        if sample.prompt_id == "p1":
            child = subprocess.Popen(["sleep", "60"])
            with open(sample.row["pid_file"], "w") as file:
                file.write(str(child.pid))
            time.sleep(60)
    return [1.0] * len(samples)


def dies_on_p1(samples: list[Sample]) -> list[float | None]:
    if any(sample.prompt_id == "p1" for sample in samples):
        os._exit(7)
    return [1.0] * len(samples)


def raises_on_p1(samples: list[Sample]) -> list[float | None]:
    for sample in samples:
        if sample.prompt_id == "p1":
            raise ValueError("no\nanswer here")
    return [1.0] * len(samples)


def raises(samples: list[Sample]) -> list[float | None]:
    raise KeyError("solution")


def leaves(samples: list[Sample]) -> list[float | None]:
    sys.exit("enough")


def one_too_few(samples: list[Sample]) -> list[float | None]:
    return [1.0] * (len(samples) - 1)


def mixed(samples: list[Sample]) -> list[Any]:
    return [float("nan"), float("-inf"), "0.5", None, True, 2][: len(samples)]


def nothing(samples: list[Sample]) -> Any:
    return None


def prints_and_reads(samples: list[Sample]) -> list[float | None]:
    print("hello from the function", flush=True)
    os.write(1, b"\x00\x01\x02\x03 raw bytes\n")
    subprocess.run(["echo", "from a child"], check=True)
    return [float(len(sys.stdin.read()))] * len(samples)


def python_path(samples: list[Sample]) -> list[float | None]:
    return [float(os.environ.get("PYTHONPATH", "") == samples[0].row["expected"])]


def is_date(samples: list[Sample]) -> list[float | None]:
    return [float(sample.row["day"].year) for sample in samples]


def mutates(samples: list[Sample]) -> list[float | None]:
    samples.reverse()
    return [float(sample.index) for sample in samples]
