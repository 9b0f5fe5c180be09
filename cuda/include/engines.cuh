// How a block multiplies: for each precision mode the shape of its tile, and acc += X Y^T for panels X (rows x depth)
// and Y (columns x depth) in shared memory. Which thread holds which entry is told by row and column.
//
// Rows of a panel are `stride` apart, so that the lanes of a warp read from different banks.
#pragma once

#include "primitives.cuh"

namespace fisherfield::cuda {

// Entries that a thread holds, in registers: all loops over them are unrolled.
template <class T, int n>
struct Accumulator {
  T entry[n];
  __device__ __forceinline__ void fill(T value) {
#pragma unroll
    for (int e = 0; e < n; ++e) entry[e] = value;
  }
};

struct Lane {
  int warp, lane;
  __device__ __forceinline__ Lane() : warp(threadIdx.x / 32), lane(threadIdx.x % 32) {}
};

// float32 on the ordinary units: every entry is one chain of fused multiply-adds over k in ascending order, as on the
// CPU. 4 x 2 warps of 4 x 8 lanes; a lane holds every 4th row and every 8th column of its warp's 32 x 64.
struct Float32 {
  using Scalar = float;
  static constexpr int rows = 128, columns = 128, threads = 256, depth = 16, stride = 20, entries = 64;

  static __device__ __forceinline__ int first_row() { return Lane().warp / 2 * 32 + Lane().lane / 8; }
  static __device__ __forceinline__ int first_column() { return Lane().warp % 2 * 64 + Lane().lane % 8; }
  static __device__ __forceinline__ int row(int e) { return first_row() + e / 8 * 4; }
  static __device__ __forceinline__ int column(int e) { return first_column() + e % 8 * 8; }

  static __device__ __forceinline__ void multiply(Accumulator<float, entries>& acc, const float* X, const float* Y) {
    const float* x = X + first_row() * stride;
    const float* y = Y + first_column() * stride;
#pragma unroll 1  // more would keep more rows at hand than there are registers
    for (int k = 0; k < depth; k += 4) {
      float4 a[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) a[i] = *reinterpret_cast<const float4*>(x + i * 4 * stride + k);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float4 b = *reinterpret_cast<const float4*>(y + j * 8 * stride + k);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& c = acc.entry[i * 8 + j];
          c = fmaf(a[i].x, b.x, c);
          c = fmaf(a[i].y, b.y, c);
          c = fmaf(a[i].z, b.z, c);
          c = fmaf(a[i].w, b.w, c);
        }
      }
    }
  }
};

// float64 on the tensor cores, which round as IEEE asks. 4 x 2 warps of 32 x 32, products 8 x 8 x 4.
struct Float64 {
  using Scalar = double;
  static constexpr int rows = 128, columns = 64, threads = 256, depth = 16, stride = 20, entries = 32;

  static __device__ __forceinline__ int first_row() { return Lane().warp / 2 * 32 + Lane().lane / 4; }
  static __device__ __forceinline__ int warp_column() { return Lane().warp % 2 * 32; }
  static __device__ __forceinline__ int row(int e) { return first_row() + e / 8 * 8; }
  static __device__ __forceinline__ int column(int e) {
    return warp_column() + e / 2 % 4 * 8 + Lane().lane % 4 * 2 + e % 2;
  }

  static __device__ __forceinline__ void multiply(Accumulator<double, entries>& acc, const double* X, const double* Y) {
    const int g = Lane().lane / 4, t = Lane().lane % 4;
    const double* x = X + first_row() * stride + t;
    const double* y = Y + (warp_column() + g) * stride + t;
#pragma unroll
    for (int k = 0; k < depth; k += 4) {
      double b[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) b[j] = y[j * 8 * stride + k];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const double a = x[i * 8 * stride + k];
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_f64(reinterpret_cast<double (&)[2]>(acc.entry[(i * 4 + j) * 2]), a, b[j]);
      }
    }
  }
};

