// The dual Fisher information matrix (Gram matrix of the Jacobian), tile by tile:
//
//   out[(r, s), (q, t)] = scale * sum_l (B_l[r, s] . B_l[q, t]) (A_l[s] . A_l[t] + bias),   row r * samples + s.
//
// A tile is a pair of sample ranges with all pairs of seeds: the Gram matrices of the inputs A_l are formed once per
// tile and shared by the seeds. The layer loop is inside, so that out is written once.
#pragma once

#include <fisherfield/factors.hpp>

namespace fisherfield {

struct Range {
  Index begin, end;
  Index size() const { return end - begin; }
};

template <class T>
class GramTile {
  using M = Micro<T>;
  using Packet = typename M::Packet;

 public:
  GramTile(const Factors<T>& factors, T scale, T* out) : f_(factors), scale_(scale), out_(out) {}

  // Writes rows x columns and the mirror image; rows and columns are the same range or rows lies before columns.
  void operator()(Range rows, Range columns) {
    const bool diagonal = rows.begin == columns.begin;
    const Index step = std::max<Index>(M::rows, row_budget() / f_.seeds / M::rows * M::rows);
    for (Index j = columns.begin; j < columns.end; j += M::columns) {
      const Range J{j, std::min(j + M::columns, columns.end)};
      for (Index i = rows.begin; i < rows.end; i += step) {
        const Range I{i, std::min(i + step, rows.end)};
        if (diagonal && f_.seeds == 1 && J.end <= I.begin) continue;
        block(I, J, diagonal);
      }
    }
  }

 private:
  // Rows over all seeds of a block, whose accumulators then fit the L2 cache.
  static constexpr Index row_budget() { return 512; }

  void block(Range I, Range J, bool diagonal) {
    const Index m = (I.size() + M::rows - 1) / M::rows * M::rows, ld = padded<T>(J.size()), size = m * ld;
    const Index num_layers = static_cast<Index>(f_.layers.size());
    AlignedBuffer<T> inputs(num_layers * size), sums(f_.seeds * size), packed(M::columns * M::depth);
    for (Index l = 0; l < num_layers; ++l)
      input_gram(f_.layers[l], I, J, diagonal && f_.seeds == 1, packed.data(), inputs.data() + l * size);
    for (Index q = 0; q < f_.seeds; ++q) {
      const Index r_end = diagonal ? q + 1 : f_.seeds;
      std::fill(sums.data(), sums.data() + r_end * size, T(0));
      for (Index l = 0; l < num_layers; ++l)
        add_layer(f_.layers[l], I, J, q, r_end, diagonal, packed.data(), inputs.data() + l * size, size, sums.data());
      for (Index r = 0; r < r_end; ++r) write(I, J, r, q, diagonal && r == q, sums.data() + r * size, ld);
    }
  }

  // A_I A_J^T (+ 1 for the bias)
  void input_gram(const LayerFactors<T>& layer, Range I, Range J, bool upper, T* packed, T* K) {
    const Index m = (I.size() + M::rows - 1) / M::rows * M::rows;
    std::fill(K, K + m * padded<T>(J.size()), T(layer.bias));
    const PackTransposed<T> pack{layer.A, layer.inputs};
    for (Index k0 = 0; k0 < layer.inputs; k0 += M::depth) {
      const Index k = std::min(M::depth, layer.inputs - k0);
      pack_columns<T>(pack, k0, k, J.begin, J.size(), packed);
      accumulate_tile<T>(I.size(), J.size(), k, layer.A + I.begin * layer.inputs + k0, layer.inputs, packed, upper,
                         J.begin - I.begin, [K](const Packet& part, Index at) {
                           using namespace Eigen::internal;
                           pstore(K + at, padd(pload<Packet>(K + at), part));
                         });
    }
  }

  // sums[r] += (B_{r,I} B_{q,J}^T) o K for every r < r_end
  void add_layer(const LayerFactors<T>& layer, Range I, Range J, Index q, Index r_end, bool diagonal, T* packed,
                 const T* K, Index size, T* sums) {
    const PackTransposed<T> pack{layer.B + q * f_.samples * layer.outputs, layer.outputs};
    for (Index k0 = 0; k0 < layer.outputs; k0 += M::depth) {
      const Index k = std::min(M::depth, layer.outputs - k0);
      pack_columns<T>(pack, k0, k, J.begin, J.size(), packed);
      for (Index r = 0; r < r_end; ++r) {
        T* sum = sums + r * size;
        const T* rows = layer.B + (r * f_.samples + I.begin) * layer.outputs + k0;
        accumulate_tile<T>(I.size(), J.size(), k, rows, layer.outputs, packed, diagonal && r == q, J.begin - I.begin,
                           [K, sum](const Packet& part, Index at) {
                             using namespace Eigen::internal;
                             pstore(sum + at, pmadd(part, pload<Packet>(K + at), pload<Packet>(sum + at)));
                           });
      }
    }
  }

  void write(Range I, Range J, Index r, Index q, bool upper, const T* sum, Index ld) {
    const Index n = f_.seeds * f_.samples;
    for (Index i = I.begin; i < I.end; ++i) {
      const Index j_begin = upper ? std::max(i, J.begin) : J.begin;
      const T* from = sum + (i - I.begin) * ld - J.begin;
      T* to = out_ + (r * f_.samples + i) * n + q * f_.samples;
      for (Index j = j_begin; j < J.end; ++j) to[j] = scale_ * from[j];
    }
    for (Index j = J.begin; j < J.end; ++j) {
      const Index i_end = upper ? std::min(j + 1, I.end) : I.end;
      const T* from = sum - I.begin * ld + (j - J.begin);
      T* to = out_ + (q * f_.samples + j) * n + r * f_.samples;
      for (Index i = I.begin; i < i_end; ++i) to[i] = scale_ * from[i * ld];
    }
  }

  const Factors<T>& f_;
  const T scale_;
  T* const out_;
};

}  // namespace fisherfield
