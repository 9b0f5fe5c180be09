// Forward, tangent and backward step through one dense layer, possibly with a skip, on a block of its columns.
//
// A step is cut by columns, not by samples: then each task packs its own part of the weights once, and the weights are
// never packed twice. Activations are applied to rows while they are in the cache.
#pragma once

#include <fisherfield/activations.hpp>
#include <fisherfield/product.hpp>

namespace fisherfield {

// Columns [j0, j1) of u = h W^T + b + skip for h (samples x inputs), W (outputs x inputs); then pre = u, out = phi(u),
// slope = phi'(u) and bend = phi''(u), all (samples x outputs). phi null: out = u. b, slope, bend, skip, pre may be
// null, bend must be where slope is.
template <class T>
void layer_forward(Index samples, Index inputs, Index outputs, const T* h, const T* W, const T* b,
                   const Activation* phi, T* out, T* slope, const T* skip, T* pre, T* bend, Index j0, Index j1) {
  const auto activate = [&](Index i, Index rows, Index j, Index columns) {
    if (!phi && !skip && !pre) return;
    for (Index r = i; r < i + rows; ++r) {
      const Index corner = r * outputs + j0 + j;
      T* u = out + corner;
      for (Index c = 0; skip && c < columns; ++c) u[c] += skip[corner + c];
      if (pre) std::copy_n(u, columns, pre + corner);
      if (phi) evaluate<T>(*phi, columns, u, u, slope ? slope + corner : nullptr, bend ? bend + corner : nullptr);
    }
  };
  product<T>(samples, j1 - j0, inputs, h, inputs, PackTransposed<T>{W + j0 * inputs, inputs}, b ? b + j0 : nullptr,
             out + j0, outputs, activate);
}

// Columns [j0, j1) of the derivative of a forward step along dW, db, dh and dskip:
// du = h dW^T + db + dh W^T + dskip, then dpre = du and out = slope o du, all (samples x outputs). Any may be null:
// dW, db, dh and dskip are then zero, slope one, dpre not written. Shapes as in layer_forward.
template <class T>
void layer_tangent(Index samples, Index inputs, Index outputs, const T* h, const T* dW, const T* db, const T* dh,
                   const T* W, const T* slope, T* out, const T* dskip, T* dpre, Index j0, Index j1) {
  const Index n = j1 - j0;
  const auto finish = [&](Index i, Index rows, Index j, Index columns) {
    for (Index r = i; r < i + rows; ++r) {
      const Index corner = r * outputs + j0 + j;
      T* u = out + corner;
      for (Index c = 0; dskip && c < columns; ++c) u[c] += dskip[corner + c];
      if (dpre) std::copy_n(u, columns, dpre + corner);
      for (Index c = 0; slope && c < columns; ++c) u[c] *= slope[corner + c];
    }
  };
  const T* start = db ? db + j0 : nullptr;
  const PackTransposed<T> along{dW ? dW + j0 * inputs : nullptr, inputs}, through{W + j0 * inputs, inputs};
  if (dW && dh) {
    product<T>(samples, n, inputs, h, inputs, along, start, out + j0, outputs, NoFinish{});
    product<T>(samples, n, inputs, dh, inputs, through, nullptr, out + j0, outputs, finish, true);
  } else if (dW) {
    product<T>(samples, n, inputs, h, inputs, along, start, out + j0, outputs, finish);
  } else {
    product<T>(samples, n, dh ? inputs : 0, dh, inputs, through, start, out + j0, outputs, finish);
  }
}

// y = a o y + b. Packets throughout, the remainder in a padded one: a compiler may fuse the multiply-add of a loop's
// vector body and not that of its remainder, and bits would depend on the cut.
template <class T>
void multiply_add(Index n, const T* a, const T* b, T* y) {
  using Packet = typename Micro<T>::Packet;
  using Eigen::internal::ploadu, Eigen::internal::pmadd, Eigen::internal::pstoreu;
  constexpr Index width = Micro<T>::width;
  const auto step = [](const T* p, const T* q, T* r) {
    pstoreu(r, pmadd(ploadu<Packet>(r), ploadu<Packet>(p), ploadu<Packet>(q)));
  };
  const Index whole = n / width * width, rest = n - whole;
  for (Index c = 0; c < whole; c += width) step(a + c, b + c, y + c);
  if (rest == 0) return;
  T p[width] = {}, q[width] = {}, r[width] = {};
  std::copy_n(a + whole, rest, p);
  std::copy_n(b + whole, rest, q);
  std::copy_n(y + whole, rest, r);
  step(p, q, r);
  std::copy_n(r, rest, y + whole);
}

// Columns [j0, j1) of B_l = (B_{l+1} W_{l+1}) o phi'(u_l), plus B_{l+1} where layer l+1 has a skip: next (seeds*samples
// x outputs) with row r*samples + t, W (outputs x inputs), slope (samples x inputs), out (seeds*samples x inputs). Of
// the last `bent` seeds also bend_out (bent*samples x inputs) = (B_{l+1} W_{l+1}) o bend, with bend = phi''(u_l).
template <class T>
void layer_backward(Index seeds, Index samples, Index outputs, Index inputs, const T* next, const T* W, const T* slope,
                    bool skip, T* out, Index bent, const T* bend, T* bend_out, Index j0, Index j1) {
  const Index unbent = (seeds - bent) * samples;
  const auto times_slope = [&](Index i, Index rows, Index j, Index columns) {
    for (Index r = i; r < i + rows; ++r) {
      T* delta = out + r * inputs + j0 + j;
      const Index at = (r % samples) * inputs + j0 + j;
      const T* s = slope + at;
      T* second = r < unbent ? nullptr : bend_out + (r - unbent) * inputs + j0 + j;
      for (Index c = 0; second && c < columns; ++c) second[c] = delta[c] * bend[at + c];
      if (skip)
        multiply_add(columns, s, next + r * outputs + j0 + j, delta);
      else
        for (Index c = 0; c < columns; ++c) delta[c] *= s[c];
    }
  };
  product<T>(seeds * samples, j1 - j0, outputs, next, outputs, PackStraight<T>{W + j0, inputs}, nullptr, out + j0,
             inputs, times_slope);
}

}  // namespace fisherfield
