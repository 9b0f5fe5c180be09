// Forward and backward step through one dense layer, on a block of its columns.
//
// A step is cut by columns, not by samples: then each task packs its own part of the weights once, and the weights are
// never packed twice. Activations are applied to rows while they are in the cache.
#pragma once

#include <fisherfield/activations.hpp>
#include <fisherfield/product.hpp>

namespace fisherfield {

// Columns [j0, j1) of u = h W^T + b for h (samples x inputs), W (outputs x inputs); then out = phi(u) and
// slope = phi'(u), both (samples x outputs). phi null: out = u. b, slope may be null.
template <class T>
void layer_forward(Index samples, Index inputs, Index outputs, const T* h, const T* W, const T* b,
                   const Activation* phi, T* out, T* slope, Index j0, Index j1) {
  const auto activate = [&](Index i, Index rows, Index j, Index columns) {
    if (!phi) return;
    for (Index r = i; r < i + rows; ++r) {
      T* u = out + r * outputs + j0 + j;
      evaluate<T>(*phi, columns, u, u, slope ? slope + r * outputs + j0 + j : nullptr, nullptr);
    }
  };
  product<T>(samples, j1 - j0, inputs, h, inputs, PackTransposed<T>{W + j0 * inputs, inputs}, b ? b + j0 : nullptr,
             out + j0, outputs, activate);
}

// Columns [j0, j1) of B_l = (B_{l+1} W_{l+1}) o phi'(u_l): next (seeds*samples x outputs) with row r*samples + t,
// W (outputs x inputs), slope (samples x inputs), out (seeds*samples x inputs).
template <class T>
void layer_backward(Index seeds, Index samples, Index outputs, Index inputs, const T* next, const T* W, const T* slope,
                    T* out, Index j0, Index j1) {
  const auto times_slope = [&](Index i, Index rows, Index j, Index columns) {
    for (Index r = i; r < i + rows; ++r) {
      T* delta = out + r * inputs + j0 + j;
      const T* s = slope + (r % samples) * inputs + j0 + j;
      for (Index c = 0; c < columns; ++c) delta[c] *= s[c];
    }
  };
  product<T>(seeds * samples, j1 - j0, outputs, next, outputs, PackStraight<T>{W + j0, inputs}, nullptr, out + j0,
             inputs, times_slope);
}

}  // namespace fisherfield
