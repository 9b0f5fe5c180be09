// Moments of a nonlinearity over pairs of correlated Gaussian inputs of given variances: rows of closed forms.
//
// A kernel is made once for the variances of all inputs and then asked for rows of pairs.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moments.hpp"
#include "pair_forms.hpp"

namespace fisherfield {

// Row-major numbers.
struct Table {
  Index rows = 0, columns = 0;
  std::vector<double> entries;
  Table() = default;
  Table(Index r, Index c, double fill = 0.0) : rows(r), columns(c), entries(r * c, fill) {}
  // Keeps the rows there are, new ones are zero.
  void resize(Index r, Index c) { rows = r, columns = c, entries.resize(r * c, 0.0); }
  double* row(Index i) { return entries.data() + i * columns; }
  const double* row(Index i) const { return entries.data() + i * columns; }
};

class PairKernel {
 public:
  explicit PairKernel(std::vector<double> variances) : variances_(std::move(variances)), roots_(variances_.size()) {
    std::transform(variances_.begin(), variances_.end(), roots_.begin(), [](double q) { return std::sqrt(q); });
  }
  virtual ~PairKernel() = default;

  // E phi(u_s)^2 and E phi'(u_s)^2 for every s.
  virtual void diagonal(double* square, double* square_first) const = 0;

  // E phi(u_s)phi(u_t) and E phi'(u_s)phi'(u_t) for t in [begin, end), with cov[t - begin] = E u_s u_t.
  virtual Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const = 0;

  Index size() const { return Index(variances_.size()); }
  const Accuracy& accuracy() const { return accuracy_; }

 protected:
  // Rows are worked in aligned blocks, so that an answer does not depend on where its row begins.
  static constexpr Index lanes = 32;
  static Index next_block(Index t) { return (t / lanes + 1) * lanes; }
  Index padded() const { return (size() + lanes - 1) / lanes * lanes; }

  const double& variance(Index s) const { return variances_[s]; }
  double root(Index s) const { return roots_[s]; }

  Accuracy accuracy_;

 private:
  std::vector<double> variances_, roots_;
};

// A closed form gives (value, first) from the two variances and the covariance; the kernel maps it over rows.
template <class Form>
class ClosedFormKernel final : public PairKernel {
 public:
  ClosedFormKernel(Form form, std::vector<double> variances) : PairKernel(std::move(variances)), form_(form) {}

  void diagonal(double* square, double* square_first) const override {
    for (Index s = 0; s < size(); ++s) {
      const auto [value, first] = form_(variance(s), variance(s), variance(s), root(s), root(s));
      square[s] = value;
      square_first[s] = first;
    }
  }

  Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const override {
    const double a = variance(s), su = root(s);
    for (Index t = begin; t < end; ++t) {
      const auto [f, d] = form_(a, cov[t - begin], variance(t), su, root(t));
      value[t - begin] = f;
      first[t - begin] = d;
    }
    return {};
  }

 private:
  Form form_;
};

}  // namespace fisherfield
