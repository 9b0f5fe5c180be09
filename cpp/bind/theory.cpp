// Mean-field theory: quadrature rules, Gaussian moments, and the depth recursion.
#include <complex>
#include <fisherfield/order_parameters.hpp>
#include <fisherfield/quadrature.hpp>
#include <fisherfield/subordination.hpp>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind.hpp"

namespace {

using namespace fisherfield;

// A nonlinearity written in Python: an object whose evaluate(u, 1) returns phi(u) and phi'(u).
class PythonNonlinearity final : public Nonlinearity {
 public:
  explicit PythonNonlinearity(py::object activation)
      : activation_(std::move(activation)), kinks_(activation_.attr("kinks").cast<std::vector<double>>()) {}

  void evaluate(Index n, const double* u, double* value, double* first) const override {
    py::gil_scoped_acquire gil;
    const auto out =
        activation_.attr("evaluate")(Array<double>(n, u), 1).cast<std::pair<Array<double>, Array<double>>>();
    require(out.first.size() == n && out.second.size() == n, "evaluate(u, 1)");
    std::copy_n(out.first.data(), n, value);
    std::copy_n(out.second.data(), n, first);
  }
  std::vector<double> kinks() const override { return kinks_; }

 private:
  py::object activation_;
  std::vector<double> kinks_;
};

std::unique_ptr<Nonlinearity> make_nonlinearity(const py::object& activation) {
  const py::object native = activation.attr("native");
  if (native.is_none()) return std::make_unique<PythonNonlinearity>(activation);
  return std::make_unique<BuiltIn>(native.cast<Activation>());
}

// The recursion together with the nonlinearities it refers to.
struct Recursion {
  Recursion(const py::list& activations, const std::vector<double>& weight_vars, const std::vector<double>& bias_vars,
            const std::vector<bool>& skips, const std::vector<double>& qhat0, double tol)
      : tolerance(tol) {
    require(weight_vars.size() == bias_vars.size() && weight_vars.size() == skips.size() &&
                activations.size() + 1 == weight_vars.size() && !skips[0] && !qhat0.empty(),
            "one activation per hidden layer, one pair of variances per layer, no skip over the first layer");
    Ensemble ensemble{{}, weight_vars, bias_vars, skips};
    for (const auto& activation : activations) {
      nonlinearities.push_back(make_nonlinearity(py::reinterpret_borrow<py::object>(activation)));
      ensemble.nonlinearities.push_back(nonlinearities.back().get());
    }
    py::gil_scoped_release nogil;
    depth = std::make_unique<DepthRecursion>(std::move(ensemble), qhat0, tol);
  }

