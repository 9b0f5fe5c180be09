// The explicit Jacobian, its products, sums of gradients and the exact diagonal, from the factors. Parameters are
// flattened layer by layer, W (row-major) then b.
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

// A block of the layer's weights: rows [i0, i1) of W and b, columns [j0, j1) of W; b goes with the column 0.
struct Block {
  Index i0, i1, j0, j1;
};

// The block in out = scale * sum_t weights[., t] (x) inputs[t], for weights (i1 - i0 x samples): one product. pack
// hands out the inputs from j0 on; a bias is an input that is constantly 1. onto: the chains of the sums go on from
// what out holds; scale is then 1.
template <class T, class Pack>
void layer_sum(const LayerFactors<T>& layer, Index samples, const T* weights, const Pack& pack, T scale, T* out,
               Block block, bool onto = false) {
  const auto [i0, i1, j0, j1] = block;
  T* W = out + i0 * layer.inputs + j0;
  product<T>(i1 - i0, j1 - j0, samples, weights, samples, pack, nullptr, W, layer.inputs, NoFinish{}, onto);
  for (Index i = 0; !onto && i < i1 - i0; ++i)
    for (Index j = 0; j < j1 - j0; ++j) W[i * layer.inputs + j] *= scale;
  if (!layer.bias || j0 > 0) return;
  T* b = out + layer.outputs * layer.inputs + i0;
  for (Index i = 0; i < i1 - i0; ++i) {
    T sum = onto ? b[i] : T(0);
    for (Index t = 0; t < samples; ++t) sum += weights[i * samples + t];
    b[i] = scale * sum;
  }
}

// A block of out (parameters of the layer) = scale * sum_t B[r, t] (x) A[t].
template <class T>
void layer_gradient(const Factors<T>& f, const LayerFactors<T>& layer, Index r, T scale, T* out, Block block) {
  const Index rows = block.i1 - block.i0;
  AlignedBuffer<T> weights(rows * f.samples);  // (rows x samples): B[r, t, i]
  transpose(f.samples, rows, layer.B + r * f.samples * layer.outputs + block.i0, layer.outputs, weights.data(),
            f.samples);
  layer_sum(layer, f.samples, weights.data(), PackStraight<T>{layer.A + block.j0, layer.inputs}, scale, out, block);
}

// y += a x
template <class T>
void add_multiple(Index n, T a, const T* x, T* y) {
  using Packet = typename Micro<T>::Packet;
  using Eigen::internal::ploadu, Eigen::internal::pmadd, Eigen::internal::pset1;
  const Packet factor = pset1<Packet>(a);
  for_packets<T>(n, x, y, [&](const T* p, T* q) {
    Eigen::internal::pstoreu(q, pmadd(factor, ploadu<Packet>(p), ploadu<Packet>(q)));
  });
}

// A block of out (parameters of the layer) = sum_t sum_r u[r, t] B[r, t] (x) A[t], for u (seeds x samples): the seeds
// are summed first, so it costs one product whatever their number.
template <class T>
void layer_transposed_product(const Factors<T>& f, const LayerFactors<T>& layer, const T* u, T* out, Block block) {
  constexpr Index chunk = 64;
  const Index rows = block.i1 - block.i0, T_ = f.samples;
  AlignedBuffer<T> weights(rows * T_), sums(chunk * rows);
  for (Index t0 = 0; t0 < T_; t0 += chunk) {
    const Index n = std::min(chunk, T_ - t0);
    std::fill(sums.data(), sums.data() + n * rows, T(0));
    for (Index r = 0; r < f.seeds; ++r)
      for (Index t = 0; t < n; ++t)
        add_multiple(rows, u[r * T_ + t0 + t], layer.B + (r * T_ + t0 + t) * layer.outputs + block.i0,
                     sums.data() + t * rows);
    transpose(n, rows, sums.data(), rows, weights.data() + t0, T_);
  }
  layer_sum(layer, T_, weights.data(), PackStraight<T>{layer.A + block.j0, layer.inputs}, T(1), out, block);
}

