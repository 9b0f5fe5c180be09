// What the kernels take from the machine: asynchronous copies, tensor-core products, shuffles. Compute capability 8.0.
//
// Tests compile the kernels for the host with primitives of their own; these are then left out.
#ifndef FISHERFIELD_CUDA_PRIMITIVES
#define FISHERFIELD_CUDA_PRIMITIVES

namespace fisherfield::cuda {

// Dynamic shared memory of the block.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
}

// Copies 4, 8 or 16 bytes to shared memory, of which the first `valid` are read and the others are zero.
template <int bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int valid) {
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(valid) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(to), "l"(global), "n"(bytes), "r"(valid)
                 : "memory");
}

// Closes a group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most so many groups of this thread are on their way.
template <int groups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(groups) : "memory");
}

// Products of a warp. Lane 4 g + t holds
//
//   f64, 8 x 8 x 4:             a at (g, t); b at (t, g); c at (g, 2t), (g, 2t + 1)
//   16 x 8 x k, half = k / 2:   a at rows g, g + 8 of the first half of the columns, then of the second;
//                               b at column g of either half of the rows; c at (g, 2t), (g, 2t + 1), then row g + 8
//
// a register has one tf32 number, of column (of b: row) t of its half, or two bf16 numbers, of 2t and 2t + 1.
__device__ __forceinline__ void mma_f64(double (&c)[2], double a, double b) {
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
      : "+d"(c[0]), "+d"(c[1])
      : "d"(a), "d"(b));
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The nearest tf32 number (10 bits after the point), as bits of a float.
__device__ __forceinline__ unsigned as_tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

// The nearest bf16 numbers (7 bits after the point), the first in the low half.
__device__ __forceinline__ unsigned as_bf16_pair(float first, float second) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}

__device__ __forceinline__ float bits_as_float(unsigned bits) { return __uint_as_float(bits); }

// The sum of a value over the lanes of a warp, in lane 0.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

}  // namespace fisherfield::cuda

#endif
