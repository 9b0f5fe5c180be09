// Spectral laws made from a point mass by free operations, and their transforms through subordination.
//
// A law enters through m(z) = z G(z) - 1 = int x / (z - x) dmu(x). Free multiplication by a law nu leaves m as it is
// and moves z to z / S_nu(m) (Voiculescu), so that a chain of operations is an explicit map from the point t = z_0 - c,
// where the law is a point mass at c, to the point z where the transform is wanted. One equation in t is left, whatever
// the number of operations; Newton's method follows its solution from far above the spectrum down to the real axis. The
// points z_0, z_1, ... on the way are the subordination functions: in the upper half plane they are unique (Belinschi,
// Bercovici 2007), so that a solution whose points all lie there is the right one.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace fisherfield {

using Index = std::ptrdiff_t;

// Complex numbers without the recovery of infinities that std::complex pays for.
struct Complex {
  double re = 0, im = 0;
};
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
inline Complex operator+(Complex a, double b) { return {a.re + b, a.im}; }
inline Complex operator*(Complex a, double b) { return {a.re * b, a.im * b}; }
inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Complex operator/(Complex a, Complex b) {
  const double scale = 1 / (b.re * b.re + b.im * b.im);
  return {(a.re * b.re + a.im * b.im) * scale, (a.im * b.re - a.re * b.im) * scale};
}
inline double magnitude(Complex a) { return std::sqrt(a.re * a.re + a.im * a.im); }
inline bool finite(Complex a) { return std::isfinite(a.re) && std::isfinite(a.im); }

// Law of finitely many atoms x > 0 with weights w; what the weights leave of 1 is the mass at zero.
class DiscreteLaw {
 public:
  DiscreteLaw() = default;
  DiscreteLaw(const std::vector<double>& x, const std::vector<double>& w) : size_(Index(x.size())), x_(x), w_(w) {
    const std::size_t padded = (x.size() + kLanes - 1) / kLanes * kLanes;
    if (padded > 0) x_.resize(padded, x.back());
    w_.resize(padded, 0.0);
  }

  Index size() const { return size_; }
  double atom(Index i) const { return x_[i]; }
  double weight(Index i) const { return w_[i]; }

  // m(z) and its derivative.
  std::pair<Complex, Complex> transform(Complex z) const {
    Lanes re = Lanes::Zero(), im = Lanes::Zero(), slope_re = Lanes::Zero(), slope_im = Lanes::Zero();
    const double y2 = z.im * z.im;
    for (std::size_t i = 0; i < x_.size(); i += kLanes) {
      const Lanes x = Eigen::Map<const Lanes>(&x_[i]), a = z.re - x, scale = (a * a + y2).inverse(),
                  weight = Eigen::Map<const Lanes>(&w_[i]) * x * scale;
      re += weight * a;
      im += weight;
      slope_re += weight * scale * (a * a - y2);
      slope_im += weight * scale * a;
    }
    return {{total(re), -total(im) * z.im}, {-total(slope_re), 2 * total(slope_im) * z.im}};
  }

  double largest() const { return *std::max_element(x_.begin(), x_.end()); }

  double moment(int k) const {
    double sum = 0;
    for (Index i = 0; i < size_; ++i) sum += w_[i] * std::pow(x_[i], k);
    return sum;
  }

 private:
  static constexpr std::size_t kLanes = 8;
  using Lanes = Eigen::Array<double, int(kLanes), 1>;

  static double total(const Lanes& lanes) {
    double sum = 0;
    for (std::size_t i = 0; i < kLanes; ++i) sum += lanes[Index(i)];
    return sum;
  }

  Index size_ = 0;
  std::vector<double> x_, w_;  // padded with copies of the last atom, of weight zero
};

enum class Step {
  shift,    // mu + value
  scale,    // value mu
  product,  // mu free times a discrete law
  wishart,  // mu free times X^T X / n, X with value * n rows and n columns of independent entries of variance 1
  resize    // the same non-zero eigenvalues in value times the dimension
};

struct Operation {
  Step step;
  double value;
  DiscreteLaw law;  // of Step::product
};

struct Solution {
  Complex stieltjes;      // G(z) = int dmu(x) / (z - x)
  Complex log_potential;  // int log(z - x) dmu(x); at z = x + i0 its imaginary part is pi mu((x, inf))
  double height;          // imaginary part at which the equation was solved
  double residual;        // |z(t) - z| over |z|, or 1e-8 of the bound
  int evaluations;        // of the map and its derivative
  bool converged;
};

class Subordination {
 public:
  Subordination(double point, std::vector<Operation> operations) : point_(point), operations_(std::move(operations)) {
    bound_ = far_ = point;
    for (const Operation& o : operations_) {
      switch (o.step) {
        case Step::shift:
          bound_ += o.value;
          break;
        case Step::scale:
          bound_ *= o.value, slope_ *= o.value;
          break;
        case Step::product:
          ++products_, bound_ *= o.law.largest(), slope_ *= o.law.moment(1);
          break;
        case Step::wishart:
          bound_ *= (1 + std::sqrt(o.value)) * (1 + std::sqrt(o.value)), slope_ *= o.value;
          break;
        case Step::resize:
          break;
      }
      far_ = std::max(far_, bound_ / slope_);
    }
  }

