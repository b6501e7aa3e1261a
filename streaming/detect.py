"""Look for the mark in a process of its own, which gives way to all else: `python -m riverrun.streaming.detect`.

Reads interleaved float32 on stdin, and writes what was found as a JSON line on stdout.
"""

import json
import os
import signal
import sys

BLOCK = 1 << 14  # ticks heard at once


def main(rate: int, channels: int) -> None:
    """Hear stdin to its end."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which ends this in its own time
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)
    from dataclasses import asdict

    import numpy as np

    from riverrun.models.speech.marking import Detector

    detector = Detector(rate)
    while data := sys.stdin.buffer.read(4 * channels * BLOCK):
        detector.push(np.frombuffer(data, "<f4").reshape(-1, channels))
    print(json.dumps(asdict(detector.finish())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
