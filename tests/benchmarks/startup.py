"""How long starting takes: `import riverrun` and `riverrun --help`, against a bare interpreter.

Run: python tests/benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

RUNS = 7
CASES = {
    "python -c pass": ["-c", "pass"],
    "import riverrun": ["-c", "import riverrun"],
    "riverrun --help": ["-c", "from riverrun.cli import main; main(['--help'])"],
    "riverrun restore --help": ["-c", "from riverrun.cli import main; main(['restore', '--help'])"],
}


def seconds(arguments: list[str]) -> float:
    """The median of several runs, each in a fresh interpreter."""
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


if __name__ == "__main__":
    for name, arguments in CASES.items():
        print(f"{name:26} {1000 * seconds(arguments):6.0f} ms")
