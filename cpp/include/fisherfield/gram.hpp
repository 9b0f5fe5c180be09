// The Gram matrix of Jacobians, tile by tile:
//
//   out[(r, s), (q, t)] = scale * sum_l (B_l[r, s] . B_l[q, t]) (A_l[s] . A_l[t] + bias),   row r * samples + s.
//
// Of one set of factors it is the dual Fisher information matrix: symmetric, with only tiles on and above the diagonal
// to compute. Of two sets, rows (r, s) and columns (q, t), it is the tangent kernel between them. A tile is a pair of
// sample ranges with all pairs of seeds: the Gram matrices of the inputs A_l are formed once per tile and shared by the
// seeds. The layer loop is inside, so that out is written once.
#pragma once

#include <fisherfield/factors.hpp>

namespace fisherfield {

struct Range {
  Index begin, end;
  Index size() const { return end - begin; }
};

// Blocking, for each pair of sample blocks (I, J) and chunks of seeds (Q rows, R columns): a k-block of the rows lies
// contiguous in the L2 cache, one packed panel of columns in the L1 cache, and passes by all the rows.
template <class T>
class GramTile {
  using M = Micro<T>;
  using Packet = typename M::Packet;

 public:
  // The symmetric Gram matrix of one set of factors.
  GramTile(const Factors<T>& factors, T scale, T* out)
      : f_(factors), g_(factors), scale_(scale), out_(out), symmetric_(true) {}

  // The Gram matrix between two sets of factors of the same layers.
  GramTile(const Factors<T>& rows, const Factors<T>& columns, T scale, T* out)
      : f_(rows), g_(columns), scale_(scale), out_(out), symmetric_(false) {}

  // Writes rows x columns and, if symmetric, the mirror image; then rows and columns are the same range or rows lies
  // before columns.
  void operator()(Range rows, Range columns) const {
    const bool diagonal = symmetric_ && rows.begin == columns.begin;
    const Index i_step = block_size(row_budget, f_.seeds, M::rows);
    const Index j_step = block_size(column_budget, g_.seeds, M::width);
    for (Range I{rows.begin, 0}; I.begin < rows.end; I.begin = I.end) {
      I.end = block_end(I.begin, i_step, rows.end);
      for (Range J{columns.begin, 0}; J.begin < columns.end; J.begin = J.end) {
        J.end = block_end(J.begin, j_step, columns.end);
        if (!(diagonal && f_.seeds == 1 && J.end <= I.begin)) block(I, J, diagonal);
      }
    }
  }

 private:
  static constexpr Index row_budget = 240;     // rows of a k-block, over seeds: 480 kB of 2048-byte rows
  static constexpr Index column_budget = 960;  // columns over seeds, between which the rows are loaded once

  // Samples of a block, so that all seeds fit the budget (or one seed's samples do).
  static Index block_size(Index budget, Index seeds, Index unit) {
    return std::max<Index>(unit, budget / seeds / unit * unit);
  }

  // A rest of less than half a block joins the block before it.
  static Index block_end(Index begin, Index step, Index end) {
    return end - begin < step + (step + 1) / 2 ? end : begin + step;
  }

  // Seeds of a chunk: as few chunks of even size as the budget allows.
  static Index chunk_size(Index budget, Index seeds, Index block) {
    const Index chunks = std::max<Index>(1, (seeds * block + budget - 1) / budget);
    return (seeds + chunks - 1) / chunks;
  }

  // The vectors of one layer, one per seed and sample, between which a product is taken.
  struct Operand {
    const T* data;
    Index length, samples;
    const T* at(Index seed, Index sample) const { return data + (seed * samples + sample) * length; }
  };
  static Operand inputs_of(const Factors<T>& f, Index l) { return {f.layers[l].A, f.layers[l].inputs, f.samples}; }
  static Operand seeds_of(const Factors<T>& f, Index l) { return {f.layers[l].B, f.layers[l].outputs, f.samples}; }

  static Index padded_rows(Range I) { return (I.size() + M::rows - 1) / M::rows * M::rows; }

