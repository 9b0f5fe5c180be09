// All kernels by name, for nvcc, for NVRTC, and for the host in tests: arguments are numbers and addresses alone.
#include "factors.cuh"
#include "gram.cuh"
#include "layers.cuh"
#include "pairs.cuh"

using namespace fisherfield;
using fisherfield::cuda::Index;

#define FISHERFIELD_LAYER_KERNELS(suffix, T)                                                                           \
  extern "C" __global__ void forward_epilogue_##suffix(Index samples, Index outputs, const T* product, const T* bias,  \
                                                       const T* skip, int kind, double parameter, T* pre, T* out,      \
                                                       T* slope, T* bend) {                                            \
    cuda::forward_epilogue(samples, outputs, product, bias, skip,                                                      \
                           Activation{static_cast<ActivationKind>(kind), parameter}, pre, out, slope, bend);           \
  }                                                                                                                    \
  extern "C" __global__ void tangent_epilogue_##suffix(Index samples, Index outputs, const T* along, const T* through, \
                                                       const T* bias, const T* skip, const T* slope, T* pre, T* out) { \
    cuda::tangent_epilogue(samples, outputs, along, through, bias, skip, slope, pre, out);                             \
  }                                                                                                                    \
  extern "C" __global__ void backward_epilogue_##suffix(Index seeds, Index samples, Index units, const T* slope,       \
                                                        const T* skip, T* out, Index num_bent, const T* bend,          \
                                                        T* bent) {                                                     \
    cuda::backward_epilogue(seeds, samples, units, slope, skip, out, num_bent, bend, bent);                            \
  }                                                                                                                    \
  extern "C" __global__ void layer_jacobian_##suffix(Index seeds, Index samples, Index inputs, Index outputs,          \
                                                     const T* A, const T* B, int bias, T* out, Index offset,           \
                                                     Index parameters) {                                               \
    cuda::layer_jacobian(seeds, samples, inputs, outputs, A, B, bias != 0, out, offset, parameters);                   \
  }                                                                                                                    \
  extern "C" __global__ void sum_of_squares_##suffix(Index seeds, Index samples, Index outputs, const T* B, T* out) {  \
    cuda::sum_of_squares(seeds, samples, outputs, B, out);                                                             \
  }                                                                                                                    \
  extern "C" __global__ void weighted_seeds_##suffix(Index seeds, Index samples, Index outputs, const T* u,            \
                                                     const T* B, T* out) {                                             \
    cuda::weighted_seeds(seeds, samples, outputs, u, B, out);                                                          \
  }                                                                                                                    \
  extern "C" __global__ void seed_products_##suffix(Index seeds, Index samples, Index outputs, const T* B, const T* y, \
                                                    T* out) {                                                          \
    cuda::seed_products(seeds, samples, outputs, B, y, out);                                                           \
  }

FISHERFIELD_LAYER_KERNELS(float64, double)
FISHERFIELD_LAYER_KERNELS(float32, float)

#define FISHERFIELD_GRAM_KERNEL(name, Engine, part)                                                                   \
  extern "C" __global__ void __launch_bounds__(cuda::Engine::threads, 1)                                              \
      name(const cuda::LayerAddresses* layers, int num_layers, int row_seeds, int row_samples, int row_begin,         \
           int row_count, int column_seeds, int column_samples, int column_begin, int column_count, int lower,        \
           int mirrored, double scale, const cuda::Engine::Scalar* inputs, cuda::Engine::Scalar* out, Index stride) { \
    const cuda::GramArguments<cuda::Engine::Scalar> arguments{                                                        \
        layers,                                                                                                       \
        num_layers,                                                                                                   \
        {row_seeds, row_samples, row_begin, row_count},                                                               \
        {column_seeds, column_samples, column_begin, column_count},                                                   \
        lower != 0,                                                                                                   \
        mirrored != 0,                                                                                                \
        static_cast<cuda::Engine::Scalar>(scale),                                                                     \
        inputs,                                                                                                       \
        out,                                                                                                          \
        stride};                                                                                                      \
    cuda::GramTile<cuda::Engine, cuda::Part::part> tile(arguments);                                                   \
    tile();                                                                                                           \
  }

#define FISHERFIELD_GRAM_KERNELS(mode, Engine)                \
  FISHERFIELD_GRAM_KERNEL(gram_whole_##mode, Engine, whole)   \
  FISHERFIELD_GRAM_KERNEL(gram_inputs_##mode, Engine, inputs) \
  FISHERFIELD_GRAM_KERNEL(gram_seeds_##mode, Engine, seeds)

FISHERFIELD_GRAM_KERNELS(float64, Float64)
FISHERFIELD_GRAM_KERNELS(float32, Float32)
FISHERFIELD_GRAM_KERNELS(tf32, Reduced<cuda::Tf32>)
FISHERFIELD_GRAM_KERNELS(tf32x3, Reduced<cuda::Tf32Pair>)
FISHERFIELD_GRAM_KERNELS(bf16x3, Reduced<cuda::Bf16Pair>)

// Mean-field theory, which is computed in float64: a hidden layer of pairs with a closed form, one by Mehler's series,
// and what they add up to.
extern "C" __global__ void pair_closed_float64(Index row, Index rows, Index column, Index columns, double weight_var,
                                               double bias_var, int skip, const double* variance, const double* root,
                                               int kind, double parameter, const double* qhat, double* q, double* value,
                                               double* first) {
  const cuda::PairTile tile{row, rows, column, columns};
  pair_forms::dispatch(Activation{static_cast<ActivationKind>(kind), parameter}, [=](auto form) {
    cuda::pair_layer(tile, weight_var, bias_var, skip != 0, qhat, q, value, first,
                     cuda::ClosedPairs<decltype(form)>{form, variance, root});
  });
}

extern "C" __global__ void pair_series_float64(Index row, Index rows, Index column, Index columns, double weight_var,
                                               double bias_var, int skip, const double* variance, const double* root,
                                               const double* mean, const double* square, const double* square_first,
                                               const double* even, Index even_rows, const double* odd, Index odd_rows,
                                               const double* tails, Index tail_rows, Index stride, double tol,
                                               unsigned char* left, const double* qhat, double* q, double* value,
                                               double* first) {
  const cuda::MehlerPairs pairs{
      variance,           root,   mean, square, square_first, {even, even_rows}, {odd, odd_rows},
      {tails, tail_rows}, stride, tol,  left};
  cuda::pair_layer(cuda::PairTile{row, rows, column, columns}, weight_var, bias_var, skip != 0, qhat, q, value, first,
                   pairs);
}

extern "C" __global__ void pair_dual_float64(Index row, Index rows, Index column, Index columns, Index depth,
                                             const double* layers, const double* qhat, double* first,
                                             const double* diagonal, double* out, Index samples) {
  cuda::pair_dual(cuda::PairTile{row, rows, column, columns}, depth, layers, qhat, first, diagonal, out, samples);
}
