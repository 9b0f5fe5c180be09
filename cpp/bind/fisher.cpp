// Bindings of the measuring side: layer steps, Gram tiles, Jacobian, sums over samples, second derivatives.
#include <Eigen/Eigenvalues>
#include <fisherfield/curvature.hpp>
#include <fisherfield/gram.hpp>
#include <fisherfield/jacobian.hpp>
#include <fisherfield/layer.hpp>
#include <optional>
#include <vector>

#include "bind.hpp"

using fisherfield::Index;

namespace {

template <class T>
using Layer = std::tuple<Array<T>, Array<T>, bool>;  // (A, B, bias)

template <class T>
fisherfield::Factors<T> read_factors(const std::vector<Layer<T>>& layers) {
  fisherfield::Factors<T> factors{0, 0, {}};
  for (const auto& [A, B, bias] : layers) {
    require(A.ndim() == 2 && B.ndim() == 3 && B.shape(1) == A.shape(0), "factors");
    if (factors.layers.empty()) factors = {B.shape(0), B.shape(1), {}};
    require(B.shape(0) == factors.seeds && B.shape(1) == factors.samples, "factors of different layers");
    factors.layers.push_back({A.data(), B.data(), A.shape(1), B.shape(2), bias});
  }
  return factors;
}

template <class T>
T* mutable_pointer(std::optional<Array<T>>& array) {
  return array ? array->mutable_data() : nullptr;
}

template <class T>
void layer_forward(const Array<T>& h, const Array<T>& W, const std::optional<Array<T>>& b,
                   const fisherfield::Activation* phi, Array<T>& out, std::optional<Array<T>> slope, Index j0, Index j1,
                   const std::optional<Array<T>>& skip, std::optional<Array<T>> pre, std::optional<Array<T>> bend) {
  require(h.ndim() == 2 && W.ndim() == 2 && h.shape(1) == W.shape(1), "h, W");
  require(out.ndim() == 2 && out.shape(0) == h.shape(0) && out.shape(1) == W.shape(0), "out");
  require(!b || b->size() == W.shape(0), "b");
  require(!slope || slope->size() == out.size(), "slope");
  require(!skip || skip->size() == out.size(), "skip");
  require(!pre || pre->size() == out.size(), "pre");
  require(!bend || (slope && bend->size() == out.size()), "bend");
  require(0 <= j0 && j0 <= j1 && j1 <= W.shape(0), "columns");
  T* const o = out.mutable_data();
  T* const s = mutable_pointer(slope);
  T* const p = mutable_pointer(pre);
  T* const q = mutable_pointer(bend);
  py::gil_scoped_release release;
  fisherfield::layer_forward<T>(h.shape(0), h.shape(1), W.shape(0), h.data(), W.data(), b ? b->data() : nullptr, phi, o,
                                s, skip ? skip->data() : nullptr, p, q, j0, j1);
}

template <class T>
const T* pointer(const std::optional<Array<T>>& array) {
  return array ? array->data() : nullptr;
}

template <class T>
void layer_tangent(const std::optional<Array<T>>& h, const std::optional<Array<T>>& dW,
                   const std::optional<Array<T>>& db, const std::optional<Array<T>>& dh, const Array<T>& W,
                   const std::optional<Array<T>>& slope, Array<T>& out, Index j0, Index j1,
                   const std::optional<Array<T>>& dskip, std::optional<Array<T>> dpre) {
  require(out.ndim() == 2 && W.ndim() == 2 && out.shape(1) == W.shape(0), "out, W");
  const Index samples = out.shape(0), inputs = W.shape(1), outputs = W.shape(0);
  require(!dW || (h && dW->size() == W.size()), "h, dW");
  for (const auto* array : {&h, &dh}) require(!*array || (*array)->size() == samples * inputs, "h, dh");
  require(!db || db->size() == outputs, "db");
  for (const auto* array : {&slope, &dskip}) require(!*array || (*array)->size() == out.size(), "slope, dskip");
  require(!dpre || dpre->size() == out.size(), "dpre");
  require(0 <= j0 && j0 <= j1 && j1 <= outputs, "columns");
  T* const o = out.mutable_data();
  T* const p = mutable_pointer(dpre);
  py::gil_scoped_release release;
  fisherfield::layer_tangent<T>(samples, inputs, outputs, pointer(h), pointer(dW), pointer(db), pointer(dh), W.data(),
                                pointer(slope), o, pointer(dskip), p, j0, j1);
}

template <class T>
void layer_backward(const Array<T>& next, const Array<T>& W, const Array<T>& slope, Array<T>& out, Index j0, Index j1,
                    bool skip, const std::optional<Array<T>>& bend, std::optional<Array<T>> bend_out) {
  require(next.ndim() == 3 && W.ndim() == 2 && next.shape(2) == W.shape(0), "next, W");
  require(slope.ndim() == 2 && slope.shape(0) == next.shape(1) && slope.shape(1) == W.shape(1), "slope");
  require(
      out.ndim() == 3 && out.shape(0) == next.shape(0) && out.shape(1) == next.shape(1) && out.shape(2) == W.shape(1),
      "out");
  require(!skip || W.shape(0) == W.shape(1), "W of a skip");
  require(!bend == !bend_out && (!bend || bend->size() == slope.size()), "bend");
  const Index bent = bend_out ? bend_out->shape(0) : 0;
  require(!bend_out || (bent <= next.shape(0) && bend_out->size() == bent * slope.size()), "bend_out");
  require(0 <= j0 && j0 <= j1 && j1 <= W.shape(1), "columns");
  T* const o = out.mutable_data();
  T* const q = mutable_pointer(bend_out);
  py::gil_scoped_release release;
  fisherfield::layer_backward<T>(next.shape(0), next.shape(1), W.shape(0), W.shape(1), next.data(), W.data(),
                                 slope.data(), skip, o, bent, pointer(bend), q, j0, j1);
}

template <class T>
void gram_tile(const std::vector<Layer<T>>& layers, T scale, Array<T>& out, std::pair<Index, Index> rows,
               std::pair<Index, Index> columns) {
  const auto factors = read_factors<T>(layers);
  require(out.ndim() == 2 && out.shape(0) == factors.seeds * factors.samples && out.shape(1) == out.shape(0), "out");
  const fisherfield::Range I{rows.first, rows.second}, J{columns.first, columns.second};
  require(0 <= I.begin && I.begin <= I.end && J.begin <= J.end && J.end <= factors.samples, "tile");
  require((I.begin == J.begin && I.end == J.end) || I.end <= J.begin, "tile above the diagonal");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::GramTile<T>(factors, scale, o)(I, J);
}

template <class T>
void kernel_tile(const std::vector<Layer<T>>& rows, const std::vector<Layer<T>>& columns, T scale, Array<T>& out,
                 std::pair<Index, Index> row_range, std::pair<Index, Index> column_range) {
  const auto f = read_factors<T>(rows), g = read_factors<T>(columns);
  require(f.layers.size() == g.layers.size(), "layers of rows and columns");
  for (std::size_t l = 0; l < f.layers.size(); ++l)
    require(f.layers[l].inputs == g.layers[l].inputs && f.layers[l].outputs == g.layers[l].outputs &&
                f.layers[l].bias == g.layers[l].bias,
            "widths of rows and columns");
  require(out.ndim() == 2 && out.shape(0) == f.seeds * f.samples && out.shape(1) == g.seeds * g.samples, "out");
  const fisherfield::Range I{row_range.first, row_range.second}, J{column_range.first, column_range.second};
  require(0 <= I.begin && I.begin <= I.end && I.end <= f.samples, "rows of the tile");
  require(0 <= J.begin && J.begin <= J.end && J.end <= g.samples, "columns of the tile");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::GramTile<T>(f, g, scale, o)(I, J);
}

template <class T>
void layer_jacobian(const Array<T>& A, const Array<T>& B, bool bias, Array<T>& out, Index offset) {
  const auto factors = read_factors<T>({{A, B, bias}});
  const Index size = B.shape(2) * (A.shape(1) + bias);
  require(out.ndim() == 3 && out.shape(0) == B.shape(1) && out.shape(1) == B.shape(0), "out");
  require(0 <= offset && offset + size <= out.shape(2), "offset");
  T* const o = out.mutable_data() + offset;
  py::gil_scoped_release release;
  fisherfield::layer_jacobian<T>(factors, factors.layers[0], o, out.shape(2));
}

template <class T>
fisherfield::Block read_block(std::pair<Index, Index> rows, std::pair<Index, Index> columns, const Array<T>& A,
                              const Array<T>& B) {
  require(0 <= rows.first && rows.first <= rows.second && rows.second <= B.shape(2), "rows");
  require(0 <= columns.first && columns.first <= columns.second && columns.second <= A.shape(1), "columns");
  return {rows.first, rows.second, columns.first, columns.second};
}

template <class T>
void layer_gradient(const Array<T>& A, const Array<T>& B, bool bias, Index seed, T scale, Array<T>& out,
                    std::pair<Index, Index> rows, std::pair<Index, Index> columns) {
  const auto factors = read_factors<T>({{A, B, bias}});
  require(out.size() == B.shape(2) * (A.shape(1) + bias), "out");
  require(0 <= seed && seed < B.shape(0), "seed");
  const auto block = read_block(rows, columns, A, B);
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::layer_gradient<T>(factors, factors.layers[0], seed, scale, o, block);
}

template <class T>
void layer_product(const Array<T>& A, const Array<T>& B, bool bias, const Array<T>& v, Array<T>& out, Index t0,
                   Index t1) {
  const auto factors = read_factors<T>({{A, B, bias}});
  require(v.size() == B.shape(2) * (A.shape(1) + bias), "v");
  require(out.size() == B.shape(0) * B.shape(1), "out");
  require(0 <= t0 && t0 <= t1 && t1 <= B.shape(1), "samples");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::layer_product<T>(factors, factors.layers[0], v.data(), o, t0, t1);
}

template <class T>
void layer_transposed_product(const Array<T>& A, const Array<T>& B, bool bias, const Array<T>& u, Array<T>& out,
                              std::pair<Index, Index> rows, std::pair<Index, Index> columns) {
  const auto factors = read_factors<T>({{A, B, bias}});
  require(out.size() == B.shape(2) * (A.shape(1) + bias), "out");
  require(u.size() == B.shape(0) * B.shape(1), "u");
  const auto block = read_block(rows, columns, A, B);
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::layer_transposed_product<T>(factors, factors.layers[0], u.data(), o, block);
}

template <class T>
void sum_of_squares(const Array<T>& B, Array<T>& out, Index t0, Index t1) {
  require(B.ndim() == 3 && out.size() == B.shape(1) * B.shape(2), "B, out");
  require(0 <= t0 && t0 <= t1 && t1 <= B.shape(1), "samples");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::sum_of_squares<T>(B.shape(0), B.shape(1), B.shape(2), B.data(), o, t0, t1);
}

template <class T>
void layer_power_sum(const Array<T>& A, const Array<T>& weights, bool bias, int power, Array<T>& out,
                     std::pair<Index, Index> rows, std::pair<Index, Index> columns) {
  require(A.ndim() == 2 && weights.ndim() == 2 && weights.shape(0) == A.shape(0), "A, weights");
  const Index outputs = weights.shape(1), inputs = A.shape(1);
  require(out.size() == outputs * (inputs + bias), "out");
  require(power == 2 || power == 4, "power");
  require(0 <= rows.first && rows.first <= rows.second && rows.second <= outputs, "rows");
  require(0 <= columns.first && columns.first <= columns.second && columns.second <= inputs, "columns");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::layer_power_sum<T>({A.data(), nullptr, inputs, outputs, bias}, A.shape(0), weights.data(), power, o,
                                  {rows.first, rows.second, columns.first, columns.second});
}

// Of small matrices: on the calling thread, where LAPACK would wake the BLAS's.
void symmetric_eigenvalues(const Array<double>& A, Array<double>& out) {
  require(A.ndim() == 2 && A.shape(0) == A.shape(1) && out.size() == A.shape(0), "A, out");
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const RowMajor> matrix(A.data(), A.shape(0), A.shape(0));
  Eigen::Map<Eigen::VectorXd> values(out.mutable_data(), out.size());
  py::gil_scoped_release release;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix, Eigen::EigenvaluesOnly);
  if (solver.info() != Eigen::Success) throw std::runtime_error("eigenvalues did not converge");
  values = solver.eigenvalues();
}

