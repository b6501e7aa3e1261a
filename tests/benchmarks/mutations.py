"""Damaged media through the command line, with the model it comes with: no traceback, no half file, how long.

Run: python -m tests.benchmarks.mutations [count] [model]
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.sdk.mutants import mutants


def main(count: int = 200, model: str = "restore-lite") -> int:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "damaged", Path(folder) / "out"
        mutants(source, count)
        begun = time.perf_counter()
        command = ["-m", "riverrun.cli", "restore", str(source), "-o", str(out), "--model", model]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=3600)
        elapsed = time.perf_counter() - begun
        results = [path for path in out.rglob("*") if path.is_file()]
        failures = re.findall(r"^  (\S+): (.+)$", done.stderr, re.M)
        strange = {path.name for path in results} - {path.name for path in source.iterdir()}
    for path, why in failures:
        print(f"{Path(path).name}: {why}")
    print(f"{count} files in {elapsed:.0f} s: {len(results)} results, {len(failures)} clear errors")
    wrong = "Traceback" in done.stderr or strange or len(results) + len(failures) != count
    if wrong:
        print(done.stderr[-4000:], f"left behind: {sorted(strange)}" if strange else "", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*[kind(value) for kind, value in zip((int, str), sys.argv[1:], strict=False)]))