  // No eigenvalue is larger.
  double bound() const { return bound_; }

  // Solve at z in the upper half plane, or on the real axis in the limit from above.
  Solution solve(double x, double height) const {
    Walk walk = start(height);
    const double lowest = std::max(height, kLowest * bound_);
    double shrink = 0.5;
    while (walk.z.im > lowest) {
      const Complex target{x, std::max(walk.z.im * shrink, lowest)};
      Walk next = walk;
      if (newton(next, target, kIterations) && plausible(walk, next)) {
        walk = next;
        shrink = std::max(shrink * shrink, 1e-8);
      } else {
        walk.evaluations = next.evaluations;
        shrink = std::sqrt(shrink);
        if (shrink > kSmallestStep) return conclude(walk, walk.z.im <= kCertified * bound_);
      }
    }
    if (height < lowest) {
      Walk next = walk;
      if (newton(next, {x, height}, kIterationsOnAxis) && magnitude(next.t - walk.t) < 0.1 * magnitude(walk.t))
        walk = next;
      else
        walk.evaluations = next.evaluations;
    }
    refine(walk);
    return conclude(walk, true);
  }

 private:
  // Relative to the bound: where the walk ends above the axis, and above which all points must lie in the upper half
  // plane; below, rounding decides about their sign, and small changes vouch for the solution.
  static constexpr double kLowest = 1e-14, kCertified = 1e-9;
  static constexpr double kStart = 8, kSmallestStep = 0.98, kQuadratic = 1e-5, kVanishing = 1e-25, kSolved = 1e-8;
  static constexpr int kIterations = 8, kIterationsOnAxis = 60;

  // A place on the way down, with derivatives by t.
  struct Walk {
    Complex t, z, m, dz;
    std::vector<Complex> inner, dinner;  // where the transforms of the discrete laws are m
    double inner_error = 0;
    bool certified = false;
    int evaluations = 0;
  };

  // m, z and everything inner at walk.t. Inner points make one Newton step each: they converge along with t. The first
  // time they start from the first two terms of m(z) = mu_1 / z + mu_2 / z^2 + ...
  void evaluate(Walk& walk, bool first = false) const {
    const Complex t = walk.t;
    Complex m = Complex{point_, 0} / t, z = t + point_, dz{1, 0}, dm = m / t * -1.0;
    bool upper = t.im > 0;
    double worst = 0;
    std::size_t k = 0;
    for (const Operation& o : operations_) {
      switch (o.step) {
        case Step::shift: {
          const Complex r = Complex{o.value, 0} / z;
          dm = dm + dm * r - (m + 1) * r / z * dz;
          m = m + (m + 1) * r;
          z = z + o.value;
          break;
        }
        case Step::scale:
          z = z * o.value;
          dz = dz * o.value;
          break;
        case Step::product: {
          Complex factor, dfactor;  // 1 / S(m) = inner m / (1 + m)
          if (o.law.size() == 1) {
            const double x = o.law.atom(0), p = o.law.weight(0);
            const Complex one = Complex{1, 0} / (m + 1);
            upper = upper && m.im < 0;
            factor = (m + p) * one * x;
            dfactor = one * one * (x * (1 - p));
          } else {
            if (first) walk.inner[k] = Complex{o.law.moment(1), 0} / m + o.law.moment(2) / o.law.moment(1);
            const auto [value, slope] = o.law.transform(walk.inner[k]);
            const Complex change = (m - value) / slope, ratio = m / (m + 1);
            walk.inner[k] = walk.inner[k] + change;
            walk.dinner[k] = dm / slope;
            worst = std::max(worst, magnitude(change) / magnitude(walk.inner[k]));
            upper = upper && walk.inner[k].im > 0;
            factor = walk.inner[k] * ratio;
            dfactor = ratio / slope + walk.inner[k] / ((m + 1) * (m + 1));
          }
          ++k;
          dz = dz * factor + z * dfactor * dm;
          z = z * factor;
          upper = upper && z.im > 0;
          break;
        }
        case Step::wishart:
          // The inner point is (1 + m)(a + m) / m, at which a / m is the other branch of the transform.
          upper = upper && m.re * m.re + m.im * m.im < o.value && ((m + 1) * (m + o.value) / m).im > 0;
          dz = dz * (m + o.value) + z * dm;
          z = z * (m + o.value);
          upper = upper && z.im > 0;
          break;
        case Step::resize:
          m = m * (1 / o.value);
          dm = dm * (1 / o.value);
          break;
      }
    }
    walk.z = z;
    walk.m = m;
    walk.dz = dz;
    walk.inner_error = worst;
    walk.certified = upper;
    ++walk.evaluations;
  }

  // Far above the spectrum and the wanted height, where the map is close to linear.
  Walk start(double height) const {
    Walk walk;
    walk.t = {0, std::max(kStart * far_, 2 * height / slope_)};
    walk.inner.resize(products_);
    walk.dinner.resize(products_);
    evaluate(walk, true);
    for (int i = 0; i < 50 && walk.inner_error > 1e-15; ++i) evaluate(walk);
    return walk;
  }

