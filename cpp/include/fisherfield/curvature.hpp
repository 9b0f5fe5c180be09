// Second derivatives of the outputs with respect to the pre-activation of every unit, by tangents through the layers.
//
// Along the direction of one pre-activation u^l_i the outputs bend as
//
//   d^2 f_r / (d u^l_i)^2 = sum_{m >= l} sum_j c^m[r, j] (d u^m_j / d u^l_i)^2,   c^m = phi''(u^m) o d f_r / d h^m,
//
// because only an activation bends what passes through it: differentiate u^{m+1} = W h^m + b twice along the direction.
#pragma once

#include <fisherfield/product.hpp>
#include <vector>

namespace fisherfield {

// A hidden layer m and the step that leads to it: W (units x units below), slope = phi'(u^{m-1}) (samples x units
// below), c^m (seeds x samples x units), whether u^{m-1} is added to u^m.
template <class T>
struct HiddenStep {
  const T* W;
  const T* slope;
  const T* c;
  Index units;
  bool skip;
};

// out (seeds x samples x units) += sum_{m > l + 1} sum_j c^m[r, t, j] (d u^m_j / d u^l_i)^2, samples [t0, t1), for the
// layer l of so many units; steps lead from l to l + 1, l + 2, ...; what bends in layers l and l + 1 is not added.
// 2 sum_m units units_m units_{m-1} flops a sample, whatever the number of seeds, and 2 seeds sum_m units units_m more.
template <class T>
void add_upper_curvature(Index seeds, Index samples, Index units, const std::vector<HiddenStep<T>>& steps, T* out,
                         Index t0, Index t1) {
  Index widest = 0;
  for (const auto& step : steps) widest = std::max(widest, step.units);
  AlignedBuffer<T> now(units * widest), next(units * widest), scaled(units * widest), sums(units * seeds);
  for (Index t = t0; t < t1; ++t) {
    // du (units x units of layer m), row-major: du[i, j] = d u^m_j / d u^l_i
    T *du = now.data(), *up = next.data();
    const auto& first = steps.front();
    transpose(first.units, units, first.W, units, du, first.units);
    for (Index i = 0; i < units; ++i) {
      for (Index j = 0; j < first.units; ++j) du[i * first.units + j] *= first.slope[t * units + i];
      if (first.skip) du[i * first.units + i] += T(1);
    }
    std::fill(sums.data(), sums.data() + units * seeds, T(0));
    for (std::size_t m = 1; m < steps.size(); ++m) {
      const auto& step = steps[m];
      const Index below = steps[m - 1].units, above = step.units;
      const T* slope = step.slope + t * below;
      for (Index i = 0; i < units; ++i)
        for (Index j = 0; j < below; ++j) scaled.data()[i * below + j] = du[i * below + j] * slope[j];
      product<T>(units, above, below, scaled.data(), below, PackTransposed<T>{step.W, below}, nullptr, up, above,
                 NoFinish{});
      for (Index k = 0; step.skip && k < units * above; ++k) up[k] += du[k];
      for (Index k = 0; k < units * above; ++k) scaled.data()[k] = up[k] * up[k];
      product<T>(units, seeds, above, scaled.data(), above, PackTransposed<T>{step.c + t * above, samples * above},
                 nullptr, sums.data(), seeds, NoFinish{}, true);
      std::swap(du, up);
    }
    for (Index r = 0; r < seeds; ++r)
      for (Index i = 0; i < units; ++i) out[(r * samples + t) * units + i] += sums.data()[i * seeds + r];
  }
}

}  // namespace fisherfield