  std::vector<std::unique_ptr<Nonlinearity>> nonlinearities;
  std::unique_ptr<DepthRecursion> depth;
  double tolerance;
};

Array<double> to_array(const Table& table) {
  return Array<double>(std::vector<Index>{table.rows, table.columns}, table.entries.data());
}

py::tuple to_tuple(const Accuracy& accuracy) { return py::make_tuple(accuracy.error, accuracy.points); }

// (q, qhat, qtilde): a row per layer.
py::tuple to_tuple(const OrderParameters& order, const Ensemble& ensemble) {
  return py::make_tuple(to_array(order.q), to_array(order.qhat), to_array(order.qtilde(ensemble)));
}

py::tuple to_tuple(const Quadrature& rule) {
  return py::make_tuple(Array<double>(Index(rule.nodes.size()), rule.nodes.data()),
                        Array<double>(Index(rule.weights.size()), rule.weights.data()));
}

py::tuple one_moments(const py::object& activation, double q, double tol) {
  const auto phi = make_nonlinearity(activation);
  Moments m;
  {
    py::gil_scoped_release nogil;
    m = moments(*phi, q, tol);
  }
  return py::make_tuple(m.mean, m.mean_first, m.square, m.square_first, m.mixed, m.weighted, m.accuracy.error,
                        m.accuracy.points);
}

// Covariance [[a, b], [b, c]]; direct: by the double integral whatever the nonlinearity.
py::tuple one_pair(const py::object& activation, double a, double b, double c, double tol, bool direct) {
  const auto phi = make_nonlinearity(activation);
  PairMoments pair;
  {
    py::gil_scoped_release nogil;
    if (direct) {
      pair = pair_quadrature(*phi, a, correlation(b, std::sqrt(a) * std::sqrt(c)), c, tol);
    } else {
      const auto kernel = make_pair_kernel(*phi, {a, c}, tol);
      pair.accuracy = kernel->accuracy();
      pair.accuracy.include(kernel->row(0, 1, 2, &b, &pair.value, &pair.first));
    }
  }
  return py::make_tuple(pair.value, pair.first, pair.accuracy.error, pair.accuracy.points);
}

// All pairs of inputs of one common mean square and one common overlap.
py::tuple equicorrelated(const Recursion& self, double overlap) {
  const Ensemble& ensemble = self.depth->ensemble();
  OrderParameters pairs(ensemble.depth(), 1);
  pairs.qhat.row(0)[0] = overlap;
  Accuracy accuracy;
  {
    py::gil_scoped_release nogil;
    accuracy = self.depth->pairs(0, 0, pairs);
  }
  return to_tuple(pairs, ensemble) + to_tuple(accuracy);
}

// A tile of the predicted dual into out (samples x samples) and its mirror image; returns the tile's sums over pairs.
py::tuple tile(const Recursion& self, const Array<double>& x, Array<double> out, Index row, Index rows, Index column,
               Index columns, std::vector<double> width, std::vector<double> bias) {
  const Index depth = self.depth->ensemble().depth(), samples = self.depth->single().q.columns;
  require(x.ndim() == 2 && x.shape(0) == samples && out.ndim() == 2 && out.shape(0) == samples &&
              out.shape(1) == samples && row + rows <= samples && column + columns <= samples &&
              Index(width.size()) == depth && Index(bias.size()) == depth,
          "dual tile");
  const Inputs inputs{x.data(), x.shape(0), x.shape(1)};
  const LayerWeights weights{std::move(width), std::move(bias)};
  double* dual = out.mutable_data();
  Tile result;
  {
    py::gil_scoped_release nogil;
    result = dual_tile(*self.depth, inputs, row, rows, column, columns, weights);
    for (Index s = row; s < row + rows; ++s)
      for (Index t = column; t < std::min(column + columns, s + 1); ++t)
        dual[s * samples + t] = dual[t * samples + s] = result.dual.row(s - row)[t - column];
  }
  return py::make_tuple(to_array(result.sums)) + to_tuple(result.accuracy);
}

// How a hidden layer's pairs go by Mehler's series: E phi, E phi^2 and E phi'^2 of every sample, the coefficients of
// even and of odd order, and the tails (rows are padded); None where there is a closed form.
py::object series(const Recursion& self, Index layer) {
  require(0 <= layer && layer + 1 < self.depth->ensemble().depth(), "layer of a series");
  const auto* kernel = dynamic_cast<const MehlerKernel*>(&self.depth->kernel(layer));
  if (!kernel) return py::none();
  Array<double> mean(kernel->size(), kernel->means().data()), square(kernel->size()), square_first(kernel->size());
  kernel->diagonal(square.mutable_data(), square_first.mutable_data());
  return py::make_tuple(mean, square, square_first, to_array(kernel->coefficients(0)),
                        to_array(kernel->coefficients(1)), to_array(kernel->tails()));
}

// Moments of a hidden layer over the pairs (s, t), given one by one with their covariances, in [begin, end).
py::tuple layer_pairs(const Recursion& self, Index layer, const Array<Index>& s, const Array<Index>& t,
                      const Array<double>& cov, Array<double> value, Array<double> first, Index begin, Index end) {
  const Index count = s.size(), samples = self.depth->single().q.columns;
  require(0 <= layer && layer + 1 < self.depth->ensemble().depth() && t.size() == count && cov.size() == count &&
              value.size() == count && first.size() == count && 0 <= begin && end <= count,
          "pairs of a layer");
  const Index *left = s.data(), *right = t.data();
  for (Index i = begin; i < end; ++i)
    require(0 <= left[i] && left[i] < samples && 0 <= right[i] && right[i] < samples, "samples of a pair");
  const double* covariance = cov.data();
  double *values = value.mutable_data(), *firsts = first.mutable_data();
  Accuracy accuracy;
  {
    py::gil_scoped_release nogil;
    const PairKernel& kernel = self.depth->kernel(layer);
    for (Index i = begin; i < end; ++i)
      accuracy.include(kernel.row(left[i], right[i], right[i] + 1, covariance + i, values + i, firsts + i));
  }
  return to_tuple(accuracy);
}

Array<double> mean_squares(const Array<double>& x) {
  require(x.ndim() == 2, "X");
  const std::vector<double> out = Inputs{x.data(), x.shape(0), x.shape(1)}.mean_squares();
  return Array<double>(Index(out.size()), out.data());
}

py::tuple fisher_rao_norms(const Recursion& self) {
  const Table& qhat = self.depth->single().qhat;
  std::vector<double> norms(qhat.columns);
  Accuracy accuracy;
  {
    py::gil_scoped_release nogil;
    for (Index s = 0; s < qhat.columns; ++s)
      norms[s] = fisher_rao(self.depth->ensemble(), qhat.row(0)[s], self.tolerance, accuracy);
  }
  return py::make_tuple(Array<double>(Index(norms.size()), norms.data())) + to_tuple(accuracy);
}

// (name, value, atoms, weights): what is done to a law; atoms and weights are those of a free factor.
using NamedOperation = std::tuple<std::string, double, std::vector<double>, std::vector<double>>;

Operation to_operation(const NamedOperation& named) {
  const auto& [name, value, x, w] = named;
  require(x.size() == w.size() && (name == "product") == !x.empty(), "operation on a law");
  for (const auto& [label, step] : {std::pair{"shift", Step::shift},
                                    {"scale", Step::scale},
                                    {"product", Step::product},
                                    {"wishart", Step::wishart},
                                    {"resize", Step::resize}})
    if (name == label) return {step, value, DiscreteLaw(x, w)};
  throw std::invalid_argument("unknown operation on a law: " + name);
}

std::unique_ptr<Subordination> make_subordination(double point, const std::vector<NamedOperation>& named) {
  std::vector<Operation> operations;
  for (const NamedOperation& operation : named) operations.push_back(to_operation(operation));
  return std::make_unique<Subordination>(point, std::move(operations));
}

// Solve at z[begin:end]: transforms, log potentials, and a row (height, residual, evaluations, converged) per point.
void solve(const Subordination& self, const Array<std::complex<double>>& z, Array<std::complex<double>> stieltjes,
           Array<std::complex<double>> log_potential, Array<double> report, Index begin, Index end) {
  const Index n = z.size();
  require(0 <= begin && end <= n && stieltjes.size() == n && log_potential.size() == n && report.size() == 4 * n,
          "points of a transform");
  const std::complex<double>* points = z.data();
  std::complex<double>*g = stieltjes.mutable_data(), *potential = log_potential.mutable_data();
  double* row = report.mutable_data();
  py::gil_scoped_release nogil;
  for (Index i = begin; i < end; ++i) {
    const Solution s = self.solve(points[i].real(), points[i].imag());
    g[i] = {s.stieltjes.re, s.stieltjes.im};
    potential[i] = {s.log_potential.re, s.log_potential.im};
    const double values[] = {s.height, s.residual, double(s.evaluations), double(s.converged)};
    std::copy_n(values, 4, row + 4 * i);
  }
}

}  // namespace

