"""A dual larger than memory, killed and resumed: ``python bench/gram_file.py [--samples T] [--folder FOLDER]``.

784-1000-1000-1 in float64. A first file is computed in one go; a second by processes that are killed (SIGKILL) three
times at random moments. The two have to be the same to the last byte. Reports times and the largest peak memory. Needs
room for both files, 6.4 GB for 20 000 samples.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import machine

CODE = """
import sys, pathlib
import numpy as np
import fisherfield as ff
net = ff.MLP((784, 1000, 1000, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
X = np.random.default_rng(0).standard_normal((int(sys.argv[2]), 784))
ff.Fisher(net, X).dual(out=sys.argv[1])
status = pathlib.Path("/proc/self/status").read_text()
print(1024 * int(status.split("VmHWM:")[1].split()[0]))
"""
CHUNK = 2**24


def start(path: Path, samples: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CODE, str(path), str(samples)], stdout=subprocess.PIPE, text=True)


def finished(path: Path, samples: int) -> tuple[float, int]:
    """Seconds and peak memory of a run to the end."""
    begin = time.perf_counter()
    process = start(path, samples)
    printed, _ = process.communicate()
    assert process.returncode == 0
    return time.perf_counter() - begin, int(printed)


def same_bytes(first: Path, second: Path) -> bool:
    with first.open("rb") as a, second.open("rb") as b:
        while True:
            parts = a.read(CHUNK), b.read(CHUNK)
            if parts[0] != parts[1]:
                return False
            if not parts[0]:
                return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        whole, resumed = Path(folder, "whole.npy"), Path(folder, "resumed.npy")
        seconds, peak = finished(whole, arguments.samples)
        print(f"in one go: {seconds:.0f} s, peak memory {peak / 1e9:.2f} GB, file {whole.stat().st_size / 1e9:.2f} GB")
        killed = []
        for _ in range(3):
            process = start(resumed, arguments.samples)
            killed.append(moments.uniform(0.03, 0.3) * seconds)
            time.sleep(killed[-1])
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not resumed.exists()
        rest, peak_resumed = finished(resumed, arguments.samples)
        same = same_bytes(whole, resumed)
    after = ", ".join(f"{moment:.0f}" for moment in killed)
    print(f"killed after {after} s, then {rest:.0f} s: {'the same bytes' if same else 'DIFFERENT BYTES'}")
    assert same
    if arguments.json:
        record = {
            "machine": machine.facts(),
            "samples": arguments.samples,
            "seconds": seconds,
            "peak_bytes": [peak, peak_resumed],
            "killed_after": killed,
            "rest": rest,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