  static void move(Walk& walk, Complex dt) {
    walk.t = walk.t + dt;
    for (std::size_t k = 0; k < walk.inner.size(); ++k) walk.inner[k] = walk.inner[k] + walk.dinner[k] * dt;
  }

  bool newton(Walk& walk, Complex target, int iterations) const {
    for (int i = 0; i < iterations; ++i) {
      const Complex dt = (target - walk.z) / walk.dz;
      move(walk, dt);
      if (!finite(walk.t)) return false;
      const double settled = walk.inner_error;
      evaluate(walk);
      const double residual = magnitude(walk.z - target) / (magnitude(target) + kQuadratic * bound_);
      if (i > 0 && magnitude(dt) < kQuadratic * magnitude(walk.t) && settled < kQuadratic && residual < kQuadratic) {
        walk.z = target;
        return finite(walk.m);
      }
    }
    return false;
  }

  // Close to an edge, where dz/dt vanishes, small steps are not yet small residuals: go on while they fall, or while
  // their imaginary part does, which is all that tells a gap from a band.
  void refine(Walk& walk) const {
    const Complex target = walk.z;
    evaluate(walk);
    Complex residual = target - walk.z;
    for (int i = 0; i < kIterationsOnAxis; ++i) {
      Walk next = walk;
      move(next, residual / walk.dz);
      evaluate(next);
      const Complex reached = target - next.z;
      if (!(magnitude(reached) < 0.5 * magnitude(residual) ||
            std::abs(reached.im) < 0.5 * std::abs(residual.im) - kVanishing * magnitude(target)))
        break;
      if (magnitude(reached) > 2 * magnitude(residual)) break;
      walk = next;
      residual = reached;
    }
    walk.z = target;
  }

  bool plausible(const Walk& from, const Walk& to) const {
    if (to.certified) return true;
    return to.z.im < kCertified * bound_ && magnitude(to.t - from.t) < 0.5 * magnitude(from.t);
  }

  Solution conclude(const Walk& walk, bool reached) const {
    Walk check = walk;
    evaluate(check);
    const double residual = magnitude(check.z - walk.z) / (magnitude(walk.z) + kSolved * bound_);
    const Complex stieltjes = (walk.m + 1) / walk.z;
    const bool converged = reached && residual < kSolved && finite(stieltjes);
    return {stieltjes, log_potential(walk), walk.z.im, residual, walk.evaluations + 1, converged};
  }

  // Free multiplication adds up: with Phi(z) = int log(1 - x / z) dmu, and dPhi = m dlog z, the relation between the
  // points, z' = z z_nu m / (1 + m), gives Phi' = Phi + Phi_nu + log(1 + m).
  Complex log_potential(const Walk& walk) const {
    Complex m = Complex{point_, 0} / walk.t, z = walk.t + point_, potential = log_above(walk.t);
    std::size_t k = 0;
    for (const Operation& o : operations_) {
      switch (o.step) {
        case Step::shift:
          m = m + (m + 1) * (Complex{o.value, 0} / z), z = z + o.value;
          break;
        case Step::scale:
          z = z * o.value;
          potential = potential + std::log(o.value);
          break;
        case Step::product: {
          Complex phi = potential - log_above(z) + log_below(m + 1);
          if (o.law.size() == 1) {
            const double p = o.law.weight(0);
            phi = phi + (log_below(m + p) * -1.0 + std::log(p)) * p;
            z = z * ((m + p) / (m + 1)) * o.law.atom(0);
          } else {
            const Complex inner = walk.inner[k];
            for (Index i = 0; i < o.law.size(); ++i)
              phi = phi + log_above((inner + -o.law.atom(i)) / inner) * o.law.weight(i);
            z = z * (inner * m / (m + 1));
          }
          ++k;
          potential = log_above(z) + phi;
          break;
        }
        case Step::wishart: {  // Phi_nu = m - log(1 + m) - a log(1 + m / a)
          const Complex phi = potential - log_above(z) + m - log_below(m * (1 / o.value) + 1) * o.value;
          z = z * (m + o.value);
          potential = log_above(z) + phi;
          break;
        }
        case Step::resize:
          potential = log_above(z) + (potential - log_above(z)) * (1 / o.value);
          m = m * (1 / o.value);
          break;
      }
    }
    return potential;
  }

  // Logarithms in the closed upper and lower half plane, whatever sign rounding gave a vanishing imaginary part.
  static Complex log_above(Complex a) { return {std::log(magnitude(a)), std::atan2(std::abs(a.im), a.re)}; }
  static Complex log_below(Complex a) { return {std::log(magnitude(a)), -std::atan2(std::abs(a.im), a.re)}; }

  double point_, bound_;
  double slope_ = 1;  // of z by t, far above the spectrum
  double far_;        // |t| beyond which z is outside of the spectrum after every operation
  std::vector<Operation> operations_;
  std::size_t products_ = 0;
};

}  // namespace fisherfield