void bind_theory(py::module_& m) {
  m.def("gauss_hermite", [](Index n) { return to_tuple(gauss_hermite(n)); }, py::arg("n"));
  m.def("gauss_legendre", [](Index n) { return to_tuple(gauss_legendre(n)); }, py::arg("n"));
  m.def("moments", &one_moments, py::arg("activation"), py::arg("q"), py::arg("tol"));
  m.def("pair_moments", &one_pair, py::arg("activation"), py::arg("a"), py::arg("b"), py::arg("c"), py::arg("tol"),
        py::arg("direct") = false);
  m.def("mean_squares", &mean_squares, py::arg("x").noconvert());
  py::class_<Recursion>(m, "DepthRecursion")
      .def(py::init<const py::list&, const std::vector<double>&, const std::vector<double>&, const std::vector<bool>&,
                    const std::vector<double>&, double>(),
           py::arg("activations"), py::arg("weight_vars"), py::arg("bias_vars"), py::arg("skips"), py::arg("qhat0"),
           py::arg("tol"))
      .def_property_readonly("single",
                             [](const Recursion& r) { return to_tuple(r.depth->single(), r.depth->ensemble()); })
      .def_property_readonly("accuracy", [](const Recursion& r) { return to_tuple(r.depth->accuracy()); })
      .def("equicorrelated", &equicorrelated, py::arg("overlap"))
      .def("dual_tile", &tile, py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("row"), py::arg("rows"),
           py::arg("column"), py::arg("columns"), py::arg("width"), py::arg("bias"))
      .def("series", &series, py::arg("layer"))
      .def("layer_pairs", &layer_pairs, py::arg("layer"), py::arg("s").noconvert(), py::arg("t").noconvert(),
           py::arg("cov").noconvert(), py::arg("value").noconvert(), py::arg("first").noconvert(), py::arg("begin"),
           py::arg("end"))
      .def("fisher_rao_norms", &fisher_rao_norms);
  py::class_<Subordination>(m, "Subordination")
      .def(py::init(&make_subordination), py::arg("point"), py::arg("operations"))
      .def_property_readonly("bound", &Subordination::bound)
      .def("solve", &solve, py::arg("z").noconvert(), py::arg("stieltjes").noconvert(),
           py::arg("log_potential").noconvert(), py::arg("report").noconvert(), py::arg("begin"), py::arg("end"));
}
