// Matrix products whose bits do not depend on how the work is cut.
//
// Every element of a product is one chain of fused multiply-adds over k in ascending order, started from zero or a
// given value. Blocking over k continues the chain from the stored partial sum, and edges run through the same code on
// zero-padded panels, so tile sizes and threads cannot change a bit. BLAS gives no such promise; this, and the fusion
// with the Hadamard products of the Gram tile, is why the product is here. SIMD comes from Eigen's packets, which
// cover every instruction set that Eigen knows.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

// A lambda of a hot loop, inlined whatever the compiler's size limits.
#if defined(__GNUC__) || defined(__clang__)
#define FISHERFIELD_INLINE_LAMBDA __attribute__((always_inline))
#else
#define FISHERFIELD_INLINE_LAMBDA
#endif

namespace fisherfield {

using Index = std::ptrdiff_t;

template <class T>
struct Micro {
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  static constexpr Index width = Eigen::internal::unpacket_traits<Packet>::size;
  static constexpr bool many_registers = width * sizeof(T) >= 64 || EIGEN_ARCH_ARM64;
  static constexpr int rows = many_registers ? 8 : 4;  // accumulators rows x vectors fill the register file
  static constexpr int vectors = 3;
  static constexpr Index panel = vectors * width;
  static constexpr Index depth = 2048 / sizeof(T);  // k-block: a packed panel stays in the L1 cache
  static constexpr Index columns = 4 * panel;       // column block: its packed panels stay in the L2 cache
};

// Number of packets that cover the next columns of a row of panels.
template <class T>
inline int panel_vectors(Index remaining) {
  return static_cast<int>(std::min<Index>(Micro<T>::vectors, (remaining + Micro<T>::width - 1) / Micro<T>::width));
}

// Columns after padding to whole packets.
template <class T>
inline Index padded(Index n) {
  return (n + Micro<T>::width - 1) / Micro<T>::width * Micro<T>::width;
}

template <class T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(Index size)
      : data_(static_cast<T*>(Eigen::internal::aligned_malloc(sizeof(T) * std::max<Index>(size, 1)))) {}
  ~AlignedBuffer() { Eigen::internal::aligned_free(data_); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// out (columns x rows) = transpose of in (rows x columns), both row-major with the given leading dimensions.
template <class T>
void transpose(Index rows, Index columns, const T* in, Index ld_in, T* out, Index ld_out) {
  using Packet = typename Micro<T>::Packet;
  constexpr Index width = Micro<T>::width;
  Index r = 0;
  for (; r + width <= rows; r += width) {
    Index c = 0;
    for (; c + width <= columns; c += width) {
      Eigen::internal::PacketBlock<Packet, width> block;
      for (Index i = 0; i < width; ++i) block.packet[i] = Eigen::internal::ploadu<Packet>(in + (r + i) * ld_in + c);
      Eigen::internal::ptranspose(block);
      for (Index i = 0; i < width; ++i) Eigen::internal::pstoreu(out + (c + i) * ld_out + r, block.packet[i]);
    }
    for (; c < columns; ++c)
      for (Index i = r; i < r + width; ++i) out[c * ld_out + i] = in[i * ld_in + c];
  }
  for (; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) out[c * ld_out + r] = in[r * ld_in + c];
}

// Packs columns [j, j + n) of b^T, rows [k0, k0 + k), as a panel: b row-major with leading dimension ldb.
template <class T>
struct PackTransposed {
  const T* b;
  Index ldb;
  void operator()(Index k0, Index k, Index j, Index n, Index panel, T* out) const {
    transpose(n, k, b + j * ldb + k0, ldb, out, panel);
    for (Index p = 0; n < panel && p < k; ++p) std::fill(out + p * panel + n, out + (p + 1) * panel, T(0));
  }
};

// Packs columns [j, j + n) of b, rows [k0, k0 + k), as a panel.
template <class T>
struct PackStraight {
  const T* b;
  Index ldb;
  void operator()(Index k0, Index k, Index j, Index n, Index panel, T* out) const {
    for (Index p = 0; p < k; ++p) {
      const T* source = b + (k0 + p) * ldb + j;
      std::copy(source, source + n, out + p * panel);
      std::fill(out + p * panel + n, out + (p + 1) * panel, T(0));
    }
  }
};

// body(0), ..., body(N - 1) with constant arguments: only fully unrolled loops keep accumulators in registers.
template <class Body, std::size_t... I>
EIGEN_ALWAYS_INLINE void unrolled(const Body& body, std::index_sequence<I...>) {
  (body(std::integral_constant<int, static_cast<int>(I)>()), ...);
}

template <int N, class Body>
EIGEN_ALWAYS_INLINE void unrolled(const Body& body) {
  unrolled(body, std::make_index_sequence<N>());
}

// The accumulators of a micro-tile: rows x vectors packets, in registers.
template <class T, int Vectors>
struct Accumulator {
  using Packet = typename Micro<T>::Packet;
  Packet packet[Micro<T>::rows][Vectors];

  // body(packet, row, column of the micro-tile)
  template <class Body>
  EIGEN_ALWAYS_INLINE void for_each(const Body& body) {
    unrolled<Micro<T>::rows>([&](auto i) FISHERFIELD_INLINE_LAMBDA {
      unrolled<Vectors>([&](auto v)
                            FISHERFIELD_INLINE_LAMBDA { body(packet[i][v], Index(i), Index(v) * Micro<T>::width); });
    });
  }

  EIGEN_ALWAYS_INLINE void set_zero() {
    for_each([](Packet& p, Index, Index) FISHERFIELD_INLINE_LAMBDA { p = Eigen::internal::pset1<Packet>(T(0)); });
  }

  // += a[0..rows) (each contiguous in k) times a packed panel.
  EIGEN_ALWAYS_INLINE void add_product(Index k, const T* const* a, const T* panel) {
    for (Index p = 0; p < k; ++p, panel += Vectors * Micro<T>::width) {
      Packet b[Vectors];
      unrolled<Vectors>([&](auto v) FISHERFIELD_INLINE_LAMBDA {
        b[v] = Eigen::internal::pload<Packet>(panel + v * Micro<T>::width);
      });
      unrolled<Micro<T>::rows>([&](auto i) FISHERFIELD_INLINE_LAMBDA {
        const Packet ai = Eigen::internal::pset1<Packet>(a[i][p]);
        unrolled<Vectors>(
            [&](auto v) FISHERFIELD_INLINE_LAMBDA { packet[i][v] = Eigen::internal::pmadd(ai, b[v], packet[i][v]); });
      });
    }
  }
};

// Row pointers of a micro-tile; rows past the edge repeat the last one, and what they yield is not stored.
template <class T>
struct RowPointers {
  const T* row[Micro<T>::rows];

  RowPointers(const T* a, Index lda, Index rows) {
    for (Index i = 0; i < Micro<T>::rows; ++i) row[i] = a + std::min<Index>(i, rows - 1) * lda;
  }
};

// Calls body(integral_constant<int, V>) for the number V of packets that cover the next columns.
template <class T, class Body>
EIGEN_ALWAYS_INLINE void with_vectors(Index columns, const Body& body) {
  switch (panel_vectors<T>(columns)) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    default:
      return body(std::integral_constant<int, 3>());
  }
}

// Packs columns [j0, j0 + n) of k-block [k0, k0 + k); panel j starts at packed + (j - j0) * k.
template <class T, class Pack>
void pack_columns(const Pack& pack, Index k0, Index k, Index j0, Index n, T* packed) {
  using M = Micro<T>;
  for (Index j = 0; j < n; j += M::panel)
    pack(k0, k, j0 + j, std::min(M::panel, n - j), panel_vectors<T>(n - j) * M::width, packed + j * k);
}

// c (m x n, row-major) = start + a b, where pack delivers the panels of b. start is null (zero) or a row of n values
// added to every row; onto: c += a b instead, the chain going on from what c holds. When the rows [i, i + rows) x
// columns [j, j + columns) are complete, finish(i, rows, j, columns) is called while they are in the cache.
template <class T, class Pack, class Finish>
void product(Index m, Index n, Index k, const T* a, Index lda, const Pack& pack, const T* start, T* c, Index ldc,
             const Finish& finish, bool onto = false) {
  using M = Micro<T>;
  using Packet = typename M::Packet;
  for (Index i = 0; k == 0 && !onto && i < m; ++i)
    for (Index j = 0; j < n; ++j) c[i * ldc + j] = start ? start[j] : T(0);
  if (k == 0) return finish(0, m, 0, n);
  AlignedBuffer<T> packed(M::columns * std::min(k, M::depth));
  alignas(64) T tile[M::rows * M::panel];
  for (Index j0 = 0; j0 < n; j0 += M::columns) {
    const Index nj = std::min(M::columns, n - j0);
    for (Index k0 = 0; k0 < k; k0 += M::depth) {
      const Index kk = std::min(M::depth, k - k0);
      pack_columns<T>(pack, k0, kk, j0, nj, packed.data());
      for (Index i = 0; i < m; i += M::rows) {
        const Index rows = std::min<Index>(M::rows, m - i);
        const RowPointers<T> ai(a + i * lda + k0, lda, rows);
        for (Index j = 0; j < nj; j += M::panel)
          with_vectors<T>(nj - j, [&](auto vectors) {
            constexpr int V = decltype(vectors)::value;
            constexpr Index ld = V * M::width;
            const Index columns = std::min(ld, nj - j);
            T* corner = c + i * ldc + j0 + j;
            const bool whole = columns == ld && rows == M::rows;
            const bool resumes = onto || k0 > 0;
            for (Index r = 0; resumes && !whole && r < rows; ++r)  // the chain continues from the partial sums
              std::copy(corner + r * ldc, corner + r * ldc + columns, tile + r * ld);
            const T* from = whole ? corner : tile;
            const Index ld_from = whole ? ldc : ld;
            Accumulator<T, V> acc;
            if (resumes) {
              acc.for_each([=](Packet& p, Index r, Index column) FISHERFIELD_INLINE_LAMBDA {
                p = Eigen::internal::ploadu<Packet>(from + r * ld_from + column);
              });
            } else {
              alignas(64) T row[ld] = {};
              if (start) std::copy(start + j0 + j, start + j0 + j + columns, row);
              acc.for_each([&](Packet& p, Index, Index column)
                               FISHERFIELD_INLINE_LAMBDA { p = Eigen::internal::pload<Packet>(row + column); });
            }
            acc.add_product(kk, ai.row, packed.data() + j * kk);
            T* to = whole ? corner : tile;
            acc.for_each([=](Packet& p, Index r, Index column)
                             FISHERFIELD_INLINE_LAMBDA { Eigen::internal::pstoreu(to + r * ld_from + column, p); });
            for (Index r = 0; !whole && r < rows; ++r)
              std::copy(tile + r * ld, tile + r * ld + columns, corner + r * ldc);
          });
        if (k0 + kk == k) finish(i, rows, j0, nj);
      }
    }
  }
}

// step(a + c, b + c) for successive packets of two arrays, the remainder in padded ones whose second is written back: a
// compiler may fuse the multiply-add of a loop's vector body and not that of its remainder, and bits would depend on
// the cut.
template <class T, class B, class Step>
void for_packets(Index n, const T* a, B* b, const Step& step) {
  constexpr Index width = Micro<T>::width;
  const Index whole = n / width * width, rest = n - whole;
  for (Index c = 0; c < whole; c += width) step(a + c, b + c);
  if (rest == 0) return;
  T p[width] = {}, q[width] = {};
  std::copy_n(a + whole, rest, p);
  std::copy_n(b + whole, rest, q);
  step(p, q);
  if constexpr (!std::is_const_v<B>) std::copy_n(q, rest, b + whole);
}

struct NoFinish {
  void operator()(Index, Index, Index, Index) const {}
};

}  // namespace fisherfield
