// Gaussian moments of a nonlinearity, with error control: the rule grows until two successive answers agree.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "activations.hpp"
#include "quadrature.hpp"

namespace fisherfield {

// What the theory needs to know of an activation function: values, first derivatives, and where to split integrals.
class Nonlinearity {
 public:
  virtual ~Nonlinearity() = default;
  virtual void evaluate(Index n, const double* u, double* value, double* first) const = 0;
  virtual std::vector<double> kinks() const = 0;
  // The built-in function, or null: closed forms are chosen by it.
  virtual const Activation* built_in() const { return nullptr; }
};

class BuiltIn final : public Nonlinearity {
 public:
  explicit BuiltIn(Activation phi) : phi_(phi) {}
  void evaluate(Index n, const double* u, double* value, double* first) const override {
    fisherfield::evaluate<double>(phi_, n, u, value, first, nullptr);
  }
  std::vector<double> kinks() const override { return fisherfield::kinks(phi_); }
  const Activation* built_in() const override { return &phi_; }

 private:
  Activation phi_;
};

// How an answer was reached: largest estimated relative error, and the number of points that gave it.
struct Accuracy {
  double error = 0;
  Index points = 0;
  void include(const Accuracy& other) {
    if (!(other.error <= error)) error = other.error;  // NaN counts as the worst
    points = std::max(points, other.points);
  }
};

inline double relative_change(double now, double before, double scale) {
  const double change = std::abs(now - before);
  return change == 0 ? 0 : change / scale;
}

// Rule of a level for phi(sqrt(q) z): trapezoidal, or piecewise where phi has kinks.
inline SymmetricRule gaussian_rule(int level, const std::vector<double>& kinks, double q) {
  if (kinks.empty()) return trapezoidal_rule(level);
  std::vector<double> breaks;
  if (q > 0)
    for (double kink : kinks) breaks.push_back(kink / std::sqrt(q));
  return piecewise_rule(level, breaks);
}

inline int finest_level(const std::vector<double>& kinks) { return kinks.empty() ? last_level : last_piecewise_level; }

// Level whose nodes are no more than about 2 apart in u: coarser rules may agree on what they both overlook.
inline int coarsest_level(const std::vector<double>& kinks, double q) {
  const int needed = int(std::ceil(0.5 * std::log2(std::max(q, 1.0))));
  return std::min(std::max(first_level, needed), finest_level(kinks) - 1);
}

// Values and derivatives at sqrt(q) z for z = +nodes, then -nodes.
struct Samples {
  std::vector<double> u, value, first;
  void take(const Nonlinearity& phi, double q, const std::vector<double>& nodes) {
    const Index n = Index(nodes.size());
    u.resize(2 * n), value.resize(2 * n), first.resize(2 * n);
    for (Index i = 0; i < n; ++i) {
      u[i] = std::sqrt(q) * nodes[i];
      u[n + i] = -u[i];
    }
    phi.evaluate(2 * n, u.data(), value.data(), first.data());
  }
};

// Moments over u ~ N(0, q).
struct Moments {
  double mean = 0, mean_first = 0;      // E phi, E phi'
  double square = 0, square_first = 0;  // E phi^2, E phi'^2
  double mixed = 0, weighted = 0;       // E phi phi' u, E phi'^2 u^2
  Accuracy accuracy;
  int level = 0;  // of the rule that gave the answer
};

inline Moments moments_by_rule(const Samples& s, const SymmetricRule& rule) {
  const Index n = Index(rule.nodes.size());
  Moments m;
  for (Index i = 0; i < n; ++i) {  // z and -z together: what is odd cancels exactly
    const double w = rule.weights[i], u = s.u[i];
    const double f = s.value[i], d = s.first[i], g = s.value[n + i], e = s.first[n + i];
    m.mean += w * (f + g);
    m.mean_first += w * (d + e);
    m.square += w * (f * f + g * g);
    m.square_first += w * (d * d + e * e);
    m.mixed += w * u * (f * d - g * e);
    m.weighted += w * u * u * (d * d + e * e);
  }
  return m;
}

// What the cut leaves out, for integrands that grow slower than the density falls: phi^2 at the cut, relative to E
// phi^2.
inline double cutoff_error(const Samples& s, double square) {
  const std::size_t n = s.value.size() / 2;
  const double edge = std::max(std::abs(s.value[n - 1]), std::abs(s.value[2 * n - 1]));
  return edge == 0 ? 0 : edge * edge * gaussian_density(gaussian_cutoff) / square;
}

// sin and cos oscillate between the nodes of any rule once q is large: closed forms, from E cos 2u = exp(-2q) and its
// derivatives by the frequency.
inline Moments sine_moments(bool cosine, double q) {
  const double once = std::exp(-0.5 * q), twice = std::exp(-2 * q), short_of_one = -0.5 * std::expm1(-2 * q);
  const double even = 0.5 * (1 + twice), steep = 2 * q * q * twice;  // E u^2 cos 2u = q twice - 2 steep
  const double even_weighted = q * even - steep, odd_weighted = q * short_of_one + steep;
  Moments m;
  (cosine ? m.mean : m.mean_first) = once;
  m.square = cosine ? even : short_of_one;
  m.square_first = cosine ? short_of_one : even;
  m.mixed = cosine ? -q * twice : q * twice;
  m.weighted = cosine ? odd_weighted : even_weighted;
  m.accuracy = {std::numeric_limits<double>::epsilon(), 0};
  m.level = first_level;
  return m;
}

inline Moments moments(const Nonlinearity& phi, double q, double tol) {
  if (const Activation* known = phi.built_in())
    if (known->kind == ActivationKind::sin || known->kind == ActivationKind::cos)
      return sine_moments(known->kind == ActivationKind::cos, q);
  const std::vector<double> kinks = phi.kinks();
  Samples samples;
  Moments before;
  const int coarsest = coarsest_level(kinks, q);
  for (int level = coarsest;; ++level) {
    const SymmetricRule rule = gaussian_rule(level, kinks, q);
    samples.take(phi, q, rule.nodes);
    Moments now = moments_by_rule(samples, rule);
    const double f = std::sqrt(now.square), d = std::sqrt(now.square_first), du = std::sqrt(now.weighted);
    Accuracy& reached = now.accuracy;
    reached.points = 2 * Index(rule.nodes.size());
    for (double change :
         {relative_change(now.mean, before.mean, f), relative_change(now.mean_first, before.mean_first, d),
          relative_change(now.square, before.square, now.square),
          relative_change(now.square_first, before.square_first, now.square_first),
          relative_change(now.mixed, before.mixed, f * du),
          relative_change(now.weighted, before.weighted, now.weighted), cutoff_error(samples, now.square)})
      reached.include({change, 0});
    now.level = level;
    if ((level > coarsest && reached.error <= tol) || level == finest_level(kinks)) return now;
    before = now;
  }
}

// A pair of correlated inputs: E phi(u)phi(v) and E phi'(u)phi'(v).
struct PairMoments {
  double value = 0, first = 0;
  Accuracy accuracy;
};

// Rule of the Gaussian measure on the whole line: trapezoidal, or Gauss-Legendre between the breaks.
inline Quadrature line_rule(int level, std::vector<double> breaks) {
  Quadrature line;
  if (breaks.empty()) {
    const SymmetricRule& half = trapezoidal_rule(level);
    for (double sign : {-1.0, 1.0})
      for (std::size_t i = 0; i < half.nodes.size(); ++i) {
        line.nodes.push_back(sign * half.nodes[i]);
        line.weights.push_back(half.weights[i]);
      }
    return line;
  }
  breaks.insert(breaks.end(), {-gaussian_cutoff, 0.0, gaussian_cutoff});
  std::sort(breaks.begin(), breaks.end());
  for (std::size_t p = 0; p + 1 < breaks.size(); ++p)
    add_piece(level, std::max(breaks[p], -gaussian_cutoff), std::min(breaks[p + 1], gaussian_cutoff), line);
  return line;
}

// Adds the x where shift + slope x is a kink.
inline void add_breaks(std::vector<double>& breaks, const std::vector<double>& kinks, double slope, double shift) {
  if (slope != 0)
    for (double kink : kinks) breaks.push_back((kink - shift) / slope);
}

// Double integral for u = sqrt(a) x, v = sqrt(c) (rho x + sqrt(1-rho^2) y), any |rho| <= 1: an outer rule over x and,
// for each x, an inner rule over y.
class PairQuadrature {
 public:
  PairQuadrature(const Nonlinearity& phi, double a, double rho, double c)
      : phi_(phi),
        kinks_(phi.kinks()),
        root_(std::sqrt(a)),
        mean_(std::sqrt(c) * rho),
        spread_(std::sqrt(c) * std::sqrt((1 - rho) * (1 + rho))) {
    add_breaks(breaks_, kinks_, root_, 0);
    // The inner integral is phi smoothed over the spread of v: its steps at the kinks are as wide as that.
    for (double width : {0.0, -1.5, 1.5, -4.0, 4.0, -9.0, 9.0}) add_breaks(breaks_, kinks_, mean_, width * spread_);
  }

