import doctest
import importlib
import inspect
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from fisherfield import FisherStatistics, plot, theory
from fisherfield.lanczos import spectral_density
from fisherfield.plot import style

EIGENVALUES = np.random.default_rng(0).lognormal(size=(4, 50))


def statistics(scale=1.0, outputs=1):
    return FisherStatistics(0.01 * scale, 1.0, 30.0 * scale, 20.0 * scale, 10_000, 50, outputs, outputs)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def heights(ax):
    return np.array([patch.get_height() for patch in ax.patches if hasattr(patch, "get_height")])


def integral(x, y):
    return ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()


def test_bars_count_every_positive_eigenvalue_once_per_network():
    ax = plot.spectrum(EIGENVALUES)
    assert heights(ax).sum() == pytest.approx(50)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    with_zeros = np.hstack([EIGENVALUES, np.full((4, 10), 1e-17), np.full((4, 10), -1e-17)])
    assert heights(plot.spectrum(with_zeros)).sum() == pytest.approx(50)
    assert heights(plot.spectrum(EIGENVALUES[0].astype(np.float32))).sum() == pytest.approx(50)


def test_theory_and_measurement_are_marked_where_they_lie():
    measured = (statistics(1.0), statistics(3.0))
    ax = plot.spectrum(EIGENVALUES, theory=statistics(), measured=measured)
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in ax.lines}
    np.testing.assert_allclose(lines["mean and maximum, theory"], 0.01)
    np.testing.assert_allclose(lines["mean and maximum, measured"], [0.02, 60.0])
    assert any(np.allclose(line.get_xdata(), 30.0) for line in ax.lines)
    assert "50 of P = 10,000" in ax.get_xlabel()
    assert not any("largest" in label for label in lines)


def test_several_outputs_mark_the_mean_of_the_largest():
    ax = plot.spectrum(EIGENVALUES, measured=[statistics(outputs=5)])
    line = next(line for line in ax.lines if line.get_label() == "mean of the 5 largest, measured")
    np.testing.assert_allclose(line.get_xdata(), 20.0)


def test_outline_counts_the_predicted_eigenvalues():
    ax = plot.spectrum(EIGENVALUES, predicted=np.geomspace(1e-3, 1e3, 40))
    outline = next(patch for patch in ax.patches if patch.get_label() == "eigenvalues, theory")
    values, edges, _ = outline.get_data()
    assert values.sum() == 40
    assert edges[0] < 1e-3
    assert edges[-1] > 1e3


def test_draws_into_given_axes_without_pyplot():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert plot.spectrum(EIGENVALUES, ax=ax, title="a title", bins=7) is ax
    assert ax.get_title(loc="left") == "a title"
    assert len(heights(ax)) == 7
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros(3), ValueError, "positive eigenvalue"),
        (-np.ones(3), ValueError, "positive eigenvalue"),
        (np.array([1.0, np.nan]), ValueError, "finite"),
        (np.empty(0), ValueError, "eigenvalues"),
        (np.ones((2, 2, 2)), ValueError, "2 dimensions"),
        (np.arange(3), TypeError, "float"),
    ],
)
def test_refuses(values, error, message):
    with pytest.raises(error, match=message):
        plot.spectrum(values)


def test_single_eigenvalue():
    assert heights(plot.spectrum(np.array([2.0]))).sum() == 1


@pytest.mark.parametrize("name", ["p.png", "p.svg", "p.pdf", "P.PNG"])
def test_save(tmp_path, name):
    path = plot.save_spectrum(tmp_path / name, EIGENVALUES, theory=statistics())
    assert path.stat().st_size > 1000
    assert plt.get_fignums() == []


def test_check_path(tmp_path):
    with pytest.raises(ValueError, match=r"ending in one of .*png"):
        plot.check_path(tmp_path / "picture.docx")
    with pytest.raises(ValueError, match="ending in one of"):
        plot.check_path(tmp_path / "picture")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        plot.check_path(tmp_path / "missing" / "picture.png")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'fisherfield\[plot\]'"):
        plot.spectrum(EIGENVALUES)


# --- spectral densities ---------------------------------------------------------------------------------


def density(outliers=(), zeros=0, seed=0):
    eigenvalues = np.concatenate([np.geomspace(0.5, 5.0, 80), outliers])
    found = spectral_density(np.diag(eigenvalues), deflate=len(outliers), dimension=len(eigenvalues) + zeros, seed=seed)
    assert len(found.known) == len(outliers)
    return found


def test_density_has_a_band_and_stems():
    found = density([50.0, 70.0], zeros=1000)
    ax = plot.spectral_density(found, theory=statistics(), title="a title")
    lines = {line.get_label(): line for line in ax.lines}
    x, y = lines["density"].get_data()
    bulk = np.isfinite(x)
    assert np.nanmax(x) < 10  # outliers are no part of the curve
    assert integral(np.log10(x[bulk]), y[bulk]) == pytest.approx(80, rel=0.02)
    assert sorted(lines["2 outliers"].get_xdata()) == pytest.approx([50.0, 70.0])
    np.testing.assert_allclose(lines["maximum, theory"].get_xdata(), 30.0)
    assert any(artist.get_label() == r"$\pm$ 1 standard error" for artist in ax.collections)
    assert "(1,000 of P = 1,082 are zero)" in ax.get_xlabel()
    assert ax.get_title(loc="left") == "a title"
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_density_without_outliers_or_zeros():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert plot.spectral_density(density(), ax, symbol="A") is ax
    assert ax.get_xlabel() == r"eigenvalue $\lambda$ of $A$"
    assert [line.get_label() for line in ax.lines] == ["density"]
    assert plt.get_fignums() == []


