// The Gram matrix of Jacobians, tile by tile (fisherfield/gram.hpp):
//
//   out[(r, s), (q, t)] = scale * sum_l (B_l[r, s] . B_l[q, t]) (A_l[s] . A_l[t] + bias),   row r * samples + s.
//
// A block computes one tile. Its accumulators stay in registers across the layers, and out is written once. Where there
// are several seeds, the Gram matrices of the inputs A_l are the same for all pairs of them: they are then computed
// once, by a first kernel, and read by a second. The panels of all products pass through shared memory as one stream,
// several asynchronous copies ahead of the arithmetic.
#pragma once

#include "engines.cuh"
#include "rows.cuh"

namespace fisherfield::cuda {

// A layer as the host describes it: addresses of its factors, for the rows and for the columns of the matrix.
struct LayerAddresses {
  Index row_inputs, row_seeds, column_inputs, column_seeds;  // A and B
  Index inputs, outputs, bias;
};

// Samples [begin, begin + count) of one side of the matrix, with all its seeds.
struct Side {
  int seeds, samples, begin, count;
  __host__ __device__ int size() const { return seeds * count; }
};

enum class Part {
  whole,   // inputs and seeds together, for one seed: out is the Gram matrix
  inputs,  // out (layers x rows x columns of samples) are the Gram matrices of the inputs, biases included
  seeds    // out is the Gram matrix, with those of the inputs given
};

template <class T>
struct GramArguments {
  const LayerAddresses* layers;
  int num_layers;
  Side rows, columns;
  bool lower;     // only entries on and below the diagonal are computed
  bool mirrored;  // out is symmetric: entries are written to their mirror images too
  T scale;
  const T* inputs;  // of Part::seeds
  T* out;
  Index stride;  // of the rows of out
};

// The tiles of a grid: bands of rows of tiles, in which neighbouring blocks share panels of columns.
struct TileGrid {
  static constexpr int band = 8;
  int row, column;
  __device__ TileGrid() : row(blockIdx.y * band + blockIdx.x % band), column(blockIdx.x / band) {}
};

template <class Engine, Part part>
class GramTile {
  using T = typename Engine::Scalar;
  using Entries = Accumulator<T, Engine::entries>;
  static constexpr int stages = 3, panel = (Engine::rows + Engine::columns) * Engine::stride;
  static constexpr int vectors = 16 / sizeof(T);  // numbers of a copy

 public:
  static constexpr int shared_bytes =
      stages * panel * int(sizeof(T)) + 2 * (Engine::rows + Engine::columns) * int(sizeof(int));

  __device__ explicit GramTile(const GramArguments<T>& arguments)
      : g_(arguments),
        panels_(reinterpret_cast<T*>(shared_memory())),
        samples_(reinterpret_cast<int*>(panels_ + stages * panel)),
        gradients_(samples_ + Engine::rows + Engine::columns) {}

  __device__ void operator()() {
    if (row0() >= g_.rows.size() || column0() >= g_.columns.size()) return;
    if (g_.lower && row0() + Engine::rows <= column0()) return;
    locate();
    for (int stage = 0; stage < stages - 1; ++stage) load_next(stage);
    Entries sum;
    sum.fill(T(0));
    for (int l = 0; l < g_.num_layers; ++l) {
      const LayerAddresses& layer = g_.layers[l];
      Entries inputs;
      if constexpr (part != Part::seeds) {
        inputs.fill(T(0));
        multiply(inputs, layer.inputs);
#pragma unroll
        for (int e = 0; e < Engine::entries; ++e) inputs.entry[e] += T(layer.bias);
      }
      if constexpr (part == Part::inputs) {
        write(inputs, T(1), g_.out + Index(l) * g_.rows.count * g_.columns.count);
      } else {
        Entries seeds;
        seeds.fill(T(0));
        multiply(seeds, layer.outputs);
        if constexpr (part == Part::seeds) read(inputs, g_.inputs + Index(l) * g_.rows.count * g_.columns.count);
#pragma unroll
        for (int e = 0; e < Engine::entries; ++e) sum.entry[e] += seeds.entry[e] * inputs.entry[e];
      }
    }
    if constexpr (part != Part::inputs) write(sum, g_.scale, g_.out);
  }

 private:
  __device__ static int row0() { return TileGrid().row * Engine::rows; }
  __device__ static int column0() { return TileGrid().column * Engine::columns; }

  // Tables of the tile's rows, then its columns: which sample, and which gradient r * samples + s; -1 beyond the edge.
  __device__ void locate() {
    for (int i = threadIdx.x; i < Engine::rows + Engine::columns; i += Engine::threads) {
      const bool of_rows = i < Engine::rows;
      const Side side = of_rows ? g_.rows : g_.columns;
      const int at = of_rows ? row0() + i : column0() + i - Engine::rows;
      const bool inside = at < side.size();
      const int sample = side.begin + at % side.count;
      samples_[i] = inside ? sample : -1;
      gradients_[i] = inside ? at / side.count * side.samples + sample : -1;
    }
    __syncthreads();
  }