template <class T>
using Step = std::tuple<Array<T>, Array<T>, Array<T>, bool>;  // (W, slope, c, skip)

template <class T>
void add_upper_curvature(const std::vector<Step<T>>& steps, Array<T>& out, Index t0, Index t1) {
  require(out.ndim() == 3 && !steps.empty(), "out, steps");
  const Index seeds = out.shape(0), samples = out.shape(1);
  Index below = out.shape(2);
  std::vector<fisherfield::HiddenStep<T>> hidden;
  for (const auto& [W, slope, c, skip] : steps) {
    require(W.ndim() == 2 && W.shape(1) == below, "W");
    require(slope.ndim() == 2 && slope.shape(0) == samples && slope.shape(1) == below, "slope");
    below = W.shape(0);
    require(c.ndim() == 3 && c.shape(0) == seeds && c.shape(1) == samples && c.shape(2) == below, "c");
    require(!skip || W.shape(0) == W.shape(1), "W of a skip");
    hidden.push_back({W.data(), slope.data(), c.data(), below, skip});
  }
  require(0 <= t0 && t0 <= t1 && t1 <= samples, "samples");
  T* const o = out.mutable_data();
  py::gil_scoped_release release;
  fisherfield::add_upper_curvature<T>(seeds, samples, out.shape(2), hidden, o, t0, t1);
}

