"""Decode an upload in a process of its own, which may be killed: `python -m riverrun.streaming.decode`.

Reads a file on stdin, and writes a JSON line and then interleaved float32 on stdout; an error is a JSON line, too. No
protocol but the pipe is ever opened, and memory, time and files are limited before anything is read.
"""

import json
import resource
import signal
import sys


def limit(memory: int, cpu: int) -> None:
    """Bound this process: bytes of memory, seconds of processor, no file written, few open."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def main(memory: int, cpu: int, seconds: float) -> None:
    """Decode stdin to stdout."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which ends this in its own time
        signal.signal(number, signal.SIG_IGN)
    limit(memory, cpu)
    import numpy as np

    from riverrun.media import Chunk, Limits, MediaError, open_media

    out = sys.stdout.buffer
    try:
        with open_media(sys.stdin.buffer, Limits(seconds=seconds)) as reader:
            audio = reader.audio
            head = {
                "rate": audio.rate,
                "channels": audio.channels,
                "codec": audio.codec,
                "format": reader.format,
            }
            out.write(json.dumps(head).encode() + b"\n")
            for item in reader.items():
                if isinstance(item, Chunk):
                    out.write(np.ascontiguousarray(item.data, "<f4").tobytes())
        out.flush()
    except MediaError as error:
        told = {"error": type(error).__name__, "message": str(error)}
        sys.stderr.write(json.dumps(told) + "\n")
        sys.exit(3)
    except MemoryError:
        sys.stderr.write(json.dumps({"error": "UnsupportedMedia", "message": "needs too much memory"}) + "\n")
        sys.exit(3)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