  void block(Range I, Range J, bool diagonal) const {
    const Index m = padded_rows(I), ld = padded<T>(J.size()), num_layers = static_cast<Index>(f_.layers.size());
    const Index r_chunk = chunk_size(row_budget, f_.seeds, m);
    const Index q_chunk = chunk_size(column_budget, g_.seeds, J.size());
    AlignedBuffer<T> inputs(num_layers * m * ld), sums(r_chunk * q_chunk * m * ld);
    AlignedBuffer<T> row_block(r_chunk * m * M::depth), panel(M::panel * M::depth);
    const Workspace w{row_block.data(), panel.data()};
    for (Index l = 0; l < num_layers; ++l) {
      T* K = inputs.data() + l * m * ld;
      std::fill(K, K + m * ld, T(f_.layers[l].bias));
      // A_I A_J^T (+ 1 for the bias)
      accumulate(inputs_of(f_, l), inputs_of(g_, l), I, J, {0, 1}, {0, 1}, diagonal && f_.seeds == 1, w,
                 [K](const Packet& part, Index, Index at) {
                   using namespace Eigen::internal;
                   pstore(K + at, padd(pload<Packet>(K + at), part));
                 });
    }
    for (Index r = 0; r < f_.seeds; r += r_chunk)
      for (Index q = 0; q < g_.seeds; q += q_chunk) {
        const Range R{r, std::min(r + r_chunk, f_.seeds)}, Q{q, std::min(q + q_chunk, g_.seeds)};
        if (diagonal && Q.end <= R.begin) continue;
        std::fill(sums.data(), sums.data() + R.size() * Q.size() * m * ld, T(0));
        for (Index l = 0; l < num_layers; ++l) {
          const T* K = inputs.data() + l * m * ld;
          T* const sum = sums.data();
          // sums += (B_{r,I} B_{q,J}^T) o K
          accumulate(seeds_of(f_, l), seeds_of(g_, l), I, J, R, Q, diagonal, w,
                     [=](const Packet& part, Index pair, Index at) {
                       using namespace Eigen::internal;
                       T* to = sum + pair * m * ld + at;
                       pstore(to, pmadd(part, pload<Packet>(K + at), pload<Packet>(to)));
                     });
        }
        for (Index p = R.begin; p < R.end; ++p)
          for (Index s = diagonal ? std::max(p, Q.begin) : Q.begin; s < Q.end; ++s)
            write(I, J, p, s, diagonal && p == s, sums.data() + ((p - R.begin) * Q.size() + s - Q.begin) * m * ld, ld);
      }
  }

  struct Workspace {
    T* rows;
    T* panel;
  };

  // update(k-block of a product, pair of seeds, position in the block) for every micro-tile of rows (R, I) x columns
  // (Q, J). On the diagonal only pairs r <= q are visited, and for r = q only micro-tiles that reach above the
  // diagonal.
  template <class Update>
  void accumulate(Operand x, Operand y, Range I, Range J, Range R, Range Q, bool diagonal, Workspace w,
                  const Update& update) const {
    const Index m = padded_rows(I), ld = padded<T>(J.size());
    const PackTransposed<T> pack{y.data, y.length};
    for (Index k0 = 0; k0 < x.length; k0 += M::depth) {
      const Index k = std::min(M::depth, x.length - k0);
      for (Index r = R.begin; r < R.end; ++r)
        for (Index i = 0; i < m; ++i) {
          const T* from = x.at(r, std::min(I.begin + i, I.end - 1)) + k0;
          std::copy(from, from + k, w.rows + ((r - R.begin) * m + i) * k);
        }
      for (Index q = Q.begin; q < Q.end; ++q)
        for (Index j = 0; j < J.size(); j += M::panel)
          with_vectors<T>(J.size() - j, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            pack(k0, k, q * y.samples + J.begin + j, std::min<Index>(V * M::width, J.size() - j), V * M::width,
                 w.panel);
            for (Index r = R.begin; r < (diagonal ? std::min(q + 1, R.end) : R.end); ++r)
              for (Index i = 0; i < m; i += M::rows) {
                if (diagonal && r == q && J.begin + j + V * M::width <= I.begin + i) break;
                const RowPointers<T> rows(w.rows + ((r - R.begin) * m + i) * k, k, M::rows);
                Accumulator<T, V> acc;
                acc.set_zero();
                acc.add_product(k, rows.row, w.panel);
                const Index pair = (r - R.begin) * Q.size() + q - Q.begin;
                acc.for_each([&](Packet& part, Index row, Index column)
                                 FISHERFIELD_INLINE_LAMBDA { update(part, pair, (i + row) * ld + j + column); });
              }
          });
    }
  }

  // Scales a block of sums and writes it and, if symmetric, its mirror image; on the diagonal, the part on and above
  // it.
  void write(Range I, Range J, Index r, Index q, bool upper, T* sum, Index ld) const {
    const Index n = g_.seeds * g_.samples;
    for (Index i = 0; i < I.size() * ld; ++i) sum[i] *= scale_;
    T* const above = out_ + (r * f_.samples + I.begin) * n + q * g_.samples + J.begin;
    T* const below = symmetric_ ? out_ + (q * g_.samples + J.begin) * n + r * f_.samples + I.begin : nullptr;
    if (!upper || I.end <= J.begin) {
      for (Index i = 0; i < I.size(); ++i) std::copy(sum + i * ld, sum + i * ld + J.size(), above + i * n);
      if (symmetric_) transpose(I.size(), J.size(), sum, ld, below, n);
      return;
    }
    for (Index i = 0; i < I.size(); ++i)
      for (Index j = std::max<Index>(0, I.begin + i - J.begin); j < J.size(); ++j)
        above[i * n + j] = below[j * n + i] = sum[i * ld + j];
  }

  const Factors<T>& f_;  // rows
  const Factors<T>& g_;  // columns
  const T scale_;
  T* const out_;
  const bool symmetric_;
};

}  // namespace fisherfield