template <class T>
void register_kernels(py::module_& m) {
  m.def("layer_forward", &layer_forward<T>, py::arg("h").noconvert(), py::arg("W").noconvert(),
        py::arg("b").noconvert(), py::arg("phi"), py::arg("out").noconvert(), py::arg("slope").noconvert(),
        py::arg("begin"), py::arg("end"), py::arg("skip").noconvert() = py::none(),
        py::arg("pre").noconvert() = py::none(), py::arg("bend").noconvert() = py::none(),
        "Columns [begin, end) of pre = u, out = phi(u), slope = phi'(u), bend = phi''(u), u = h W^T + b + skip.");
  m.def("layer_tangent", &layer_tangent<T>, py::arg("h").noconvert(), py::arg("dW").noconvert(),
        py::arg("db").noconvert(), py::arg("dh").noconvert(), py::arg("W").noconvert(), py::arg("slope").noconvert(),
        py::arg("out").noconvert(), py::arg("begin"), py::arg("end"), py::arg("dskip").noconvert() = py::none(),
        py::arg("dpre").noconvert() = py::none(),
        "Columns [begin, end) of dpre = h dW^T + db + dh W^T + dskip and out = slope * dpre; any but W may be None.");
  m.def("layer_backward", &layer_backward<T>, py::arg("next").noconvert(), py::arg("W").noconvert(),
        py::arg("slope").noconvert(), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"),
        py::arg("skip") = false, py::arg("bend").noconvert() = py::none(), py::arg("bend_out").noconvert() = py::none(),
        "Columns [begin, end) of out = (next W) * slope (+ next), for next (R, T, outputs) and slope (T, inputs); of "
        "the last seeds bend_out = (next W) * bend.");
  m.def("gram_tile", &gram_tile<T>, py::arg("layers").noconvert(), py::arg("scale"), py::arg("out").noconvert(),
        py::arg("rows"), py::arg("columns"), "One tile of the dual and its mirror image, for every pair of seeds.");
  m.def("kernel_tile", &kernel_tile<T>, py::arg("row_layers").noconvert(), py::arg("column_layers").noconvert(),
        py::arg("scale"), py::arg("out").noconvert(), py::arg("rows"), py::arg("columns"),
        "One tile of the Gram matrix between two sets of factors, for every pair of seeds.");
  m.def("layer_jacobian", &layer_jacobian<T>, py::arg("A").noconvert(), py::arg("B").noconvert(), py::arg("bias"),
        py::arg("out").noconvert(), py::arg("offset"), "The layer's columns of the explicit Jacobian out (T, R, P).");
  m.def("layer_gradient", &layer_gradient<T>, py::arg("A").noconvert(), py::arg("B").noconvert(), py::arg("bias"),
        py::arg("seed"), py::arg("scale"), py::arg("out").noconvert(), py::arg("rows"), py::arg("columns"),
        "Rows x columns of the layer's part of scale * sum_t of the gradients of one seed; b goes with column 0.");
  m.def("layer_product", &layer_product<T>, py::arg("A").noconvert(), py::arg("B").noconvert(), py::arg("bias"),
        py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("begin"), py::arg("end"),
        "out[r, t] += gradient[r, t] . v over the layer's parameters, samples [begin, end).");
  m.def("layer_transposed_product", &layer_transposed_product<T>, py::arg("A").noconvert(), py::arg("B").noconvert(),
        py::arg("bias"), py::arg("u").noconvert(), py::arg("out").noconvert(), py::arg("rows"), py::arg("columns"),
        "Rows x columns of the layer's part of sum_rt u[r, t] gradient[r, t]; b goes with column 0.");
  m.def("sum_of_squares", &sum_of_squares<T>, py::arg("B").noconvert(), py::arg("out").noconvert(), py::arg("begin"),
        py::arg("end"), "out[t] = sum_r B[r, t]^2, entry by entry, samples [begin, end).");
  m.def("layer_power_sum", &layer_power_sum<T>, py::arg("A").noconvert(), py::arg("weights").noconvert(),
        py::arg("bias"), py::arg("power"), py::arg("out").noconvert(), py::arg("rows"), py::arg("columns"),
        "Rows x columns of out += sum_t weights[t, i] A[t, j]^power, power 2 or 4; b goes with column 0.");
  m.def("add_upper_curvature", &add_upper_curvature<T>, py::arg("steps").noconvert(), py::arg("out").noconvert(),
        py::arg("begin"), py::arg("end"),
        "out[r, t, i] += sum_{m > l + 1} sum_j c^m[r, t, j] (d u^m_j / d u^l_i)^2, samples [begin, end).");
}

}  // namespace

void bind_fisher(py::module_& m) {
  register_kernels<double>(m);
  register_kernels<float>(m);
  m.def("symmetric_eigenvalues", &symmetric_eigenvalues, py::arg("A").noconvert(), py::arg("out").noconvert(),
        "Eigenvalues of a symmetric float64 matrix, ascending, from its lower triangle.");
}