def test_density_of_outliers_alone(tmp_path):
    found = spectral_density(np.diag([3.0, 2.0, 0.0]), deflate=2, seed=0)
    ax = plot.spectral_density(found)
    assert [line.get_label() for line in ax.lines] == ["2 outliers"]
    ax.figure.savefig(tmp_path / "p.png")


def test_density_refuses():
    with pytest.raises(TypeError, match="density: expected a SpectralDensity, got ndarray"):
        plot.spectral_density(EIGENVALUES)
    with pytest.raises(ValueError, match="zero matrix"):
        plot.spectral_density(spectral_density(np.zeros((3, 3)), seed=0))
    with pytest.raises(ValueError, match="symbol"):
        plot.spectral_density(density(), symbol="G")


# --- spectra given one input ------------------------------------------------------------------------------


def layers(p=0.9):
    half = theory.DiscreteLaw.projection(p)
    return theory.layered_law([1.0, 1.0, 1.0], 1 / p, [half, half])


def drawn(law, networks=2, count=400):
    values = law.quantile((np.arange(count) + 0.5) / count)
    return np.stack([values] * networks)


def by_label(artists):
    return {artist.get_label(): artist for artist in artists}


def test_bars_and_stems_hold_every_eigenvalue_once():
    law = layers()
    ax = plot.conditional_spectrum(drawn(law), law, unit=0.5)
    right = next(other for other in ax.figure.axes if other is not ax)
    heights, edges, _ = by_label(ax.patches)["eigenvalues, measured"].get_data()
    stems = by_label(right.lines)
    measured, predicted = stems["atoms, measured"], stems["atoms, theory"]
    assert (heights * np.diff(edges)).sum() + measured.get_ydata().sum() / 2 == pytest.approx(1)
    np.testing.assert_allclose(predicted.get_xdata(), law.atoms.positions / 0.5)
    np.testing.assert_allclose(predicted.get_ydata(), law.atoms.masses)
    np.testing.assert_allclose(np.unique(measured.get_xdata()), law.atoms.positions / 0.5)
    np.testing.assert_allclose(measured.get_ydata(), [*law.atoms.masses] * 2, atol=1 / 400)
    assert "0.5" in ax.get_xlabel()


def test_the_curve_is_the_density_of_what_is_left():
    law = theory.layered_law([1.0, 0.5], 1.0, [theory.DiscreteLaw([0.5, 1.0, 1.5])], init="gaussian")
    ax = plot.conditional_spectrum(drawn(law), law, unit=2.0, bins=20)
    x, y = by_label(ax.lines)["law, theory"].get_data()
    assert integral(x, y) == pytest.approx(1 - law.atoms.total, abs=1e-2)
    assert len(ax.figure.axes) == 1  # no atoms, no second axis
    assert ax.get_xscale() == "linear"


def test_wide_spectra_have_a_logarithmic_axis():
    law = theory.FreeLaw.point_mass(1.0).times_wishart().times_wishart() + 0.01
    ax = plot.conditional_spectrum(drawn(law), law)
    assert ax.get_xscale() == "log"
    assert "decade" in ax.get_ylabel()
    heights, edges, _ = by_label(ax.patches)["eigenvalues, measured"].get_data()
    assert (heights * np.diff(np.log10(edges))).sum() == pytest.approx(1)
    x, y = by_label(ax.lines)["law, theory"].get_data()
    assert integral(np.log10(x), y) == pytest.approx(1, abs=0.05)


def test_bands_narrower_than_bars_are_drawn_as_masses():
    law = layers(0.99)
    ax = plot.conditional_spectrum(drawn(law), law, bins=5)
    heights, edges, _ = by_label(ax.patches)["law, theory"].get_data()
    assert (heights * np.diff(edges)).sum() == pytest.approx(1 - law.atoms.total, abs=1e-9)


def test_laws_of_atoms_alone(tmp_path):
    law = theory.FreeLaw.point_mass(2.0)
    path = plot.save_conditional_spectrum(tmp_path / "p.png", np.full((2, 9), 2.0), law, title="a title")
    assert path.stat().st_size > 1000
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eigenvalues": np.zeros(3)}, ValueError, "eigenvalues: .*positive"),
        ({"eigenvalues": np.array([1.0, np.nan])}, ValueError, "finite"),
        ({"law": 3.0}, TypeError, "law: expected a FreeLaw, got float"),
        ({"unit": 0.0}, ValueError, "unit: expected a number > 0"),
        ({"bins": 0}, ValueError, "bins"),
    ],
)
def test_conditional_spectrum_refuses(change, error, message):
    with pytest.raises(error, match=message):
        plot.conditional_spectrum(**{"eigenvalues": np.ones(3), "law": layers(), **change})


