// The explicit Jacobian, sums of gradients and the exact diagonal, from the factors. Parameters are flattened layer by
// layer, W (row-major) then b.
#pragma once

#include <fisherfield/factors.hpp>

namespace fisherfield {

// out (samples x seeds x parameters of the layer, row stride ld): d(seed r of f(x_t)) / d(W, b).
template <class T>
void layer_jacobian(const Factors<T>& f, const LayerFactors<T>& layer, T* out, Index ld) {
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (Index t = 0; t < f.samples; ++t)
    for (Index r = 0; r < f.seeds; ++r) {
      const Eigen::Map<const Vector> a(layer.A + t * layer.inputs, layer.inputs);
      const Eigen::Map<const Vector> b(layer.B + (r * f.samples + t) * layer.outputs, layer.outputs);
      T* row = out + (t * f.seeds + r) * ld;
      Eigen::Map<RowMajor>(row, layer.outputs, layer.inputs).noalias() = b * a.transpose();
      if (layer.bias) Eigen::Map<Vector>(row + layer.outputs * layer.inputs, layer.outputs) = b;
    }
}

// Rows [i0, i1) of W and b in out = scale * sum_t weights[., t] (x) inputs[t], for weights (i1 - i0 x samples): one
// product. pack hands out the inputs; a bias is an input that is constantly 1.
template <class T, class Pack>
void layer_sum(const LayerFactors<T>& layer, Index samples, const T* weights, const Pack& pack, T scale, T* out,
               Index i0, Index i1) {
  const Index rows = i1 - i0;
  T* W = out + i0 * layer.inputs;
  product<T>(rows, layer.inputs, samples, weights, samples, pack, nullptr, W, layer.inputs, NoFinish{});
  for (Index p = 0; p < rows * layer.inputs; ++p) W[p] *= scale;
  if (!layer.bias) return;
  T* b = out + layer.outputs * layer.inputs + i0;
  for (Index i = 0; i < rows; ++i) {
    T sum(0);
    for (Index t = 0; t < samples; ++t) sum += weights[i * samples + t];
    b[i] = scale * sum;
  }
}

// out (parameters of the layer) = scale * sum_t B[r, t] (x) A[t], rows [i0, i1) of W and b.
template <class T>
void layer_gradient(const Factors<T>& f, const LayerFactors<T>& layer, Index r, T scale, T* out, Index i0, Index i1) {
  AlignedBuffer<T> weights((i1 - i0) * f.samples);  // (rows x samples): B[r, t, i]
  transpose(f.samples, i1 - i0, layer.B + r * f.samples * layer.outputs + i0, layer.outputs, weights.data(), f.samples);
  layer_sum(layer, f.samples, weights.data(), PackStraight<T>{layer.A, layer.inputs}, scale, out, i0, i1);
}

// out (parameters of the layer) = scale * sum_t sum_r (B[r, t] o B[r, t]) (x) (A[t] o A[t]), rows [i0, i1) of W and b:
// one product, never a Jacobian.
template <class T>
void layer_diagonal(const Factors<T>& f, const LayerFactors<T>& layer, T scale, T* out, Index i0, Index i1) {
  const Index rows = i1 - i0, T_ = f.samples;
  AlignedBuffer<T> squares(rows * T_);  // (rows x samples): sum_r B[r, t, i]^2
  std::fill(squares.data(), squares.data() + rows * T_, T(0));
  for (Index r = 0; r < f.seeds; ++r)
    for (Index t = 0; t < T_; ++t) {
      const T* b = layer.B + (r * T_ + t) * layer.outputs + i0;
      for (Index i = 0; i < rows; ++i) squares.data()[i * T_ + t] += b[i] * b[i];
    }
  const auto pack = [&](Index k0, Index k, Index j, Index n, Index panel, T* packed) {
    PackStraight<T>{layer.A, layer.inputs}(k0, k, j, n, panel, packed);
    for (Index p = 0; p < k * panel; ++p) packed[p] *= packed[p];
  };
  layer_sum(layer, T_, squares.data(), pack, scale, out, i0, i1);
}

}  // namespace fisherfield
