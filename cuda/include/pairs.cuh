// The depth recursion over pairs of samples (fisherfield/order_parameters.hpp), one thread a pair, layer by layer: the
// moments of a pair are those of fisherfield/pair_forms.hpp.
#pragma once

#include <fisherfield/pair_forms.hpp>

#include "rows.cuh"

namespace fisherfield::cuda {

// Rows [row, row + rows) against columns [column, column + columns) of all samples; the pairs are those below the
// diagonal, s > t. Arrays of a tile are row-major, and zero where there is no pair.
struct PairTile {
  Index row, rows, column, columns;
};

// One hidden layer: q = weight_var qhat + bias_var (+ q, with a skip), then value = E phi phi and first = E phi'phi'
// from moments(at, s, t, q) for entry `at` of the tile.
template <class Moments>
__device__ void pair_layer(const PairTile& tile, double weight_var, double bias_var, bool skip, const double* qhat,
                           double* q, double* value, double* first, const Moments& moments) {
  for_each_entry(tile.rows, tile.columns, [=](Index i, Index j) {
    const Index at = i * tile.columns + j, s = tile.row + i, t = tile.column + j;
    if (s <= t) {
      q[at] = value[at] = first[at] = 0;
      return;
    }
    const double fresh = weight_var * qhat[at] + bias_var, cov = skip ? fresh + q[at] : fresh;
    const pair_forms::Pair pair = moments(at, s, t, cov);
    q[at] = cov;
    value[at] = pair.value;
    first[at] = pair.first;
  });
}

// A layer whose activation has a closed form.
template <class Form>
struct ClosedPairs {
  Form form;
  const double *variance, *root;  // of the pre-activations, sample by sample
  __device__ __forceinline__ pair_forms::Pair operator()(Index, Index s, Index t, double cov) const {
    return form(variance[s], cov, variance[t], root[s], root[t]);
  }
};

// Numbers of every sample: a row per coefficient or tail.
struct SampleTable {
  const double* entries;
  Index rows;
};

// A layer by Mehler's series: coefficients e_n / sqrt(n + 1), and the tails of fisherfield/mehler.hpp.
struct MehlerPairs {
  const double *variance, *root, *mean, *square, *square_first;  // E u^2, its root, E phi, E phi^2, E phi'^2
  SampleTable even, odd, tails;
  Index stride;  // of the rows of all tables
  double tol;
  unsigned char* left;  // of the tile: 1 for pairs with too few terms, whose moments are left to a double integral

  __device__ __forceinline__ pair_forms::Pair operator()(Index at, Index s, Index t, double cov) const {
    const double scale = root[s] * root[t], rho = correlation(cov, scale);
    // a copy of the sample keeps correlation 1 exactly, layer after layer
    if (rho == 1 && variance[s] == variance[t]) return {square[s], square_first[s]};
    const double x = rho * rho;
    const Index steps = steps_within(x, s, t);
    if (steps < 0) {
      left[at] = 1;
      return {0, 0};
    }
    const Index terms = steps * (pair_forms::mehler_step / 2);  // of either parity
    pair_forms::MehlerSums sums{0, 0, 0, 0};
    sum(even, terms, s, t, x, sums.even, sums.even_slope);
    sum(odd, terms, s, t, x, sums.odd, sums.odd_slope);
    return sums.pair(mean[s] * mean[t], scale, rho, x);
  }

 private:
  // How many steps bring the remainder within the tolerance, or -1.
  __device__ __forceinline__ Index steps_within(double x, Index s, Index t) const {
    static_assert(pair_forms::mehler_step == 16, "rho^16 is the factor of a step");
    const double x2 = x * x, x4 = x2 * x2, rho_step = x4 * x4;
    double power = 1;
    for (Index k = 0; k < tails.rows; ++k, power *= rho_step)
      if (power * tails.entries[k * stride + s] * tails.entries[k * stride + t] <= tol) return k;
    return -1;
  }

  // sum_k c_k(s) c_k(t) x^k and its derivative, by Horner's rule.
  __device__ __forceinline__ void sum(const SampleTable& table, Index terms, Index s, Index t, double x, double& value,
                                      double& slope) const {
    for (Index k = (terms < table.rows ? terms : table.rows) - 1; k >= 0; --k) {
      slope = slope * x + value;
      value = value * x + table.entries[k * stride + s] * table.entries[k * stride + t];
    }
  }
};

// What the layers add up to, from the last one to the first: out[s, t] = out[t, s] = sum_l qtilde^l (width_l qhat^l-1 +
// bias_l) for the pairs, and the given diagonal. `layers` has a row of L numbers for each of weight_var, skip (0 or 1),
// width and bias; qhat (L tiles, from the inputs on), first (L - 1 tiles), which becomes qtilde^l, l = 1 .. L - 1.
__device__ inline void pair_dual(const PairTile& tile, Index depth, const double* layers, const double* qhat,
                                 double* first, const double* diagonal, double* out, Index samples) {
  const double *weight_var = layers, *skip = layers + depth, *width = layers + 2 * depth, *bias = layers + 3 * depth;
  const Index size = tile.rows * tile.columns;
  for_each_entry(tile.rows, tile.columns, [=](Index i, Index j) {
    const Index at = i * tile.columns + j, s = tile.row + i, t = tile.column + j;
    if (s == t) out[s * samples + s] = diagonal[s];
    if (s <= t) return;
    double back = 1, sum = 0;
    for (Index l = depth - 1;; --l) {
      sum += back * (width[l] * qhat[l * size + at] + bias[l]);
      if (l == 0) break;
      double& through = first[(l - 1) * size + at];
      back = weight_var[l] * back * through + skip[l] * back;
      through = back;
    }
    out[s * samples + t] = out[t * samples + s] = sum;
  });
}

}  // namespace fisherfield::cuda
