import sys

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from fisherfield import FisherStatistics, plot
from fisherfield.lanczos import spectral_density

EIGENVALUES = np.random.default_rng(0).lognormal(size=(4, 50))


def statistics(scale=1.0, outputs=1):
    return FisherStatistics(0.01 * scale, 1.0, 30.0 * scale, 20.0 * scale, 10_000, 50, outputs, outputs)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def heights(ax):
    return np.array([patch.get_height() for patch in ax.patches if hasattr(patch, "get_height")])


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
    assert np.trapezoid(y[bulk], np.log10(x[bulk])) == pytest.approx(80, rel=0.02)
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
