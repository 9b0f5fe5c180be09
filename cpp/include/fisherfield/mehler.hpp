// Pair moments by Mehler's formula: for u = sqrt(a) x, v = sqrt(c) y with E xy = rho and normalised Hermite polynomials
// he_n,
//
//   E phi'(u)phi'(v) = sum_n e_n(a) e_n(c) rho^n,                        e_n(q) = E phi'(sqrt(q) z) he_n(z)
//   E phi(u)phi(v)   = E phi(u) E phi(v) + sqrt(ac) sum_n e_n(a) e_n(c) rho^(n+1) / (n+1)
//
// (the second is the integral of the first over the covariance, by Price's theorem). Coefficients belong to one input,
// so the work of a pair is one polynomial in rho. The sum stops at N terms where |rho|^N sqrt(tail_N(a) tail_N(c)),
// tail_N = E phi'^2 - sum_{n<N} e_n^2, an upper bound of what is left out by the Cauchy-Schwarz inequality, is within
// the tolerance.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "moments.hpp"
#include "pair_kernel.hpp"
#include "product.hpp"

namespace fisherfield {

// Coefficients e_n of the samples [begin, begin + count) that share a rule, some n at a time.
class HermiteExpansion {
 public:
  HermiteExpansion(const Nonlinearity& phi, const double* variances, Index begin, Index count, SymmetricRule rule)
      : begin_(begin), rule_(std::move(rule)), previous_(rule_.nodes.size(), 0.0), current_(rule_.weights) {
    const Index nodes = Index(rule_.nodes.size());
    parts_[0] = parts_[1] = Table(count, nodes);
    Samples at;
    for (Index s = 0; s < count; ++s) {
      at.take(phi, variances[begin + s], rule_.nodes);
      for (Index i = 0; i < nodes; ++i) {
        parts_[0].row(s)[i] = at.first[i] + at.first[nodes + i];
        parts_[1].row(s)[i] = at.first[i] - at.first[nodes + i];
      }
    }
  }

  // E phi'^2 of the even or odd part of phi', at most over the samples.
  double largest_square(int parity) const {
    double largest = 0;
    for (Index s = 0; s < parts_[parity].rows; ++s) {
      double square = 0;
      for (Index i = 0; i < parts_[parity].columns; ++i)
        square += 0.5 * rule_.weights[i] * parts_[parity].row(s)[i] * parts_[parity].row(s)[i];
      largest = std::max(largest, square);
    }
    return largest;
  }

  // The next `terms` coefficients (an even number), into rows [row, row + terms / 2) of the tables for even and odd n;
  // a table without rows is skipped. One matrix product each: he_n at the nodes times phi' at the nodes.
  void next(Index terms, Index row, Table (&coefficients)[2]) {
    const Index nodes = Index(rule_.nodes.size());
    Table basis[2] = {Table(terms / 2, nodes), Table(terms / 2, nodes)};
    for (Index i = 0; i < terms; ++i, ++n_) {
      std::copy(current_.begin(), current_.end(), basis[n_ % 2].row(i / 2));
      const double up = 1 / std::sqrt(n_ + 1.0), down = std::sqrt(double(n_)) * up;
      for (Index j = 0; j < nodes; ++j) previous_[j] = up * rule_.nodes[j] * current_[j] - down * previous_[j];
      previous_.swap(current_);
    }
    for (int parity : {0, 1})
      if (coefficients[parity].rows > 0)
        product<double>(terms / 2, parts_[parity].rows, nodes, basis[parity].row(0), nodes,
                        PackTransposed<double>{parts_[parity].row(0), nodes}, nullptr,
                        coefficients[parity].row(row) + begin_, coefficients[parity].columns, NoFinish{});
  }

 private:
  Index begin_, n_ = 0;
  SymmetricRule rule_;
  Table parts_[2];  // phi'(u) + phi'(-u), phi'(u) - phi'(-u): a row per sample, a column per node
  std::vector<double> previous_, current_;  // weight times he_{n-1}, he_n at the nodes
};

class MehlerKernel final : public PairKernel {
 public:
  MehlerKernel(const Nonlinearity& phi, std::vector<double> variances, double tol)
      : PairKernel(std::move(variances)), phi_(phi), tol_(tol), mean_(size()), square_(size()), square_first_(size()) {
    int level = first_level;
    for (Index s = 0; s < size(); ++s) {
      const Moments m = moments(phi, variance(s), tol);
      mean_[s] = m.mean, square_[s] = m.square, square_first_[s] = m.square_first;
      level = std::max(level, m.level);
      accuracy_.include(m.accuracy);
    }
    expand(level);
  }

