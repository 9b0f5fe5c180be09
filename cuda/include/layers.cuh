// What follows the matrix product of a step through a dense layer, in one pass over its result: the steps are those of
// fisherfield/layer.hpp, the activations those of fisherfield/jets.hpp.
#pragma once

#include <fisherfield/jets.hpp>

#include "rows.cuh"

namespace fisherfield::cuda {

// u = product + bias + skip for product (samples x outputs); then pre = u, out = phi(u), slope = phi'(u) and
// bend = phi''(u). bias, skip, pre, slope, bend may be null; out may be product.
template <class T>
__device__ void forward_epilogue(Index samples, Index outputs, const T* product, const T* bias, const T* skip,
                                 Activation phi, T* pre, T* out, T* slope, T* bend) {
  dispatch(phi, [=](auto jet) {
    for_each_entry(samples, outputs, [=](Index t, Index i) {
      const Index at = t * outputs + i;
      const T u = product[at] + (bias ? bias[i] : T(0)) + (skip ? skip[at] : T(0));
      const Jet<T> y = jets::at(jet, u);
      if (pre) pre[at] = u;
      out[at] = y.value;
      if (slope) slope[at] = y.first;
      if (bend) bend[at] = y.second;
    });
  });
}

// du = along + through + bias + skip, then pre = du and out = slope o du. Any but out may be null: not added, slope
// one, pre not written; out may be along or through.
template <class T>
__device__ void tangent_epilogue(Index samples, Index outputs, const T* along, const T* through, const T* bias,
                                 const T* skip, const T* slope, T* pre, T* out) {
  for_each_entry(samples, outputs, [=](Index t, Index i) {
    const Index at = t * outputs + i;
    T u = bias ? bias[i] : T(0);
    if (along) u += along[at];
    if (through) u += through[at];
    if (skip) u += skip[at];
    if (pre) pre[at] = u;
    out[at] = slope ? slope[at] * u : u;
  });
}

// For products B W in out (seeds*samples x units) with row r*samples + t: bent = (B W) o bend of the last `num_bent`
// seeds, then out = (B W) o slope (+ skip, of the shape of out). skip, bend and bent may be null.
template <class T>
__device__ void backward_epilogue(Index seeds, Index samples, Index units, const T* slope, const T* skip, T* out,
                                  Index num_bent, const T* bend, T* bent) {
  const Index unbent = (seeds - num_bent) * samples;
  for_each_entry(seeds * samples, units, [=](Index row, Index i) {
    const Index at = row * units + i, of_sample = (row % samples) * units + i;
    const T delta = out[at];
    if (row >= unbent) bent[at - unbent * units] = delta * bend[of_sample];
    out[at] = delta * slope[of_sample] + (skip ? skip[at] : T(0));
  });
}

}  // namespace fisherfield::cuda