  int finest_level() const { return kinks_.empty() ? 9 : 5; }

  PairMoments operator()(int level) {
    const Quadrature outer = line_rule(level, breaks_), shared = line_rule(inner_level(level), {});
    const Index n = Index(outer.nodes.size());
    std::vector<double> u(n), value(n), first(n);
    for (Index i = 0; i < n; ++i) u[i] = root_ * outer.nodes[i];
    phi_.evaluate(n, u.data(), value.data(), first.data());
    PairMoments sum;
    for (Index i = 0; i < n; ++i) {
      const double centre = mean_ * outer.nodes[i];
      const PairMoments inner = kinks_.empty() ? conditional_means(centre, shared)
                                               : conditional_means(centre, line_rule(level, inner_breaks(centre)));
      sum.value += outer.weights[i] * value[i] * inner.value;
      sum.first += outer.weights[i] * first[i] * inner.first;
      sum.accuracy.points += inner.accuracy.points;
    }
    return sum;
  }

 private:
  // Steps of v as long as those of u, where v spreads less.
  int inner_level(int level) const {
    const double ratio = spread_ / std::max(root_, std::abs(mean_));
    return ratio < 1 ? std::max(first_level, level + int(std::ceil(std::log2(std::max(ratio, 1e-9))))) : level;
  }

