// Pair moments by Mehler's formula: for u = sqrt(a) x, v = sqrt(c) y with E xy = rho and normalised Hermite polynomials
// he_n,
//
//   E phi'(u)phi'(v) = sum_n e_n(a) e_n(c) rho^n,                        e_n(q) = E phi'(sqrt(q) z) he_n(z)
//   E phi(u)phi(v)   = E phi(u) E phi(v) + sqrt(ac) sum_n e_n(a) e_n(c) rho^(n+1) / (n+1)
//
// (the second is the integral of the first, by Price's theorem). Coefficients belong to one input, so the work of a
// pair is one polynomial in rho. The sum stops at N terms where |rho|^N sqrt(tail_N(a) tail_N(c)), tail_N = E phi'^2 -
// sum_{n<N} e_n^2, an upper bound of what is left out by the Cauchy-Schwarz inequality, is within the tolerance.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "moments.hpp"
#include "pair_kernel.hpp"
#include "product.hpp"

namespace fisherfield {

class MehlerKernel final : public PairKernel {
 public:
  MehlerKernel(const Nonlinearity& phi, std::vector<double> variances, double tol)
      : PairKernel(std::move(variances)), phi_(phi), tol_(tol) {
    const Index samples = size();
    mean_.resize(padded()), square_.resize(samples), square_first_.resize(samples);
    int level = first_level;
    for (Index s = 0; s < samples; ++s) {
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

  Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const override {
    // The coefficients of s, and the same divided by n + 1, contiguous for all blocks of the row.
    std::vector<double> own[2], integrated[2];
    for (int parity : {0, 1})
      for (Index k = 0; k < coefficients_[parity].rows; ++k) {
        own[parity].push_back(coefficients_[parity].row(k)[s]);
        integrated[parity].push_back(own[parity].back() / double(2 * k + parity + 1));
      }
    Accuracy accuracy;
    for (Index t = begin; t < end; t = next_block(t)) {
      const Index stop = std::min(end, next_block(t));
      accuracy.include(block(s, t, stop, own, integrated, cov + (t - begin), value + (t - begin), first + (t - begin)));
    }
    return accuracy;
  }

 private:
  static constexpr Index most_terms = 1024;
  static constexpr Index tail_step = 16;  // tails are kept for every 16th number of terms

  // Rounding of the coefficients: no tail below this can be told from zero.
  double resolution() const { return std::max(0.1 * tol_, 1e-15); }

  // Coefficients of all samples that share a rule; more terms until every tail is within the tolerance.
  void expand(int level) {
    const std::vector<double> kinks = phi_.kinks();
    const bool shared = std::all_of(kinks.begin(), kinks.end(), [](double kink) { return kink == 0; });
    for (Index terms = 64;; terms *= 2) {
      for (int parity : {0, 1}) coefficients_[parity] = Table(terms / 2, padded());
      if (shared) {
        expand(0, size(), resolving_rule(level, terms, kinks, 1.0));
      } else {
        for (Index s = 0; s < size(); ++s) expand(s, s + 1, resolving_rule(level, terms, kinks, variance(s)));
      }
      set_tails(terms);
      if (terms == most_terms || *std::max_element(tails_.back().begin(), tails_.back().end()) <= resolution()) break;
    }
    for (Table& coefficients : coefficients_)
      if (negligible(coefficients)) coefficients = Table(0, padded());
  }

  // An odd or even phi' leaves only rounding in the other half of its coefficients.
  bool negligible(const Table& coefficients) const {
    for (Index t = 0; t < size(); ++t) {
      double norm = 0;
      for (Index k = 0; k < coefficients.rows; ++k) norm += coefficients.row(k)[t] * coefficients.row(k)[t];
      if (norm > 1e-20 * square_first_[t]) return false;
    }
    return true;
  }

  // The rule that settled the moments, refined until it also resolves he_n, whose wave number is sqrt(n).
  static SymmetricRule resolving_rule(int level, Index terms, const std::vector<double>& kinks, double q) {
    const double wave_number = 2 * pi / gaussian_rule(level, kinks, q).spacing + std::sqrt(double(terms)) + 6;
    while (level < finest_level(kinks) && 2 * pi / gaussian_rule(level, kinks, q).spacing < wave_number) ++level;
    return gaussian_rule(level, kinks, q);
  }

  // Coefficients of the samples [begin, end) by one matrix product per parity: he_n at the nodes times phi' at the
  // nodes.
  void expand(Index begin, Index end, const SymmetricRule& rule) {
    const Index nodes = Index(rule.nodes.size()), terms = 2 * coefficients_[0].rows, samples = end - begin;
    Table part[2], basis[2];
    part[0] = part[1] = Table(samples, nodes);
    basis[0] = basis[1] = Table(terms / 2, nodes);
    Samples at;
    for (Index s = 0; s < samples; ++s) {
      at.take(phi_, variance(begin + s), rule.nodes);
      for (Index i = 0; i < nodes; ++i) {
        part[0].row(s)[i] = at.first[i] + at.first[nodes + i];
        part[1].row(s)[i] = at.first[i] - at.first[nodes + i];
      }
    }
    std::vector<double> previous(nodes, 0.0), current(rule.weights);  // weight times he_{n-1}, he_n
    for (Index n = 0; n < terms; ++n) {
      std::copy(current.begin(), current.end(), basis[n % 2].row(n / 2));
      for (Index i = 0; i < nodes; ++i)
        previous[i] = (rule.nodes[i] * current[i] - std::sqrt(double(n)) * previous[i]) / std::sqrt(n + 1.0);
      previous.swap(current);
    }
    for (int parity : {0, 1})
      product<double>(terms / 2, samples, nodes, basis[parity].row(0), nodes,
                      PackTransposed<double>{part[parity].row(0), nodes}, nullptr, coefficients_[parity].row(0) + begin,
                      padded(), NoFinish{});
  }

  // tails_[k][t]: norm of phi' beyond k * tail_step terms, over its norm; zero in the padding.
  void set_tails(Index terms) {
    tails_.assign(terms / tail_step + 1, std::vector<double>(padded(), 0.0));
    for (Index t = 0; t < size(); ++t) {
      double left = square_first_[t];
      for (Index k = 0;; ++k) {
        tails_[k][t] = left > 0 ? std::sqrt(left / square_first_[t]) : 0;
        if (k * tail_step == terms) break;
        for (Index n = k * tail_step; n < (k + 1) * tail_step; ++n) {
          const double e = coefficients_[n % 2].row(n / 2)[t];
          left -= e * e;
        }
      }
    }
    // The product of two tails is what counts: below the rounding of E phi'^2 they are zero.
    for (auto& tails : tails_)
      for (double& tail : tails)
        if (tail * tail < 4e-15) tail = 0;
  }

  Accuracy block(Index s, Index begin, Index end, const std::vector<double> (&own)[2],
                 const std::vector<double> (&integrated)[2], const double* cov, double* value, double* first) const {
    const Index first_lane = begin - begin % lanes, n = end - begin;
    alignas(64) double rho[lanes] = {}, x[lanes], odd_first[lanes] = {}, odd_value[lanes] = {}, even_first[lanes] = {},
                       even_value[lanes] = {};
    double* const r = rho + (begin - first_lane);
    double largest = 0;
    for (Index j = 0; j < n; ++j) {
      r[j] = correlation(cov[j], root(s) * root(begin + j));
      largest = std::max(largest, std::abs(r[j]));
    }
    // Fewest terms for the block's largest correlation; lanes that ask for more than there are go to the double
    // integral.
    Index k = 0;
    const Index last = Index(tails_.size()) - 1;
    while (k < last && remainder(k, s, first_lane, largest) > tol_) ++k;
    for (Index j = 0; j < lanes; ++j) x[j] = rho[j] * rho[j];
    const Index terms = k * tail_step / 2;
    series(coefficients_[0], first_lane, terms, own[0], integrated[0], x, even_first, even_value);
    series(coefficients_[1], first_lane, terms, own[1], integrated[1], x, odd_first, odd_value);

    const Index offset = begin - first_lane;
    for (Index j = 0; j < n; ++j) {
      const Index lane = offset + j, t = begin + j;
      first[j] = even_first[lane] + r[j] * odd_first[lane];
      value[j] = mean_[s] * mean_[t] + root(s) * root(t) * (r[j] * even_value[lane] + x[lane] * odd_value[lane]);
    }
    Accuracy accuracy{0, 2 * terms};
    if (k == last && remainder(k, s, first_lane, largest) > tol_)
      for (Index j = 0; j < n; ++j)
        if (std::pow(std::abs(r[j]), double(k * tail_step)) * tails_[k][s] * tails_[k][begin + j] > tol_) {
          const PairMoments pair = pair_quadrature(phi_, variance(s), r[j], variance(begin + j), tol_);
          value[j] = pair.value, first[j] = pair.first;
          accuracy.include(pair.accuracy);
        }
    return accuracy;
  }

  // Bound of what k * tail_step terms leave out, for any sample of the block.
  double remainder(Index k, Index s, Index first_lane, double rho) const {
    const double* tails = tails_[k].data() + first_lane;
    return std::pow(rho, double(k * tail_step)) * tails_[k][s] * *std::max_element(tails, tails + lanes);
  }

  // sum_k own_k c_k x^k and sum_k integrated_k c_k x^k for a block of samples, by Horner's rule.
  static void series(const Table& coefficients, Index first_lane, Index terms, const std::vector<double>& own,
                     const std::vector<double>& integrated, const double* x, double* sum, double* integral) {
    for (Index k = std::min(terms, coefficients.rows) - 1; k >= 0; --k) {
      const double* c = coefficients.row(k) + first_lane;
      const double f = own[k], g = integrated[k];
      for (Index j = 0; j < lanes; ++j) {
        sum[j] = sum[j] * x[j] + f * c[j];
        integral[j] = integral[j] * x[j] + g * c[j];
      }
    }
  }

  const Nonlinearity& phi_;
  double tol_;
  std::vector<double> mean_, square_, square_first_;
  Table coefficients_[2];  // e_n of even n and of odd n: a row per n, a column per sample, zero in the padding
  std::vector<std::vector<double>> tails_;
};

}  // namespace fisherfield