  void diagonal(double* square, double* square_first) const override {
    std::copy(square_.begin(), square_.end(), square);
    std::copy(square_first_.begin(), square_first_.end(), square_first);
  }

  // E phi(u_s) for every s; coefficients e_n of even n and of odd n (a row per n, a column per sample, without rows
  // where they vanish) and what of phi' is left after every mehler_step of them, relative to its norm: rows are padded.
  const std::vector<double>& means() const { return mean_; }
  const Table& coefficients(int parity) const { return coefficients_[parity]; }
  const Table& tails() const { return tails_; }

  Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const override {
    Accuracy accuracy;
    std::vector<double> own[2];  // e_n(s) / (n + 1)
    for (int parity : {0, 1})
      for (Index k = 0; k < coefficients_[parity].rows; ++k)
        own[parity].push_back(coefficients_[parity].row(k)[s] / double(2 * k + parity + 1));
    for (Index t = begin, i = 0; t < end; i += next_block(t) - t, t = next_block(t))
      accuracy.include(block(s, t, std::min(end, next_block(t)), own, cov + i, value + i, first + i));
    return accuracy;
  }

 private:
  static constexpr Index most_terms = 1024;
  static constexpr Index step = pair_forms::mehler_step;  // tails are kept for every so many terms
  static constexpr Index chunk = 4 * step;                // coefficients are made so many at a time

  // More terms until every tail is within the tolerance.
  void expand(int level) {
    const std::vector<double> kinks = phi_.kinks();
    const bool shared = std::all_of(kinks.begin(), kinks.end(), [](double kink) { return kink == 0; });
    std::vector<HermiteExpansion> expansions;
    const Index group = shared ? size() : 1;
    for (Index s = 0; s < size(); s += group)
      expansions.emplace_back(phi_, &variance(0), s, group, resolving_rule(level, kinks, variance(s)));

    bool used[2] = {false, false};  // an odd or even phi' leaves only rounding in one half of the coefficients
    for (int parity : {0, 1})
      for (const HermiteExpansion& expansion : expansions)
        used[parity] |=
            expansion.largest_square(parity) > 1e-20 * *std::max_element(square_first_.begin(), square_first_.end());

    std::vector<double> left(square_first_);
    add_tails(left);
    for (Index terms = 0; terms < most_terms && worst_tail_.back() > tol_; terms += chunk) {
      for (int parity : {0, 1})
        if (used[parity]) coefficients_[parity].resize((terms + chunk) / 2, padded());
      for (HermiteExpansion& expansion : expansions) expansion.next(chunk, terms / 2, coefficients_);
      for (Index k = terms / 2; k < (terms + chunk) / 2; ++k) {
        for (const Table& coefficients : coefficients_)
          if (coefficients.rows > 0)
            for (Index t = 0; t < size(); ++t) left[t] -= coefficients.row(k)[t] * coefficients.row(k)[t];
        if ((k + 1) % (step / 2) == 0) add_tails(left);
      }
    }
  }

  // The rule that settled the moments (the coarser of the two that agreed), refined until it also resolves he_n, whose
  // wave number is sqrt(n).
  static SymmetricRule resolving_rule(int level, const std::vector<double>& kinks, double q) {
    level = std::max(level - 1, first_level);
    const double wave_number = 2 * pi / gaussian_rule(level, kinks, q).spacing + std::sqrt(double(most_terms)) + 6;
    while (level < finest_level(kinks) && 2 * pi / gaussian_rule(level, kinks, q).spacing < wave_number) ++level;
    return gaussian_rule(level, kinks, q);
  }

  // tails_.row(k)[t]: norm of what phi' has beyond k * step terms, relative to its own. Its square is known to the
  // rounding of E phi'^2, so that no tail counts as smaller.
  void add_tails(const std::vector<double>& left) {
    const Index k = tails_.rows;
    tails_.resize(k + 1, padded());
    block_tails_.resize(k + 1, padded() / lanes);
    for (Index t = 0; t < size(); ++t) {
      tails_.row(k)[t] = square_first_[t] > 0 ? std::sqrt(std::max(left[t] / square_first_[t], 4e-15)) : 0;
      double& largest = block_tails_.row(k)[t / lanes];
      largest = std::max(largest, tails_.row(k)[t]);
    }
    const double worst = *std::max_element(block_tails_.row(k), block_tails_.row(k) + block_tails_.columns);
    worst_tail_.push_back(worst * worst);
  }

