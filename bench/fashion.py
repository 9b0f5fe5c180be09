"""All 60 000 images of Fashion-MNIST: ``python bench/fashion.py [--picture FILE] [--json FILE]``.

A random tanh network 784-1000-1000-10 in float32: largest eigenvalues, critical learning rate and density of
eigenvalues of F beside mean-field theory on the same images, with times and peak memory. Needs the Debian package
dataset-fashion-mnist, and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import fisherfield as ff
from fisherfield import data

import machine

PAIRS_OF = 3000  # images whose pairs stand for all pairs in the theory


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    start = time.perf_counter()
    images, what = data.load("fashion-mnist")
    X = data.standardize(images).astype(np.float32)
    del images
    print(what)
    arch = ff.MLP((784, 1000, 1000, 10), "tanh", weight_var=3.0, bias_var=0.64)
    net = arch.sample(seed=0, dtype="float32")
    fim = ff.Fisher(net, X, memory="1.5 GB")
    times = {"load": time.perf_counter() - start}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        answer = call()
        times[name] = time.perf_counter() - begin
        return answer

    print(fim.estimate("product"), "\n" + str(fim.estimate("dual")))
    largest = timed("largest", lambda: fim.top_eigenpairs(1, 1e-3))
    top = timed("top 10", lambda: fim.top_eigenpairs(10, 1e-3, vectors=True))
    assert top.converged
    assert largest.converged
    assert abs(largest.values[0] / top.values[0] - 1) < 1e-3
    mean = timed("trace", lambda: fim.trace() / fim.shape[0])
    density = timed("density", lambda: fim.spectral_density(probes=2, steps=16, deflate=top, seed=0, memory=2**29))
    some = np.random.default_rng(0).choice(len(X), PAIRS_OF, replace=False)
    mf = timed("theory", lambda: ff.mean_field(arch, X[some].astype(np.float64)))
    second = density.second_moment
    rows = [
        ("mean eigenvalue", mf.statistics.mean, mean),
        ("second moment", mf.statistics.second_moment, second.value),
        ("largest eigenvalue", mf.statistics.maximum, float(top.values[0])),
        ("mean of the top 10", mf.statistics.top_mean, float(top.values.mean())),
        ("critical learning rate", mf.critical_learning_rate(), 2 / float(top.values[0])),
    ]
    print(f"\n{'':24s} {'theory':>12s} {'measured':>12s}")
    for name, theory, measured in rows:
        print(f"{name:24s} {theory:12.5g} {measured:12.5g}")
    print(f"second moment: standard error {second.standard_error:.2g}")
    print(f"products: largest {largest.products:.3g}, top 10 {top.products:.3g}, density {density.products}")
    for threshold in (1e-3, 1e-1, 1.0, 10.0):
        above = density.count_above(threshold)
        print(f"eigenvalues >= {threshold:g}: {above.value:.0f} +- {above.standard_error:.0f} of {fim.shape[0]}")
    peak = peak_bytes()
    print("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in times.items()))
    print(f"all: {time.perf_counter() - start:.0f} s, peak memory {peak / 1e9:.2f} GB")
    if arguments.picture:
        from fisherfield import plot

        axes = plot.spectral_density(density, theory=mf.statistics)
        axes.figure.savefig(arguments.picture, dpi=150)
    if arguments.json:
        record = {
            "machine": machine.facts(),
            "rows": rows,
            "seconds": times,
            "peak_bytes": peak,
            "products": top.products,
            "top": top.values.tolist(),
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