  std::vector<double> inner_breaks(double centre) const {
    std::vector<double> breaks;
    add_breaks(breaks, kinks_, spread_, centre);
    return breaks;
  }

  // E[phi(v) | x] and E[phi'(v) | x], with the number of points.
  PairMoments conditional_means(double centre, const Quadrature& rule) {
    const Index m = spread_ == 0 ? 1 : Index(rule.nodes.size());
    v_.resize(m), value_.resize(m), first_.resize(m);
    for (Index j = 0; j < m; ++j) v_[j] = spread_ == 0 ? centre : centre + spread_ * rule.nodes[j];
    phi_.evaluate(m, v_.data(), value_.data(), first_.data());
    PairMoments means;
    means.accuracy.points = m;
    for (Index j = 0; j < m; ++j) {
      const double weight = spread_ == 0 ? 1 : rule.weights[j];
      means.value += weight * value_[j];
      means.first += weight * first_[j];
    }
    return means;
  }

  const Nonlinearity& phi_;
  std::vector<double> kinks_, breaks_;
  double root_, mean_, spread_;  // u = root x, v = mean x + spread y
  std::vector<double> v_, value_, first_;
};

inline PairMoments pair_quadrature(const Nonlinearity& phi, double a, double rho, double c, double tol) {
  const Moments u = moments(phi, a, tol), v = moments(phi, c, tol);
  const double value_scale = std::sqrt(u.square * v.square), first_scale = std::sqrt(u.square_first * v.square_first);
  PairQuadrature integral(phi, a, rho, c);
  PairMoments before;
  for (int level = first_level;; ++level) {
    PairMoments now = integral(level);
    now.accuracy.error = std::max(relative_change(now.value, before.value, value_scale),
                                  relative_change(now.first, before.first, first_scale));
    if ((level > first_level && now.accuracy.error <= tol) || level == integral.finest_level()) return now;
    before = now;
  }
}

}  // namespace fisherfield
