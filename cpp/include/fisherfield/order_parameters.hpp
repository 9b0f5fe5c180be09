// The depth recursion of mean-field theory: order parameters of single inputs and of pairs, and the dual they predict.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "mehler.hpp"
#include "moments.hpp"
#include "pair_kernel.hpp"
#include "product.hpp"

namespace fisherfield {

inline std::unique_ptr<PairKernel> make_pair_kernel(const Nonlinearity& phi, std::vector<double> variances,
                                                    double tol) {
  std::unique_ptr<PairKernel> kernel;
  if (const Activation* known = phi.built_in())
    pair_forms::dispatch(*known, [&](auto form) {
      kernel = std::make_unique<ClosedFormKernel<decltype(form)>>(form, std::move(variances));
    });
  if (!kernel) kernel = std::make_unique<MehlerKernel>(phi, std::move(variances), tol);
  return kernel;
}

// Random network: u^l = W^l h^{l-1} + b^l (+ u^{l-1} where there is a skip) with Var W = weight_var / M_{l-1}, Var b =
// bias_var, h^l = phi^l(u^l) for l < L.
struct Ensemble {
  std::vector<const Nonlinearity*> nonlinearities;  // l = 1 .. L-1
  std::vector<double> weight_vars, bias_vars;       // l = 1 .. L
  std::vector<bool> skips;                          // l = 1 .. L; the first has none
  Index depth() const { return Index(weight_vars.size()); }
};

// Order parameters of n inputs, or of n pairs: a row per layer.
struct OrderParameters {
  Table q;      // row l-1: q^l, l = 1 .. L
  Table qhat;   // row l: qhat^l, l = 0 .. L-1
  Table first;  // row l-1: E phi'^2 (of pairs: E phi'phi') of layer l = 1 .. L-1
  OrderParameters(Index depth, Index n) : q(depth, n), qhat(depth, n), first(depth - 1, n) {}

  // q^{l+1} from qhat^l, and q^l where there is a skip: fresh weights leave u^l and W phi(u^l) uncorrelated.
  void propagate(const Ensemble& ensemble, Index l) {
    for (Index t = 0; t < q.columns; ++t)
      q.row(l)[t] = ensemble.weight_vars[l] * qhat.row(l)[t] + ensemble.bias_vars[l];
    for (Index t = 0; ensemble.skips[l] && t < q.columns; ++t) q.row(l)[t] += q.row(l - 1)[t];
  }

  // Row l-1: qtilde^l, l = 1 .. L, from the output backwards.
  Table qtilde(const Ensemble& ensemble) const {
    Table back(q.rows, q.columns, 1.0);
    for (Index l = q.rows - 1; l > 0; --l) {
      for (Index t = 0; t < q.columns; ++t)
        back.row(l - 1)[t] = ensemble.weight_vars[l] * back.row(l)[t] * first.row(l - 1)[t];
      for (Index t = 0; ensemble.skips[l] && t < q.columns; ++t) back.row(l - 1)[t] += back.row(l)[t];
    }
    return back;
  }
};

class DepthRecursion {
 public:
  // qhat0: mean square of each input.
  DepthRecursion(Ensemble ensemble, const std::vector<double>& qhat0, double tol)
      : ensemble_(std::move(ensemble)), single_(ensemble_.depth(), Index(qhat0.size())) {
    const Index depth = ensemble_.depth(), n = single_.q.columns;
    std::copy(qhat0.begin(), qhat0.end(), single_.qhat.row(0));
    for (Index l = 0; l < depth; ++l) {
      single_.propagate(ensemble_, l);
      if (l + 1 == depth) break;
      const double* q = single_.q.row(l);
      kernels_.push_back(make_pair_kernel(*ensemble_.nonlinearities[l], std::vector<double>(q, q + n), tol));
      kernels_.back()->diagonal(single_.qhat.row(l + 1), single_.first.row(l));
      accuracy_.include(kernels_.back()->accuracy());
    }
  }

  const Ensemble& ensemble() const { return ensemble_; }
  const OrderParameters& single() const { return single_; }
  const Accuracy& accuracy() const { return accuracy_; }
  const PairKernel& kernel(Index l) const { return *kernels_[l]; }  // of q^{l+1}

  // Pairs (s, t), t in [begin, begin + n); on entry pairs.qhat.row(0) holds the overlaps x_s.x_t / M_0.
  Accuracy pairs(Index s, Index begin, OrderParameters& pairs) const {
    const Index depth = ensemble_.depth(), end = begin + pairs.q.columns;
    Accuracy accuracy;
    for (Index l = 0; l < depth; ++l) {
      pairs.propagate(ensemble_, l);
      if (l + 1 == depth) break;
      accuracy.include(kernels_[l]->row(s, begin, end, pairs.q.row(l), pairs.qhat.row(l + 1), pairs.first.row(l)));
    }
    return accuracy;
  }