// sum_i a_i b_i, in an order that depends on n alone.
template <class T>
T dot(Index n, const T* a, const T* b) {
  using Packet = typename Micro<T>::Packet;
  using Eigen::internal::ploadu, Eigen::internal::pmadd, Eigen::internal::pset1;
  Packet sum[4] = {pset1<Packet>(T(0)), pset1<Packet>(T(0)), pset1<Packet>(T(0)), pset1<Packet>(T(0))};
  Index part = 0;
  for_packets<T>(n, a, b, [&](const T* p, const T* q) {
    sum[part] = pmadd(ploadu<Packet>(p), ploadu<Packet>(q), sum[part]);
    part = (part + 1) % 4;
  });
  return Eigen::internal::predux(
      Eigen::internal::padd(Eigen::internal::padd(sum[0], sum[1]), Eigen::internal::padd(sum[2], sum[3])));
}

// out (seeds x samples) += B[r, t] . (dW A[t] + db) for the layer's parameters v = (dW, db), samples [t0, t1).
template <class T>
void layer_product(const Factors<T>& f, const LayerFactors<T>& layer, const T* v, T* out, Index t0, Index t1) {
  constexpr Index chunk = 512;
  const Index M = layer.outputs;
  const T* db = layer.bias ? v + M * layer.inputs : nullptr;
  AlignedBuffer<T> moved(std::min(chunk, t1 - t0) * M);
  for (Index s = t0; s < t1; s += chunk) {
    const Index n = std::min(chunk, t1 - s);
    product<T>(n, M, layer.inputs, layer.A + s * layer.inputs, layer.inputs, PackTransposed<T>{v, layer.inputs}, db,
               moved.data(), M, NoFinish{});
    for (Index r = 0; r < f.seeds; ++r)
      for (Index t = 0; t < n; ++t)
        out[r * f.samples + s + t] += dot(M, moved.data() + t * M, layer.B + (r * f.samples + s + t) * M);
  }
}

// out (samples x n) = sum_r B[r] o B[r] for B (seeds x samples x n), samples [t0, t1).
template <class T>
void sum_of_squares(Index seeds, Index samples, Index n, const T* B, T* out, Index t0, Index t1) {
  using Eigen::internal::ploadu, Eigen::internal::pmadd;
  using Packet = typename Micro<T>::Packet;
  const Index size = (t1 - t0) * n;
  std::fill(out + t0 * n, out + t1 * n, T(0));
  for (Index r = 0; r < seeds; ++r)
    for_packets<T>(size, B + (r * samples + t0) * n, out + t0 * n, [](const T* b, T* sum) {
      const Packet value = ploadu<Packet>(b);
      Eigen::internal::pstoreu(sum, pmadd(value, value, ploadu<Packet>(sum)));
    });
}

// A block of out (parameters of the layer) += sum_t weights[t, i] A[t, j]^power, with power 2 or 4 and weights (samples
// x outputs): one product, whose chains go on from what out holds.
template <class T>
void layer_power_sum(const LayerFactors<T>& layer, Index samples, const T* weights, int power, T* out, Block block) {
  const Index rows = block.i1 - block.i0;
  AlignedBuffer<T> transposed(rows * samples);
  transpose(samples, rows, weights + block.i0, layer.outputs, transposed.data(), samples);
  const auto pack = [&](Index k0, Index k, Index j, Index n, Index panel, T* packed) {
    PackStraight<T>{layer.A + block.j0, layer.inputs}(k0, k, j, n, panel, packed);
    for (int exponent = 1; exponent < power; exponent *= 2)
      for (Index p = 0; p < k * panel; ++p) packed[p] *= packed[p];
  };
  layer_sum(layer, samples, transposed.data(), pack, T(1), out, block, true);
}

}  // namespace fisherfield
