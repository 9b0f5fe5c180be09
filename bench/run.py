"""Run the benchmarks: ``python bench/run.py [SUITE...] [--json FILE] [--rounds N]``.

Every case asserts the answer before anything is timed. The contestants of a case, and the machine's own matrix product,
take turns within each round; medians over the rounds are reported. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise as pairwise_of
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

sys.path.insert(0, str(Path(__file__).parent))

import fisherfield as ff
from fisherfield import learning, spectrum
from fisherfield.eigenpairs import block_lanczos

import cases
import machine
import numpy_diagonal
import numpy_gram
import numpy_operator
import numpy_training
import pairwise
import peers

Contestants = dict[str, Callable[[], object]]


def interleave(contestants: Contestants, rounds: int) -> dict[str, float]:
    """Median seconds of each contestant; one unmeasured call warms each up.

    A pause before each call lets the threads of the BLAS, which spin for a while after a product, go to sleep.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for measured in range(-1, rounds):
        for name, call in contestants.items():
            time.sleep(0.1)
            start = time.perf_counter()
            call()
            if measured >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def gram(rounds: int) -> list[dict[str, object]]:
    print(
        f"\n{'dual Gram matrix':46s} {'ours':>9s} {'NumPy':>9s} {'x NumPy':>8s}"
        f" {'GEMM':>9s} {'bound':>9s} {'x bound':>8s}"
    )
    rows = []
    for case in cases.GRAM:
        net, X = case.network(), case.inputs()
        tolerance = 1e-12 if case.dtype == "float64" else 1e-5
        rivals = peers.available(net, X)
        ours, reference = ff.Fisher(net, X).dual(), numpy_gram.dual(net, X)
        for name, answer in {"numpy": reference, **{n: call() for n, call in rivals.items()}}.items():
            error = np.abs(ours - answer).max() / np.abs(reference).max()
            assert error < tolerance, f"{case.name}: {name} differs by {error:.1e}"
        del ours, reference
        gemm = machine.Gemm(case.dtype)
        contestants: Contestants = {
            "ours": lambda net=net, X=X: ff.Fisher(net, X).dual(),
            "numpy": lambda net=net, X=X: numpy_gram.dual(net, X),
            "gemm": gemm,
            **rivals,
        }
        large = case.flops() > 2e10
        seconds = interleave(contestants, rounds if large else 5 * rounds)
        rate = gemm.flops / seconds["gemm"]
        bound = case.flops() / rate
        row = {
            "case": case.name,
            "seconds": seconds,
            "gemm_gflops": rate / 1e9,
            "bound_seconds": bound,
            "over_bound": seconds["ours"] / bound,
            "over_numpy": seconds["ours"] / seconds["numpy"],
            "goal_over_bound": case.goal,
        }
        rows.append(row)
        print(
            f"{case.name:46s} {seconds['ours'] * 1e3:7.1f}ms {seconds['numpy'] * 1e3:7.1f}ms {row['over_numpy']:8.2f}"
            f" {rate / 1e9:6.0f}GF/s {bound * 1e3:7.1f}ms {row['over_bound']:8.2f}"
            + (f" (goal {case.goal})" if case.goal else "")
            + "".join(f"  {name} {seconds[name] * 1e3:.0f}ms" for name in rivals),
            flush=True,
        )
    return rows


PRODUCTS = [
    ((784, 512, 512, 512, 10), 10000, "float32"),
    ((784, 512, 512, 512, 10), 10000, "float64"),
    ((784, 512, 512, 512, 1), 10000, "float32"),
    ((784, 1000, 1000, 10), 10000, "float32"),
]


