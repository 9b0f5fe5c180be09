import base64
import html
import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import fisherfield as ff
from fisherfield import _memory, cli, plot, report
from fisherfield.report import Report, html_report, markup

VOID = {"meta", "img", "br", "hr", "link", "input"}
CLASSIFIER = ff.MLP((12, 30, 30, 4), "relu", weight_var=2.0, bias_var=0.1)
X = np.random.default_rng(0).standard_normal((25, 12))


class Page(html.parser.HTMLParser):
    """What is in a page, read by the standard library; every tag must be closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.data = [], [], "", {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script":
            self.data[attributes["id"]] = json.loads(data)
        elif tag != "style":
            self.text += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self):
        """The SVG pictures, parsed."""
        head = "data:image/svg+xml;base64,"
        sources = [attributes["src"] for attributes in self.attributes("img")]
        assert all(source.startswith(head) for source in sources)
        return [ElementTree.fromstring(base64.b64decode(source.removeprefix(head))) for source in sources]


def checked(found):
    """The page of a report: whole, loading nothing, with the numbers in it."""
    page = Page(found.html)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    loading = {"src", "href", "srcset", "data", "poster", "background", "action"}
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in loading]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?:", found.html)
    assert [attributes["type"] for attributes in page.attributes("script")] == ["application/json"]
    assert not {"iframe", "object", "embed", "link", "base"} & {tag for tag, _ in page.tags}
    assert all(attributes["alt"].strip() for attributes in page.attributes("img"))
    for picture in page.pictures():
        links = [value for part in picture.iter() for name, value in part.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)
    assert page.data["numbers"] == found.numbers
    assert ("html", {"lang": "en"}) in page.tags
    return page


@pytest.fixture
def sketched(monkeypatch):
    """Pictures that are drawn, but not written out, which takes most of the time of a small report."""

    def svg(draw, size=None):
        draw(Figure().subplots())
        return b'<svg xmlns="http://www.w3.org/2000/svg"/>'

    monkeypatch.setattr(plot, "svg", svg)


def test_the_parser_refuses_what_is_not_closed():
    for text in ("<p>", "<p></div>", "<b><i></b></i>"):
        with pytest.raises(AssertionError):
            Page(text)


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    arch = ff.MLP((12, 25, 30, 3), "tanh", weight_var=3.0, bias_var=0.64)
    fim = ff.Fisher(arch.sample(seed=3), X)
    return fim, html_report(fim, title="Three outputs", notes={"seed": 3, "data": "Gaussian"})


def test_page(regression):
    _, found = regression
    page = checked(found)
    assert len(page.pictures()) == 3
    assert "Three outputs" in page.text
    assert "tanh, widths 12-25-30-3" in page.text
    assert "maximum" in page.text
    assert "λ_max" in page.text
    for entry in ("Gaussian", "float64, cpu", "SHA-256", ff.show_config(as_dict=True)["versions"]["numpy"]):
        assert entry in page.text
    assert repr(found) == f"Report('Three outputs', {len(found.html) / 1000:.0f} kB)"
    assert found.title == "Three outputs"


def test_measured_numbers_are_those_of_the_matrix(regression):
    fim, found = regression
    numbers, statistics = found.numbers, fim.statistics()
    assert numbers["measured"] == report.plain(statistics)
    np.testing.assert_array_equal(numbers["spectrum"]["eigenvalues"], fim.eigenvalues())
    np.testing.assert_array_equal(numbers["spectrum"]["outliers"], fim.eigenvalues()[:3])
    dense = fim.dense()
    eigenvalues = np.linalg.eigvalsh(dense)[::-1][: fim.rank_bound]
    assert numbers["spectrum"]["condition"] == pytest.approx(eigenvalues[0] / eigenvalues[-1], rel=1e-6)
    assert numbers["spectrum"]["rank"] == fim.rank_bound
    assert numbers["spectrum"]["outlier_share"] == pytest.approx(eigenvalues[:3].sum() / np.trace(dense))
    assert numbers["spectrum"]["effective_rank"] == pytest.approx(np.trace(dense) ** 2 / (dense**2).sum())
    begin = 0
    for l, layer in enumerate(numbers["layers"], 1):
        size = layer["num_parameters"]
        block = dense[begin : begin + size, begin : begin + size]
        begin += size
        assert layer["layer"] == l
        assert layer["trace"] == pytest.approx(np.trace(block), rel=1e-12)
        assert layer["mean"] == pytest.approx(np.trace(block) / size, rel=1e-12)
        assert layer["maximum"] == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=1e-10)
        assert layer["share"] == pytest.approx(np.trace(block) / np.trace(dense))
    assert begin == len(dense)


def test_theory_is_that_of_the_ensemble_and_the_samples(regression):
    fim, found = regression
    mf, numbers = ff.mean_field(fim.net.architecture, X), found.numbers
    assert numbers["theory"] == report.plain(mf.statistics)
    assert numbers["refined"] == report.plain(mf.refined_statistics)
    np.testing.assert_allclose(numbers["spectrum"]["predicted_outliers"], mf.outliers(refined=True), rtol=1e-12)
    for layer in numbers["layers"]:
        predicted = mf.layer(layer["layer"]).refined_statistics
        assert layer["theory_mean"] == pytest.approx(predicted.mean)
        assert layer["theory_maximum"] == pytest.approx(predicted.maximum)
    plain, accelerated = numbers["learning_rates"]
    assert (plain["momentum"], accelerated["momentum"]) == (0, 0.9)
    assert plain["measured"] == 2 / fim.statistics().maximum
    assert accelerated["measured"] == pytest.approx(3.8 / fim.statistics().maximum)
    assert accelerated["theory"] == pytest.approx(mf.critical_learning_rate(0.9))
    assert plain["corrected"] == pytest.approx(ff.critical_learning_rate(fim.net, X).corrected)
    rows = {row["quantity"]: row for row in numbers["comparison"]}
    assert rows["top mean"]["mean"] == fim.statistics().top_mean
    assert rows["maximum"]["relative_error"] == pytest.approx(mf.statistics.maximum / fim.statistics().maximum - 1)


def test_sentences_say_the_numbers(regression):
    fim, found = regression
    outliers, condition, rate, theory = found.numbers["meaning"]
    spectrum = found.numbers["spectrum"]
    assert outliers.startswith(f"The 3 largest eigenvalues hold {100 * spectrum['outlier_share']:.3g} % of the trace")
    assert f"condition number {spectrum['condition']:.3g}" in condition
    assert condition.startswith("75 eigenvalues are not zero")
    assert f"learning rate of {2 / fim.statistics().maximum:.3g} (" in rate
    assert "|y - f(x)|^2 / 2" in rate
    error = found.numbers["refined"]["mean"] / found.numbers["measured"]["mean"] - 1
    assert f"{100 * error:+.1f} % for the mean" in theory


def test_numbers_are_in_the_tables(regression):
    fim, found = regression
    for value in (fim.statistics().mean, fim.statistics().maximum, found.numbers["refined"]["second_moment"]):
        assert f'<td class="number">{value:.4g}</td>' in found.html


def test_what_made_it_can_be_run(regression):
    fim, found = regression
    assert found.numbers["code"].splitlines()[-1] == 'ff.html_report(fim, path="report.html")'
    names = {"X": X, "seed": 3}
    exec("\n".join(found.numbers["code"].splitlines()[:-1]), names)
    assert names["fim"].statistics() == fim.statistics()


def test_the_same_matrix_makes_the_same_pictures(regression):
    fim, found = regression
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.facecolor": "yellow"}):
        again = html_report(fim, title="Three outputs", notes={"seed": 3, "data": "Gaussian"})
    pictures = [re.findall(r"base64,([^\"]*)", page.html) for page in (found, again)]
    assert len(pictures[0]) == 3
    assert pictures[0] == pictures[1]
    assert {**found.numbers, "seconds": 0, "made": 0} == {**again.numbers, "seconds": 0, "made": 0} | {
        "costs": found.numbers["costs"]
    }


# --- other matrices -----------------------------------------------------------------------------------------


def test_classification():
    net = CLASSIFIER.sample(seed=0)
    fim = ff.Fisher(net, X, likelihood="categorical")
    found = html_report(fim, momentum=0)
    page = checked(found)
    assert len(found.numbers["spectrum"]["outliers"]) == 3  # C - 1
    mf = ff.mean_field(CLASSIFIER, X, likelihood="categorical", outputs=net(X))
    for name, statistics in (("theory", mf.statistics), ("refined", mf.refined_statistics)):
        for field, value in report.plain(statistics).items():
            assert found.numbers[name][field] == pytest.approx(value, rel=1e-10)
    assert len(found.numbers["learning_rates"]) == 1
    assert "momentum" not in page.text
    assert "-log p(y | x)" in page.text
    assert "likelihood='categorical'" in found.numbers["code"]


def test_own_weights_have_no_theory_unless_it_is_given(sketched):
    net = CLASSIFIER.sample(seed=0)
    own = ff.Network(net.weights, net.biases, activation="relu")
    fim = ff.Fisher(own, X)
    alone = html_report(fim)
    page = checked(alone)
    assert alone.numbers["theory"] is None
    assert alone.numbers["network"]["ensemble"] is None
    assert {rate["theory"] for rate in alone.numbers["learning_rates"]} == {None}
    assert "refined" not in page.text
    assert "pass mean_field" in page.text
    assert "nan" not in page.text
    names = {"X": X, "weights": net.weights, "biases": net.biases}
    exec("\n".join(alone.numbers["code"].splitlines()[:-1]), names)
    assert names["fim"].statistics() == fim.statistics()
    mf = ff.mean_field(CLASSIFIER, ff.InputStatistics.from_data(X))
    assert html_report(fim, mf).numbers["theory"] == report.plain(mf.statistics)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "monte_carlo", "samples": 2, "seed": 0}, "unbiased estimate"),
        ({"kind": "empirical", "targets": np.arange(25) % 4}, "no bound for training"),
    ],
)
def test_estimates_and_the_empirical_matrix_say_what_they_are(sketched, options, said):
    fim = ff.Fisher(CLASSIFIER.sample(seed=0, dtype="float32"), X.astype("f4"), likelihood="categorical", **options)
    found = html_report(fim)
    assert said in checked(found).text
    assert found.numbers["matrix"]["kind"] == options["kind"]
    assert "unstable" not in "".join(found.numbers["meaning"])
    mf = ff.mean_field(
        CLASSIFIER, X.astype("f4"), likelihood="categorical", kind=options["kind"], output_seeds=fim.output_seeds()
    )
    assert found.numbers["refined"]["mean"] == pytest.approx(mf.refined_statistics.mean, rel=1e-12)
    assert html_report(fim, mf).numbers["refined"] == found.numbers["refined"]


def test_a_zero_matrix_has_nothing_to_draw():
    found = html_report(ff.Fisher(ff.Network([np.zeros((5, 12)), np.zeros((2, 5))], activation="relu"), X))
    page = checked(found)
    assert page.pictures() == []
    assert found.numbers["meaning"][0].startswith("F is zero")
    assert found.numbers["learning_rates"][0]["measured"] is None


def test_a_single_layer_with_all_directions(sketched):
    found = html_report(ff.Fisher(ff.Network([np.ones((2, 12))]), X))
    assert found.numbers["network"]["kind"] == "linear"
    assert "All 24 eigenvalues are above zero" in checked(found).text


# --- matrices that do not fit -------------------------------------------------------------------------------


def test_large_matrices_are_known_by_products(monkeypatch):
    arch = ff.MLP((10, 60, 60, 1), "tanh", weight_var=3.0, bias_var=0.64)
    many = np.random.default_rng(1).standard_normal((2100, 10))
    net = arch.sample(seed=0)
    exact = ff.Fisher(net, many).statistics()
    fim = ff.Fisher(net, many)
    with monkeypatch.context() as patch:
        patch.setattr(_memory, "available_bytes", lambda: 30_000_000)
        with pytest.raises(MemoryError):
            fim.dual()
        found = html_report(fim, seed=1)
        assert "_dual" not in fim.__dict__
    page = checked(found)
    numbers = found.numbers
    assert "products with F" in numbers["spectrum"]["method"]
    assert numbers["spectrum"]["eigenvalues"] is None
    assert numbers["measured"]["mean"] == pytest.approx(exact.mean, rel=1e-10)
    assert numbers["measured"]["maximum"] == pytest.approx(exact.maximum, rel=1e-6)
    error = numbers["measured_errors"]["second_moment"]
    assert abs(numbers["measured"]["second_moment"] - exact.second_moment) < 4 * error < 0.3 * exact.second_moment
    for layer in numbers["layers"]:
        top = ff.Fisher(net, many).layer(layer["layer"]).top_eigenpairs(1, 1e-8).values[0]
        assert layer["maximum"] == pytest.approx(top, rel=1e-3)
    density = numbers["spectrum"]["density"]
    assert len(density["eigenvalue"]) == len(density["per_decade"]) == len(density["standard_error"]) == 512
    mf = ff.mean_field(arch, ff.InputStatistics.from_data(many))  # too many for all pairs
    assert numbers["theory"] == report.plain(mf.statistics)
    assert "mean overlap" in page.text
    assert "± error" in page.text
    assert "above a hundredth of the largest" in page.text


def test_a_budget_of_memory_is_kept(sketched):
    fim = ff.Fisher(CLASSIFIER.sample(seed=0), np.tile(X, (24, 1)), memory="10 MB")
    assert fim.estimate("eigenvalues").bytes > 10**7
    found = html_report(fim)
    assert found.numbers["spectrum"]["eigenvalues"] is None
    assert found.numbers["measured"]["num_outliers"] == len(found.numbers["spectrum"]["outliers"]) == 4


def test_on_a_gpu(sketched, cuda):
    net = CLASSIFIER.sample(seed=0)
    there = ff.Fisher(net.to("cuda"), cuda.asarray(X), likelihood="categorical")
    found, here = html_report(there), html_report(ff.Fisher(net, X, likelihood="categorical"))
    checked(found)
    assert found.numbers["network"]["device"] == "cuda:0"
    for name in ("measured", "theory", "refined"):
        for field, value in here.numbers[name].items():
            assert found.numbers[name][field] == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(
        found.numbers["spectrum"]["eigenvalues"], here.numbers["spectrum"]["eigenvalues"], atol=1e-9
    )
    assert found.numbers["network"]["sha256"] == here.numbers["network"]["sha256"]
    assert found.numbers["data"]["sha256"] == here.numbers["data"]["sha256"]


# --- what comes from the user -------------------------------------------------------------------------------

WICKED = "</script><script>alert('1')</script><img src=x onerror=\"x\"> & <!-- ]]>"


def test_everything_is_escaped(sketched):
    def activation(x):
        return np.tanh(x)

    activation.__name__ = WICKED
    net = ff.Network([np.ones((5, 12)), np.ones((2, 5))], activation=activation)
    found = html_report(ff.Fisher(net, X), title=WICKED, notes={WICKED: WICKED, "number": 3})
    page = checked(found)
    assert page.text.count(WICKED) >= 4
    assert found.numbers["title"] == WICKED
    assert found.numbers["notes"] == {WICKED: WICKED, "number": "3"}
    frame = Page(found._repr_html_())
    assert [tag for tag, _ in frame.tags] == ["iframe"]
    assert frame.attributes("iframe")[0]["srcdoc"] == found.html
    assert frame.attributes("iframe")[0]["sandbox"] == ""


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_comes_through(text):
    parts = [markup.table([text], [[text]]), markup.definitions({text: text}), markup.items([text]), markup.code(text)]
    parts += [markup.picture(b"<svg/>", text, text), markup.data_block("numbers", {text: text})]
    page = Page(markup.document(text, [markup.section("one", text, *parts)]))
    assert page.text.replace("\n", "") == text.replace("\n", "") * 9
    assert page.data == {"numbers": {text: text}}
    assert page.attributes("img")[0]["alt"] == text


def test_save(sketched, regression, tmp_path):
    _, found = regression
    path = found.save(tmp_path / "page.HTML")
    assert path.read_text(encoding="utf-8") == found.html
    seen = []
    written = html_report(
        ff.Fisher(CLASSIFIER.sample(seed=0), X[:5]), path=tmp_path / "two.htm", progress=lambda *at: seen.append(at)
    )
    assert (tmp_path / "two.htm").read_text(encoding="utf-8") == written.html
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert isinstance(written, Report)


def fisher(**options):
    return ff.Fisher(CLASSIFIER.sample(seed=0), X, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fim": CLASSIFIER}, TypeError, "fim: expected a fisherfield.Fisher, got MLP"),
        (
            {"fim": fisher().layer(2)},
            ValueError,
            "fim: expected the whole matrix, P = 1444, got a layer's block, P = 930",
        ),
        ({"title": 3}, TypeError, "title: expected text or None, got 3"),
        ({"notes": "seed 3"}, TypeError, "notes: expected a mapping"),
        ({"momentum": 1.0}, ValueError, "momentum: expected 0 <= momentum < 1"),
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0"),
        ({"path": "page.pdf"}, ValueError, r"path: expected a file ending in .html or .htm, got 'page.pdf'"),
        ({"path": 3}, TypeError, "path: expected a path, got 3"),
        ({"path": "no/such/folder/page.html"}, FileNotFoundError, "path: no such folder: no/such/folder"),
        ({"mean_field": 3}, TypeError, "mean_field: expected the result of fisherfield.mean_field, got int"),
        (
            {"mean_field": ff.mean_field(CLASSIFIER, 26)},
            ValueError,
            "mean_field: expected the theory of the same matrix, with T = 25, got 26; or leave it out",
        ),
        (
            {"mean_field": ff.mean_field(ff.MLP((12, 31, 30, 4)), 25)},
            ValueError,
            r"with widths = \(12, 30, 30, 4\), got \(12, 31, 30, 4\)",
        ),
        (
            {"fim": fisher(likelihood="categorical"), "mean_field": ff.mean_field(CLASSIFIER, 25)},
            ValueError,
            r"with likelihood = Categorical\(\), got Gaussian\(noise_var=1.0\)",
        ),
        (
            {"fim": fisher(kind="monte_carlo", seed=0), "mean_field": ff.mean_field(CLASSIFIER, 25)},
            ValueError,
            "with kind = 'monte_carlo', got 'exact'",
        ),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        html_report(**{"fim": fisher(), **arguments})


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'fisherfield\[plot\]'"):
        html_report(fisher())


# --- command ------------------------------------------------------------------------------------------------

SMALL = ("--widths", "12,20,20,3", "--samples", "15", "--seed", "4")


def run(capsys, *arguments):
    code = cli.main(["report", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/some/folder/fisherfield", "report", *SMALL])
    code, out, err = run(capsys, *SMALL)
    assert (code, err) == (0, "")
    assert out.endswith("page: fisherfield-report.html\n")
    arch = ff.MLP((12, 20, 20, 3), "tanh", weight_var=3.0, bias_var=0.64)
    fim = ff.Fisher(arch.sample(seed=4), np.random.default_rng(4).standard_normal((15, 12)))
    assert f"{fim.statistics().maximum:.4g}" in out
    page = Page((tmp_path / "fisherfield-report.html").read_text(encoding="utf-8"))
    numbers = page.data["numbers"]
    assert numbers["measured"] == report.plain(fim.statistics())
    assert numbers["notes"]["seed of the network"] == "4"
    assert numbers["notes"]["command"] == f"fisherfield report {' '.join(SMALL)}"


def test_command_in_json(sketched, capsys, tmp_path):
    path = tmp_path / "page.html"
    options = ("--likelihood", "categorical", "--kind", "empirical", "--dtype", "float32", "--momentum", "0.5")
    code, out, err = run(capsys, *SMALL, *options, "--output", str(path), "--title", "A title", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.data["numbers"] == {name: found[name] for name in page.data["numbers"]}
    assert (found["title"], found["command"], found["page"]) == ("A title", "report", str(path))
    assert found["network"]["dtype"] == "float32"
    assert found["learning_rates"][1]["momentum"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "page.png"), "--output: expected a file ending in .html"),
        (("--seed", "-1"), "--seed: expected an integer >= 0"),
        (("--draws", "3"), "--draws: expected only together with kind='monte_carlo'"),
        (("--momentum", "2"), "--momentum: expected"),
    ],
)
def test_command_refuses(capsys, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *SMALL, *options)
    assert (code, out) == (2, "")
    assert f"fisherfield: error: {message}" in err
    assert list(tmp_path.iterdir()) == []