# --- layers -------------------------------------------------------------------------------------------------


def test_layers_are_bars_and_a_dashed_line():
    ax = plot.layers([1.0, 30.0, 0.5], theory=[1.1, 29.0, 0.4], quantity="maximum", title="a title")
    np.testing.assert_allclose(heights(ax), [1.0, 30.0, 0.5])
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 1.1], [2, 29.0], [3, 0.4]])
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 0.4
    assert "lambda" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["theory", "measured"]
    assert ax.get_title(loc="left") == "a title"


def test_layers_that_are_alike_or_zero():
    assert plot.layers([1.0, 3.0]).get_yscale() == "linear"
    alone = plot.layers([0.0, 0.0], quantity="trace")
    assert alone.get_yscale() == "linear"
    assert alone.get_legend() is None
    assert plot.layers([0.0, 1.0, 100.0]).get_ylim()[0] > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"measured": [1.0, -2.0]}, ValueError, "measured: expected numbers >= 0, got -2"),
        ({"measured": [1.0, np.nan]}, ValueError, "measured"),
        ({"theory": [1.0, 2.0]}, ValueError, "theory"),
        ({"quantity": "rank"}, ValueError, "quantity: expected one of 'mean', 'trace', 'maximum', got 'rank'"),
    ],
)
def test_layers_refuse(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.layers(**{"measured": [1.0, 2.0, 3.0], **arguments})


# --- one look -----------------------------------------------------------------------------------------------


def luminance(color):
    """Relative luminance of sRGB (IEC 61966-2-1), as a printer without colours sees it: lightness L* of CIE 1976."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    Y = np.dot([0.2126, 0.7152, 0.0722], linear)
    return 116 * np.cbrt(Y) - 16 if Y > 0.008856 else 903.3 * Y


def test_colours_differ_in_grey():
    runs = [luminance(run["color"]) for run in style.RUNS]
    assert min(abs(a - b) for a, b in combinations(runs, 2)) > 6
    assert max(runs) < 80  # seen on paper
    ink, theory_, shade = map(luminance, (style.INK, style.THEORY, style.SHADE))
    assert ink < 15
    assert theory_ - ink > 20
    assert shade - theory_ > 20


def test_runs_differ_without_colours():
    assert len({str(run["linestyle"]) for run in style.RUNS}) == len(style.RUNS)
    assert len({run["marker"] for run in style.RUNS}) == len(style.RUNS)


def pictures():
    """Axes of pictures that have theory beside measurement, whose labels say which is which."""
    law = layers()
    yield plot.spectrum(EIGENVALUES, theory=statistics(), measured=[statistics()], predicted=EIGENVALUES[0])
    yield plot.spectral_density(density([50.0]), theory=statistics())
    conditional = plot.conditional_spectrum(drawn(law), law)
    yield from conditional.figure.axes
    yield plot.layers([1.0, 2.0], theory=[1.0, 2.0])


def test_theory_is_dashed_and_measurement_is_not():
    seen = {"theory": 0, "measured": 0}
    for ax in pictures():
        for artist in [*ax.lines, *ax.patches]:
            label = artist.get_label()
            if "theory" in label:
                seen["theory"] += 1
                assert to_rgb(artist.get_edgecolor() if artist in ax.patches else artist.get_color()) == to_rgb(
                    style.THEORY
                )
                assert artist.get_linestyle() in ("--", "None") or isinstance(artist.get_linestyle(), tuple)
                assert artist.get_zorder() > 2
            elif "measured" in label:
                seen["measured"] += 1
                assert artist.get_linestyle() in ("-", "None", "solid")
    assert seen["theory"] >= 6
    assert seen["measured"] >= 4


def test_settings_of_matplotlib_neither_change_nor_matter():
    before = dict(mpl.rcParams)
    first = plot.svg(lambda ax: plot.spectrum(EIGENVALUES, theory=statistics(), ax=ax))
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "yellow", "legend.frameon": True, "svg.hashsalt": "x"}):
        second = plot.svg(lambda ax: plot.spectrum(EIGENVALUES, theory=statistics(), ax=ax))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")


def test_the_ending_chooses_the_format(tmp_path):
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for ending, start in starts.items():
        path = plot.save_layers(tmp_path / f"p.{ending}", [1.0, 2.0], theory=[1.0, 2.0])
        assert path.read_bytes().startswith(start)
    again = plot.save_layers(tmp_path / "q.svg", [1.0, 2.0], theory=[1.0, 2.0])
    assert again.read_bytes() == (tmp_path / "p.svg").read_bytes()


def test_examples():
    """Of functions in the style, which hide their examples from the finder of doctest."""
    runner, finder = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), doctest.DocTestFinder()
    count = 0
    for name in plot.__all__:
        function = inspect.unwrap(getattr(plot, name))
        for test in finder.find(function, name, globs=dict(vars(importlib.import_module(function.__module__)))):
            count += bool(test.examples)
            runner.run(test)
    assert count >= 8
    assert runner.summarize(verbose=False).failed == 0