def products(rounds: int) -> list[dict[str, object]]:
    """One product with F and the largest eigenvalue to a relative residual of 1e-3, beside SciPy's eigsh on operators.

    The bound is 8 T sum M_l M_{l-1} operations at the rate of NumPy's product of the first layer.
    """
    rows = []
    print(
        f"\n{'product, largest eigenvalue':42s} {'ours':>8s} {'x bound':>8s} {'NumPy':>8s}"
        f" {'lambda_max':>10s}, then others' with eigsh"
    )
    for widths, T, dtype in PRODUCTS:
        net = ff.MLP(widths, "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0, dtype=dtype)
        rng = np.random.default_rng(1)
        X = rng.standard_normal((T, widths[0])).astype(dtype)
        fim, numpy_f = ff.Fisher(net, X), numpy_operator.operator(net, X)
        v = rng.standard_normal(fim.shape[0]).astype(dtype)
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        flops = 8.0 * T * sum(a * b for a, b in pairwise_of(widths))
        layer = np.empty((T, widths[1]), dtype)
        contestants: Contestants = {
            "ours": lambda fim=fim, v=v: fim @ v,
            "numpy": lambda f=numpy_f, v=v: f @ v,
            "gemm": lambda X=X, W=net.weights[0], out=layer: np.matmul(X, W.T, out=out),
        }
        answers = {"numpy": numpy_f @ v}
        if peers.has_curvlinops():
            theirs = peers.curvlinops_operator(net, X)
            contestants["curvlinops"] = lambda f=theirs, v=v: f @ v
            answers["curvlinops"] = np.asarray(theirs @ v) / (2 * T)
        for name, answer in answers.items():
            error = np.abs(fim @ v - answer).max() / np.abs(answer).max()
            assert error < tolerance, f"{name} differs by {error:.1e}"
        seconds = interleave(contestants, rounds)
        bound = flops / (2.0 * T * widths[0] * widths[1] / seconds["gemm"])
        searches = largest(net, X, rounds)
        row = {
            "case": f"{'-'.join(map(str, widths))} T={T} {dtype}",
            "seconds": seconds,
            "bound_seconds": bound,
            "over_bound": seconds["ours"] / bound,
            "largest": searches,
        }
        rows.append(row)
        others = "  ".join(f"{n} {s['seconds']:.2f}s ({s['products']:g})" for n, s in searches.items() if n != "ours")
        print(
            f"{row['case']:42s} {seconds['ours']:7.3f}s {row['over_bound']:8.2f} {seconds['numpy']:7.3f}s"
            f" {searches['ours']['seconds']:9.2f}s ({searches['ours']['products']:.3g} products)  {others}",
            flush=True,
        )
    rows.append(starts())
    return rows


def starts() -> dict[str, object]:
    """Products to a residual of 1e-3 by where the search starts; and its value beside that of the dense dual."""
    widths = PRODUCTS[0][0]
    arch = ff.MLP(widths, "tanh", weight_var=3.0, bias_var=0.64)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((10000, widths[0])).astype("float32")
    fim = ff.Fisher(arch.sample(seed=0, dtype="float32"), X)
    gradients = fim.mean_gradients()
    best = np.linalg.svd(gradients, full_matrices=False)[2][:1]
    options = {"tol": 1e-3, "max_products": 99, "max_basis": 40, "rng": rng, "method": "", "guarded": False}
    products = {
        name: block_lanczos(fim._times, np.ascontiguousarray(start), 1, **options).pairs.products
        for name, start in {
            "random vector": rng.standard_normal((1, fim.shape[0])).astype("float32"),
            "best combination of the mean gradients": best,
        }.items()
    } | {"subsample (all of it counted)": fim.top_eigenpairs(1, 1e-3).products}
    few = ff.Fisher(arch.sample(seed=0), rng.standard_normal((500, widths[0])))
    found = few.top_eigenpairs(1, 1e-6, method="matrix-free").values[0]
    error = float(found / spectrum.largest_eigenvalues(few.dual(), 1)[0] - 1)
    assert abs(error) < 1e-8, error
    for name, count in products.items():
        print(f"{'products from: ' + name:60s} {count:6.3g}")
    print(f"{'T = 500, float64: matrix-free over dense, less 1':60s} {error:9.1e}", flush=True)
    return {"case": "starts", "products": products, "error_at_500": error}


def largest(net: ff.Network, X: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """The largest eigenvalue, everything from the weights on included: median seconds, and products."""
    counts: dict[str, float] = {}
    values: dict[str, float] = {}

    def ours() -> None:
        found = ff.Fisher(net, X).top_eigenpairs(1, 1e-3)
        assert found.converged, found
        counts["ours"], values["ours"] = found.products, float(found.values[0])

    def by_eigsh(name: str, make: Callable[[], Any], scale: float) -> Callable[[], None]:
        def search() -> None:
            operator, calls = make(), [0]

            def counted(v: np.ndarray) -> np.ndarray:
                calls[0] += 1
                return np.asarray(operator @ v)

            wrapped = LinearOperator(operator.shape, matvec=counted, dtype=X.dtype)
            start = np.random.default_rng(2).standard_normal(operator.shape[0]).astype(X.dtype)
            top = eigsh(wrapped, 1, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
            counts[name], values[name] = calls[0], float(top[0]) * scale

        return search

    contestants: Contestants = {
        "ours": ours,
        "numpy": by_eigsh("numpy", lambda: numpy_operator.operator(net, X), 1.0),
    }
    if peers.has_curvlinops():
        make = lambda: peers.curvlinops_operator(net, X)  # noqa: E731
        contestants["curvlinops"] = by_eigsh("curvlinops", make, 1 / (2 * len(X)))
    seconds = interleave(contestants, max(1, rounds // 2))
    for name, value in values.items():
        assert abs(value / values["ours"] - 1) < 1e-4, f"{name}: {value} beside {values['ours']}"
    return {name: {"seconds": seconds[name], "products": counts[name], "value": values[name]} for name in seconds}


VARIANTS = [cases.GramCase((784, 512, 512, 512, 10), 500, dtype) for dtype in ("float32", "float64")]


def variants(rounds: int) -> list[dict[str, object]]:
    """Other likelihoods, kinds and metrics in units of the dual of the unit Gaussian likelihood, C = 10."""
    rows = []
    print(f"\n{'dual of a variant':46s} {'time':>9s} {'x Gaussian':>10s}")
    for case in VARIANTS:
        net, X, T = case.network(), case.inputs(), case.num_samples
        C, tolerance = net.num_outputs, 1e-12 if case.dtype == "float64" else 2e-5
        kernel = numpy_gram.dual(net, X).reshape(C, T, C, T)
        labels = np.arange(T) % C

        def seeded(fim: ff.Fisher, kernel: np.ndarray = kernel) -> np.ndarray:
            S = fim.output_seeds()
            rows_done = np.einsum("rsk,ksqt->rsqt", S, kernel, optimize=True)
            return np.einsum("rsqt,ptq->rspt", rows_done, S, optimize=True).reshape(2 * (S.shape[0] * S.shape[1],))

        centered = kernel - kernel.mean(axis=1, keepdims=True)
        centered = (centered - centered.mean(axis=3, keepdims=True)).reshape(C * T, -1)
        made = {
            "gaussian": lambda net=net, X=X: ff.Fisher(net, X),
            "categorical": lambda net=net, X=X: ff.Fisher(net, X, likelihood="categorical"),
            "bernoulli": lambda net=net, X=X: ff.Fisher(net, X, likelihood="bernoulli"),
            "empirical": lambda net=net, X=X, y=labels: ff.Fisher(
                net, X, likelihood="categorical", kind="empirical", targets=y
            ),
        }
        contestants: Contestants = {name: lambda make=make: make().dual() for name, make in made.items()}
        contestants["mean subtracted"] = lambda net=net, X=X: ff.Fisher(net, X).centered().dual()
        contestants["ntk"] = lambda net=net, X=X: ff.ntk(net, X)
        contestants["ntk, trace"] = lambda net=net, X=X: ff.ntk(net, X, trace=True)
        references = {name: seeded(make()) for name, make in made.items()} | {
            "mean subtracted": centered,
            "ntk": T * kernel.transpose(1, 3, 0, 2),
            "ntk, trace": T * np.einsum("ksqt,kq->st", kernel, np.eye(C)),
        }
        for name, reference in references.items():
            error = np.abs(contestants[name]() - reference).max() / np.abs(reference).max()
            assert error < tolerance, f"{case.name}: {name} differs by {error:.1e}"
        seconds = interleave(contestants, 3 * rounds)
        for name, value in seconds.items():
            ratio = value / seconds["gaussian"]
            rows.append({"case": f"{case.name} {name}", "seconds": value, "over_gaussian": ratio})
            print(f"{name + ', ' + case.name:46s} {value * 1e3:7.1f}ms {ratio:10.2f}", flush=True)
    return rows


# Activation, weight and bias variance, and the time to stay below: 0.1 s, and what neural-tangents takes for the closed
# forms on two cores.
PAIRWISE = (("tanh", 3.0, 0.64, 0.1), ("erf", 3.0, 0.64, 0.014), ("relu", 2.0, 0.1, 0.014))


def theory(rounds: int) -> list[dict[str, object]]:
    """Predicted dual matrix of 500 real inputs (digits, unequal norms), L = 4; statistics of Gaussian inputs."""
    from sklearn.datasets import load_digits

    X = load_digits().data[:500]
    X = (X - X.mean()) / X.std()
    rows = []
    print(f"\n{'pairwise theory, 500 digits, L=4':46s} {'ours':>9s} {'goal':>9s} {'error':>9s}")
    for activation, weight_var, bias_var, goal in PAIRWISE:
        arch = ff.MLP((64, 500, 500, 500, 1), activation, weight_var=weight_var, bias_var=bias_var)
        error = pairwise.largest_error(arch, X, ff.mean_field(arch, X).dual())
        assert error < 1e-10, f"{activation}: error {error:.1e}"
        seconds = interleave({"ours": lambda arch=arch: ff.mean_field(arch, X).dual()}, 3 * rounds)
        rows.append({"case": f"pairwise {activation}", "seconds": seconds, "goal_seconds": goal, "error": error})
        print(f"{activation:46s} {seconds['ours'] * 1e3:7.1f}ms {goal * 1e3:7.0f}ms {error:9.1e}", flush=True)
    arch = ff.MLP((1000, 1000, 1000, 1), "tanh", weight_var=3.0, bias_var=0.64)
    kappas = np.array([0.9555219042, 0.1186153721])  # an independent trapezoidal rule at two resolutions
    mf = ff.mean_field(arch, 100)
    assert np.abs(np.array([mf.kappa1, mf.kappa2]) - kappas).max() < 1e-9
    seconds = interleave({"ours": lambda: ff.mean_field(arch, 100).statistics}, 20 * rounds)
    rows.append({"case": "statistics tanh L=3", "seconds": seconds})
    print(f"{'statistics, unit Gaussian inputs, tanh L=3':46s} {seconds['ours'] * 1e6:7.0f}us", flush=True)
    return rows


def activations(rounds: int) -> list[dict[str, object]]:
    """Time of the activation (value and derivative) over that of the product W h of one layer, both on one thread.

    The activation runs on a dozen samples at a time, as it does in the cache inside a layer; its share thus includes
    the cost of 40 calls from Python.
    """
    from fisherfield._native import kernels

    rows, width, part = [], 1000, 12
    print(f"\n{'activation over product, width 1000':46s} {'ratio':>9s}")
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(0)
        h = rng.standard_normal((480, width)).astype(dtype)
        W = (rng.standard_normal((width, width)) / 30).astype(dtype)
        out, slope = np.empty_like(h), np.empty_like(h)
        u = h @ W.T
        for name in ff.activations.available():
            phi = ff.activations.get(name)
            kernels.layer_forward(h, W, None, phi.native, out, slope, 0, width)
            value, _ = phi.evaluate(u)
            assert np.abs(out - value).max() < (1e-10 if dtype == "float64" else 1e-3), name

            def activate(phi: ff.Activation = phi, u: np.ndarray = u) -> None:
                for begin in range(0, len(u), part):
                    phi.native.evaluate(u[begin : begin + part], 1)

            def product(h: np.ndarray = h, W: np.ndarray = W, out: np.ndarray = out) -> None:
                kernels.layer_forward(h, W, None, None, out, None, 0, width)

            seconds = interleave({"activation": activate, "product": product}, 5 * rounds)
            ratio = seconds["activation"] / seconds["product"]
            rows.append({"case": f"{name} {dtype}", "seconds": seconds, "ratio": ratio})
            print(f"{name + ' ' + dtype:46s} {100 * ratio:8.1f}%", flush=True)
    return rows


def conditional(rounds: int) -> list[dict[str, object]]:
    """The dual at one input, beside GEMM and symmetric updates of BLAS; then all its eigenvalues."""
    rows = []
    print(
        f"\n{'conditional Fisher, one input':30s} {'ours':>9s} {'NumPy':>9s} {'x NumPy':>8s}"
        f" {'GEMM':>9s} {'bound':>9s} {'x bound':>8s} {'eigenvalues':>12s}"
    )
    for case in cases.CONDITIONAL:
        net, x = case.network(), case.input()
        ours, reference = ff.conditional_fisher(net, x).dual(), numpy_gram.conditional(net, x)
        error = np.abs(ours - reference).max() / np.abs(reference).max()
        assert error < (1e-12 if case.dtype == "float64" else 1e-5), f"{case.name}: NumPy differs by {error:.1e}"
        gemm = machine.Gemm(case.dtype)
        seconds = interleave(
            {
                "ours": lambda net=net, x=x: ff.conditional_fisher(net, x).dual(),
                "numpy": lambda net=net, x=x: numpy_gram.conditional(net, x),
                "gemm": gemm,
                "eigenvalues": lambda K=ours: spectrum.eigenvalues(K),
            },
            rounds,
        )
        rate = gemm.flops / seconds["gemm"]
        bound = case.flops() / rate
        row = {
            "case": case.name,
            "seconds": seconds,
            "gemm_gflops": rate / 1e9,
            "bound_seconds": bound,
            "over_bound": seconds["ours"] / bound,
            "over_numpy": seconds["ours"] / seconds["numpy"],
            "goal_over_bound": case.goal,
        }
        rows.append(row)
        print(
            f"{case.name:30s} {seconds['ours']:8.2f}s {seconds['numpy']:8.2f}s {row['over_numpy']:8.2f}"
            f" {rate / 1e9:6.0f}GF/s {bound:8.2f}s {row['over_bound']:8.2f} {seconds['eigenvalues']:11.2f}s"
            + (f" (goal {case.goal})" if case.goal else ""),
            flush=True,
        )
    return rows


def laws(rounds: int) -> list[dict[str, object]]:
    """Spectra by free probability: bands, then 2000 points of the density; atoms and density must add to one."""
    rows = []
    print(
        f"\n{'conditional spectrum, theory':34s} {'bands':>6s} {'found in':>9s} {'density':>9s} {'points':>7s}"
        f" {'mass - 1':>9s}"
    )
    points = {n: ff.isometry_point("hard_tanh", 100, 1 / n) for n in (4, 16, 64)}
    ensembles = {
        f"hard_tanh, L = 100, eps = 1/{n}": (point.architecture(1000), point.second_moment)
        for n, point in points.items()
    }
    gaussian = ff.MLP((1000,) * 11, "tanh", weight_var=2.0, bias_var=0.1)
    for name, (arch, qhat0) in (ensembles | {"tanh, Gaussian weights, L = 10": (gaussian, 1.0)}).items():
        seconds: dict[str, list[float]] = {"bands": [], "density": []}
        for _ in range(rounds):
            law = ff.conditional_spectrum(arch, qhat0).law
            start = time.perf_counter()
            bands = law.support
            found = time.perf_counter()
            x, w = law.nodes(2000)
            density = law.density(x)
            seconds["bands"].append(found - start)
            seconds["density"].append(time.perf_counter() - found)
        mass = float(w @ density) + law.atoms.total - 1
        if name.startswith("hard_tanh"):  # with Gaussian weights the lower edge holds mass within 1e-10 of it
            assert abs(mass) < 1e-6, f"{name}: {mass:.1e}"
        ends = law.transform(np.array([1e-3, 1.001]) * law.maximum).log_potential.imag / np.pi
        assert abs(ends[0] - ends[1] - 1) < 1e-9, f"{name}: {ends}"
        median = {what: float(np.median(values)) for what, values in seconds.items()}
        rows.append({"case": name, "bands": len(bands), "seconds": median, "points": len(x), "mass_error": mass})
        print(
            f"{name:34s} {len(bands):6d} {median['bands']:8.2f}s {median['density']:8.2f}s {len(x):7d} {mass:9.1e}",
            flush=True,
        )
    return rows


def diagonal(rounds: int) -> list[dict[str, object]]:
    """Exact diagonals beside NumPy's and BackPACK's, all from the weights on."""
    rows = []
    print(
        f"\n{'diagonal':46s} {'ours':>9s} {'NumPy':>9s} {'BackPACK':>9s} {'x faster':>8s}"
        f" {'GEMM':>9s} {'bound':>9s} {'x bound':>8s}"
    )
    for case in cases.DIAGONAL:
        net, X = case.network(), case.inputs()
        labels = np.arange(len(X)) % net.num_outputs if case.hessian else None
        gemm = machine.Gemm(case.dtype)
        contestants: Contestants = {"gemm": gemm}
        if labels is None:
            contestants["ours"] = lambda net=net, X=X: ff.Fisher(net, X).diagonal()
            contestants["numpy"] = lambda net=net, X=X: numpy_diagonal.fisher(net, X)
        else:
            contestants["ours"] = lambda net=net, X=X, y=labels: ff.hessian_diagonal(net, X, "cross_entropy", targets=y)
            if net.depth == 3:
                contestants["numpy"] = lambda net=net, X=X, y=labels: numpy_diagonal.hessian(net, X, y)
        if peers.has_backpack():
            contestants["backpack"] = peers.backpack_diagonal(net, X, labels)
        ours = contestants["ours"]()
        for name in contestants.keys() - {"ours", "gemm"}:
            error = np.abs(ours - contestants[name]()).max() / np.abs(ours).max()
            assert error < (1e-12 if case.dtype == "float64" else 2e-5), f"{case.name}: {name} differs by {error:.1e}"
        seconds = interleave(contestants, 3 * rounds)
        rate = gemm.flops / seconds["gemm"]
        bound = case.flops() / rate
        row = {
            "case": case.name,
            "seconds": seconds,
            "gemm_gflops": rate / 1e9,
            "bound_seconds": bound,
            "over_bound": seconds["ours"] / bound,
            "goal_over_bound": case.goal,
            "faster_than_backpack": seconds["backpack"] / seconds["ours"] if "backpack" in seconds else None,
            "goal_faster": case.over_backpack,
        }
        rows.append(row)
        others = "".join(
            f" {seconds[n] * 1e3:7.1f}ms" if n in seconds else f" {'-':>9s}" for n in ("numpy", "backpack")
        )
        faster = f"{row['faster_than_backpack']:8.1f}" if row["faster_than_backpack"] else f"{'-':>8s}"
        print(
            f"{case.name:46s} {seconds['ours'] * 1e3:7.1f}ms{others} {faster}"
            f" {rate / 1e9:6.0f}GF/s {bound * 1e3:7.1f}ms {row['over_bound']:8.2f}"
            + (f" (goal {case.goal})" if case.goal else "")
            + (f" (goal {case.over_backpack} x faster)" if case.over_backpack else ""),
            flush=True,
        )
    return rows


_STEPS = 100  # of a run; its first few milliseconds go by until threads that slept have cores of their own


def training(rounds: int) -> list[dict[str, object]]:
    """A step of gradient descent, in runs and one by one, and monitored, beside PyTorch's and NumPy's."""
    rows = []
    print(
        f"\n{'a step of gradient descent':36s} {'ours':>9s} {'one by one':>10s} {'monitored':>9s} {'NumPy':>9s}"
        f" {'PyTorch':>9s} {'x faster':>8s} {'GEMM':>9s} {'bound':>9s} {'x bound':>8s}"
    )
    for case in cases.TRAINING:
        net, (X, labels) = case.network(), case.samples()
        gemm = machine.Gemm(case.dtype)
        rates = [1e-3] * _STEPS

        def ours(net: ff.Network = net, X: np.ndarray = X, y: np.ndarray = labels) -> learning.Descent:
            return learning.Descent(net, X, "cross_entropy", targets=y, momentum=0.9)

        runs = {"ours": ours().run, "numpy": numpy_training.Descent(net, X, labels, 0.9).run}
        if peers.has_torch():
            runs["torch"] = peers.torch_descent(net, X, labels, 0.9)
        reference = runs["numpy"](rates)
        for name in runs.keys() - {"numpy"}:
            error = max(abs(a / b - 1) for a, b in zip(runs[name](rates), reference, strict=True))
            assert error < (1e-12 if case.dtype == "float64" else 1e-5), f"{case.name}: {name} differs by {error:.1e}"
        single, watched, monitor = ours(), ours(), ff.TrainingMonitor()

        def monitored(
            watched: learning.Descent = watched, monitor: ff.TrainingMonitor = monitor, rates: list[float] = rates
        ) -> None:
            for rate in rates:
                watched.run([rate])
                monitor.update(watched.factors, learning_rate=rate)

        contestants: Contestants = {name: lambda run=run, r=rates: run(r) for name, run in runs.items()}
        contestants["one by one"] = lambda run=single.run, r=rates: [run([rate]) for rate in r]
        if case.batch <= 64:
            contestants["monitored"] = monitored
        seconds = interleave({"gemm": gemm, **contestants}, 3 * rounds)
        seconds |= {name: seconds[name] / _STEPS for name in contestants}
        rate = gemm.flops / seconds["gemm"]
        bound = case.flops() / rate
        row = {
            "case": case.name,
            "seconds": seconds,
            "gemm_gflops": rate / 1e9,
            "bound_seconds": bound,
            "over_bound": seconds["ours"] / bound,
            "goal_over_bound": case.goal,
            "faster_than_torch": seconds["torch"] / seconds["ours"] if "torch" in seconds else None,
            "goal_faster": case.over_torch,
        }
        rows.append(row)
        watched_text = f"{seconds['monitored'] * 1e3:7.2f}ms" if "monitored" in seconds else f"{'-':>9s}"
        torch_text = (
            f"{seconds['torch'] * 1e3:7.2f}ms {row['faster_than_torch']:8.2f}" if "torch" in seconds else " " * 18
        )
        print(
            f"{case.name:36s} {seconds['ours'] * 1e3:7.2f}ms {seconds['one by one'] * 1e3:8.2f}ms {watched_text}"
            f" {seconds['numpy'] * 1e3:7.2f}ms {torch_text} {rate / 1e9:5.0f}GF/s {bound * 1e3:7.2f}ms"
            f" {row['over_bound']:8.2f}"
            + (f" (goal {case.goal})" if case.goal else "")
            + (f" (goal {case.over_torch} x faster)" if case.over_torch else ""),
            flush=True,
        )
    return rows


MEMORY_SCRIPT = """
import pathlib, sys
import numpy as np
import fisherfield as ff
widths, T = tuple(map(int, sys.argv[1].split("-"))), int(sys.argv[2])
net = ff.MLP(widths, "tanh", weight_var=3.0, bias_var=0.64).sample(0, sys.argv[3])
X = np.random.default_rng(0).standard_normal((T, widths[0])).astype(sys.argv[3])
fim = ff.Fisher(net, X)
ff.Fisher(net, X[:4]).dual()
status = pathlib.Path("/proc/self/status")  # its peak starts anew with the process, unlike that of getrusage
peak = lambda: 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
before = peak()
dual = fim.dual()
factors = sum(layer.A.nbytes + layer.B.nbytes for layer in fim.factors) - X.nbytes
print(peak() - before, dual.nbytes, factors)
"""


def memory(rounds: int) -> list[dict[str, object]]:
    """Peak memory of ``dual()`` above answer and factors, each case in a process of its own."""
    rows = []
    print(f"\n{'peak memory of dual()':46s} {'peak':>9s} {'answer':>9s} {'factors':>9s} {'rest':>9s}")
    for case in cases.GRAM:
        if case.num_samples < 1000:
            continue
        arguments = ["-".join(map(str, case.widths)), str(case.num_samples), case.dtype]
        text = subprocess.run(
            [sys.executable, "-c", MEMORY_SCRIPT, *arguments], capture_output=True, check=True, text=True
        )
        peak, answer, factors = (int(x) / 1e6 for x in text.stdout.split())
        rows.append({"case": case.name, "peak_MB": peak, "answer_MB": answer, "factors_MB": factors})
        print(
            f"{case.name:46s} {peak:7.0f}MB {answer:7.0f}MB {factors:7.0f}MB {peak - answer - factors:7.0f}MB",
            flush=True,
        )
    return rows


SUITES = {
    "gram": gram,
    "products": products,
    "variants": variants,
    "conditional": conditional,
    "diagonal": diagonal,
    "laws": laws,
    "theory": theory,
    "activations": activations,
    "training": training,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "suite", nargs="*", metavar="suite", help=f"what to run: {', '.join(SUITES)} (default: everything)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the large cases; small ones take more")
    parser.add_argument("--json", type=Path, help="write machine facts and results to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.suite) - set(SUITES):
        parser.error(f"unknown suite {', '.join(sorted(unknown))}; expected {', '.join(SUITES)}")
    results: dict[str, object] = {"machine": machine.facts()}
    print(json.dumps(results["machine"]))
    for name in arguments.suite or SUITES:
        results[name] = SUITES[name](arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