 private:
  Ensemble ensemble_;
  OrderParameters single_;
  std::vector<std::unique_ptr<PairKernel>> kernels_;
  Accuracy accuracy_;
};

// Weights of the sum over layers, sum_l qtilde^l (width_l qhat^{l-1} + bias_l), that makes kappa, or the dual.
struct LayerWeights {
  std::vector<double> width, bias;
};

inline void sum_layers(const LayerWeights& weights, const Table& qtilde, const Table& qhat, double* sum) {
  std::fill_n(sum, qtilde.columns, 0.0);
  for (Index l = 0; l < qtilde.rows; ++l) {
    const double width = weights.width[l], bias = weights.bias[l], *back = qtilde.row(l), *forward = qhat.row(l);
    for (Index t = 0; t < qtilde.columns; ++t) sum[t] += back[t] * (width * forward[t] + bias);
  }
}

// X (samples x dimension, row-major). An overlap x_s.x_t / M_0 has the same bits whatever the tile.
struct Inputs {
  const double* x;
  Index samples, dimension;

  Table overlaps(Index row, Index rows, Index column, Index columns) const {
    Table out(rows, columns);
    product<double>(rows, columns, dimension, x + row * dimension, dimension,
                    PackTransposed<double>{x + column * dimension, dimension}, nullptr, out.row(0), columns,
                    NoFinish{});
    for (double& overlap : out.entries) overlap /= double(dimension);
    return out;
  }

  std::vector<double> mean_squares() const {
    constexpr Index block = 8;
    std::vector<double> out;
    for (Index begin = 0; begin < samples; begin += block) {
      const Index n = std::min(block, samples - begin);
      const Table square = overlaps(begin, n, begin, n);
      for (Index i = 0; i < n; ++i) out.push_back(square.row(i)[i]);
    }
    return out;
  }
};

// Rows [row, row + rows) of the predicted dual against columns [column, column + columns), on and below the diagonal.
struct Tile {
  Table dual;
  Table sums;  // q_st, qhat_st, qtilde_st (rows) per layer (columns), summed over the tile's pairs s > t
  Accuracy accuracy;
};

inline void add_row_sums(const Table& table, double* sums) {
  for (Index l = 0; l < table.rows; ++l) sums[l] += std::accumulate(table.row(l), table.row(l) + table.columns, 0.0);
}

inline Tile dual_tile(const DepthRecursion& recursion, const Inputs& inputs, Index row, Index rows, Index column,
                      Index columns, const LayerWeights& weights) {
  const Ensemble& ensemble = recursion.ensemble();
  const OrderParameters& single = recursion.single();
  const Index depth = ensemble.depth();
  Tile tile{Table(rows, columns), Table(3, depth), {}};
  const Table overlaps = inputs.overlaps(row, rows, column, columns);
  std::vector<double> diagonal(single.q.columns);
  sum_layers(weights, single.qtilde(ensemble), single.qhat, diagonal.data());
  for (Index i = 0; i < rows; ++i) {
    const Index s = row + i, n = std::min(columns, s - column);
    if (n > 0) {
      OrderParameters pairs(depth, n);
      std::copy_n(overlaps.row(i), n, pairs.qhat.row(0));
      tile.accuracy.include(recursion.pairs(s, column, pairs));
      const Table qtilde = pairs.qtilde(ensemble);
      sum_layers(weights, qtilde, pairs.qhat, tile.dual.row(i));
      add_row_sums(pairs.q, tile.sums.row(0));
      add_row_sums(pairs.qhat, tile.sums.row(1));
      add_row_sums(qtilde, tile.sums.row(2));
    }
    if (column <= s && s < column + columns) tile.dual.row(i)[s - column] = diagonal[s];
  }
  return tile;
}

// theta' F theta / C in the wide limit, theta the weights: E (df/de)^2 of a network whose weights are scaled by 1 + e.
// The pair (u, u. = du/de) of every layer is jointly Gaussian, of variances q, d and covariance c.
inline double fisher_rao(const Ensemble& ensemble, double qhat0, double tol, Accuracy& accuracy) {
  double q = ensemble.weight_vars[0] * qhat0 + ensemble.bias_vars[0], c = ensemble.weight_vars[0] * qhat0, d = c;
  for (Index l = 1; l < ensemble.depth(); ++l) {
    const Moments m = moments(*ensemble.nonlinearities[l - 1], q, tol);
    accuracy.include(m.accuracy);
    const double slope = q > 0 ? c / q : 0, rest = std::max(d - slope * c, 0.0);
    const double cross = slope * m.mixed, tangent = slope * slope * m.weighted + rest * m.square_first;
    const double sw2 = ensemble.weight_vars[l];
    const double q0 = ensemble.skips[l] ? q : 0, c0 = ensemble.skips[l] ? c : 0, d0 = ensemble.skips[l] ? d : 0;
    q = (sw2 * m.square + ensemble.bias_vars[l]) + q0;
    c = sw2 * (m.square + cross) + c0;
    d = sw2 * (m.square + 2 * cross + tangent) + d0;
  }
  return d;
}

}  // namespace fisherfield