// A float as one tf32 number: relative rounding 2^-11.
struct Tf32 {
  static constexpr int depth = 8, parts = 1, stride = 20;
  // Register `half` of column (or row) t, from the depth numbers at x.
  static __device__ __forceinline__ void load(const float* x, int t, int half, unsigned (&part)[parts]) {
    part[0] = as_tf32(x[t + 4 * half]);
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    mma_tf32(c, a, b);
  }
};

// A float as the sum of two tf32 numbers, 2^-22 off at most.
struct Tf32Pair : Tf32 {
  static constexpr int parts = 2;
  static __device__ __forceinline__ void load(const float* x, int t, int half, unsigned (&part)[parts]) {
    const float value = x[t + 4 * half];
    part[0] = as_tf32(value);
    part[1] = as_tf32(value - bits_as_float(part[0]));
  }
};

// A float as the sum of two bf16 numbers, 2^-17 off at most; two neighbours a register.
struct Bf16Pair {
  static constexpr int depth = 16, parts = 2, stride = 24;
  static __device__ __forceinline__ void load(const float* x, int t, int half, unsigned (&part)[parts]) {
    const float2 value = *reinterpret_cast<const float2*>(x + 2 * t + 8 * half);
    part[0] = as_bf16_pair(value.x, value.y);
    part[1] = as_bf16_pair(value.x - bits_as_float(part[0] << 16), value.y - bits_as_float(part[0] & 0xffff0000u));
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    mma_bf16(c, a, b);
  }
};

// float32 rounded to a format, or to sums of two numbers of it, on the tensor cores, which accumulate in float32. Of
// the four products of two sums the smallest is left out. 2 x 4 warps of 64 x 32, products 16 x 8 x depth.
template <class Format>
struct Reduced {
  using Scalar = float;
  static constexpr int rows = 128, columns = 128, threads = 256, depth = 16, stride = Format::stride, entries = 64;
  static constexpr int parts = Format::parts;

  static __device__ __forceinline__ int first_row() { return Lane().warp / 4 * 64 + Lane().lane / 4; }
  static __device__ __forceinline__ int warp_column() { return Lane().warp % 4 * 32; }
  static __device__ __forceinline__ int row(int e) { return first_row() + e / 16 * 16 + e / 2 % 2 * 8; }
  static __device__ __forceinline__ int column(int e) {
    return warp_column() + e / 4 % 4 * 8 + Lane().lane % 4 * 2 + e % 2;
  }

  static __device__ __forceinline__ void multiply(Accumulator<float, entries>& acc, const float* X, const float* Y) {
    const int g = Lane().lane / 4, t = Lane().lane % 4;
    const float* x = X + first_row() * stride;
    const float* y = Y + (warp_column() + g) * stride;
#pragma unroll
    for (int k = 0; k < depth; k += Format::depth) {
      unsigned b[4][parts][2];
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned part[parts];
          Format::load(y + j * 8 * stride + k, t, half, part);
#pragma unroll
          for (int p = 0; p < parts; ++p) b[j][p][half] = part[p];
        }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        unsigned a[parts][4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          unsigned part[parts];
          Format::load(x + (i * 16 + r % 2 * 8) * stride + k, t, r / 2, part);
#pragma unroll
          for (int p = 0; p < parts; ++p) a[p][r] = part[p];
        }
        if constexpr (parts == 2) {
          add_products(acc, i, a[1], b, 0);
          add_products(acc, i, a[0], b, 1);
        }
        add_products(acc, i, a[0], b, 0);
      }
    }
  }

 private:
  // Products of four columns, which do not wait for each other.
  static __device__ __forceinline__ void add_products(Accumulator<float, entries>& acc, int i, const unsigned (&a)[4],
                                                      const unsigned (&b)[4][parts][2], int part) {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      Format::multiply(reinterpret_cast<float (&)[4]>(acc.entry[(i * 4 + j) * 4]), a, b[j][part]);
  }
};

}  // namespace fisherfield::cuda