  // Copies the next panels of the stream to a stage: rows and columns of A or B of a layer, `depth` numbers of each.
  __device__ void load_next(int stage) {
    while (next_layer_ < g_.num_layers && next_k_ >= next_length()) {
      next_k_ = 0;
      if (part == Part::whole) next_is_seeds_ = !next_is_seeds_;
      if (part != Part::whole || !next_is_seeds_) ++next_layer_;
    }
    if (next_layer_ < g_.num_layers) {
      const LayerAddresses& layer = g_.layers[next_layer_];
      const T* rows = reinterpret_cast<const T*>(next_is_seeds_ ? layer.row_seeds : layer.row_inputs);
      const T* columns = reinterpret_cast<const T*>(next_is_seeds_ ? layer.column_seeds : layer.column_inputs);
      const Index length = next_length();
      const bool aligned =
          (reinterpret_cast<Index>(rows) | reinterpret_cast<Index>(columns) | length * Index(sizeof(T))) % 16 == 0;
      if (aligned)
        copy<vectors>(rows, columns, length, panels_ + stage * panel);
      else
        copy<1>(rows, columns, length, panels_ + stage * panel);
      next_k_ += Engine::depth;
    }
    commit_copies();
  }

  __device__ Index next_length() const {
    return next_is_seeds_ ? g_.layers[next_layer_].outputs : g_.layers[next_layer_].inputs;
  }

  // Copies pieces of so many numbers; what lies beyond an edge is zero.
  template <int piece>
  __device__ void copy(const T* rows, const T* columns, Index length, T* to) {
    constexpr int pieces = Engine::depth / piece;
    const int* table = next_is_seeds_ ? gradients_ : samples_;
#pragma unroll 2
    for (int c = threadIdx.x; c < (Engine::rows + Engine::columns) * pieces; c += Engine::threads) {
      const int i = c / pieces, offset = c % pieces * piece, index = table[i];
      const T* from = i < Engine::rows ? rows : columns;
      const Index k = next_k_ + offset, left = length - k;
      const int valid = index < 0 || left <= 0 ? 0 : left < piece ? int(left) : piece;
      copy_async<piece* int(sizeof(T))>(to + i * Engine::stride + offset, valid ? from + index * length + k : from,
                                        valid * int(sizeof(T)));
    }
  }

  // acc += the product of the next panels of the stream, `length` numbers deep.
  __device__ void multiply(Entries& acc, Index length) {
    for (Index k = 0; k < length; k += Engine::depth) {
      wait_copies<stages - 2>();
      __syncthreads();  // all see the panels of this stage, and nobody reads those that are overwritten next
      load_next((stage_ + stages - 1) % stages);
      const T* x = panels_ + stage_ * panel;
      Engine::multiply(acc, x, x + Engine::rows * Engine::stride);
      stage_ = (stage_ + 1) % stages;
    }
  }

  // The tile's entries of the Gram matrix of a layer's inputs.
  __device__ void read(Entries& entries, const T* from) const {
#pragma unroll
    for (int e = 0; e < Engine::entries; ++e) {
      const int s = samples_[Engine::row(e)], t = samples_[Engine::rows + Engine::column(e)];
      const bool inside = s >= 0 && t >= 0;
      entries.entry[e] = inside ? from[Index(s - g_.rows.begin) * g_.columns.count + t - g_.columns.begin] : T(0);
    }
  }

  __device__ void write(const Entries& entries, T scale, T* out) const {
    const int* table = part == Part::inputs ? samples_ : gradients_;
    const int row_begin = part == Part::inputs ? g_.rows.begin : 0;
    const int column_begin = part == Part::inputs ? g_.columns.begin : 0;
    const Index stride = part == Part::inputs ? g_.columns.count : g_.stride;
#pragma unroll
    for (int e = 0; e < Engine::entries; ++e) {
      const int row = Engine::row(e), column = Engine::column(e);
      const int i = table[row], j = table[Engine::rows + column];
      if (i < 0 || j < 0 || (g_.lower && row0() + row < column0() + column)) continue;
      const T value = scale * entries.entry[e];
      out[Index(i - row_begin) * stride + j - column_begin] = value;
      if (g_.mirrored) out[Index(j - column_begin) * stride + i - row_begin] = value;
    }
  }

  const GramArguments<T>& g_;
  T* const panels_;
  int* const samples_;
  int* const gradients_;
  int stage_ = 0;
  // where the stream is
  int next_layer_ = 0;
  bool next_is_seeds_ = part == Part::seeds;
  Index next_k_ = 0;
};

}  // namespace fisherfield::cuda