  // Pairs (s, t), t in [begin, end) within one block of lanes.
  Accuracy block(Index s, Index begin, Index end, const std::vector<double> (&own)[2], const double* cov, double* value,
                 double* first) const {
    const Index first_lane = begin - begin % lanes, n = end - begin, offset = begin - first_lane;
    double rho[lanes] = {}, x[lanes], sum[2][lanes] = {}, slope[2][lanes] = {};
    bool copy[lanes] = {};  // a copy of the sample keeps correlation 1 exactly, layer after layer
    double largest = 0;
    for (Index j = 0; j < n; ++j) {
      double& r = rho[offset + j];
      r = correlation(cov[j], root(s) * root(begin + j));
      copy[j] = r == 1 && variance(s) == variance(begin + j);
      if (copy[j]) r = 0;
      largest = std::max(largest, std::abs(r));
    }
    for (Index i = 0; i < lanes; ++i) x[i] = rho[i] * rho[i];

    // Fewest terms for the block's largest correlation.
    const double rho_step = std::pow(largest, double(step)), *worst = block_tails_.row(0) + begin / lanes;
    const Index last = tails_.rows - 1;
    Index k = 0;
    double power = 1;
    const auto remainder = [&] { return power * tails_.row(k)[s] * worst[k * block_tails_.columns]; };
    for (; k < last && remainder() > tol_; ++k) power *= rho_step;
    const bool converged = remainder() <= tol_;

    for (int parity : {0, 1})
      series(coefficients_[parity], first_lane, k * step / 2, own[parity].data(), x, sum[parity], slope[parity]);
    for (Index j = 0; j < n; ++j) {
      const Index i = offset + j, t = begin + j;
      const pair_forms::MehlerSums sums{sum[0][i], slope[0][i], sum[1][i], slope[1][i]};
      const auto [v, d] = sums.pair(mean_[s] * mean_[t], root(s) * root(t), rho[i], x[i]);
      value[j] = v;
      first[j] = d;
    }
    Accuracy accuracy{0, k * step};
    for (Index j = 0; j < n; ++j) {
      const Index t = begin + j;
      const double r = rho[offset + j];
      if (copy[j]) {
        value[j] = square_[s], first[j] = square_first_[s];
      } else if (!converged &&
                 std::pow(std::abs(r), double(last * step)) * tails_.row(last)[s] * tails_.row(last)[t] > tol_) {
        const PairMoments pair = pair_quadrature(phi_, variance(s), r, variance(t), tol_);
        value[j] = pair.value, first[j] = pair.first;
        accuracy.include(pair.accuracy);
      }
    }
    return accuracy;
  }

  // sum_k own_k c_k x^k and its derivative by x for a block of samples, by Horner's rule.
  static void series(const Table& coefficients, Index first_lane, Index terms, const double* own, const double* x,
                     double* sum, double* slope) {
    using namespace Eigen::internal;
    using Packet = packet_traits<double>::type;
    constexpr Index width = sizeof(Packet) / sizeof(double), packets = 4;  // enough chains to hide the latency
    static_assert(lanes % (packets * width) == 0, "blocks are whole groups of packets");
    terms = std::min(terms, coefficients.rows);
    for (Index lane = 0; lane < lanes; lane += packets * width) {
      Packet at[packets], p[packets], d[packets];
      for (Index v = 0; v < packets; ++v) {
        at[v] = ploadu<Packet>(x + lane + v * width);
        p[v] = d[v] = pset1<Packet>(0.0);
      }
      for (Index k = terms - 1; k >= 0; --k) {
        const double* c = coefficients.row(k) + first_lane + lane;
        const Packet f = pset1<Packet>(own[k]);
        for (Index v = 0; v < packets; ++v) {
          d[v] = pmadd(d[v], at[v], p[v]);
          p[v] = pmadd(p[v], at[v], pmul(f, ploadu<Packet>(c + v * width)));
        }
      }
      for (Index v = 0; v < packets; ++v) {
        pstoreu(sum + lane + v * width, p[v]);
        pstoreu(slope + lane + v * width, d[v]);
      }
    }
  }

  const Nonlinearity& phi_;
  double tol_;
  std::vector<double> mean_, square_, square_first_, worst_tail_;
  Table coefficients_[2];  // e_n of even n and of odd n: a row per n, a column per sample, zero in the padding
  Table tails_, block_tails_;
};

}  // namespace fisherfield
