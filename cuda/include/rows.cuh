// Loops of a grid over matrices: columns along x, rows along y, whatever the sizes of block and grid.
#pragma once

namespace fisherfield::cuda {

using Index = long long;

// body(row, column) for every entry of a matrix.
template <class Body>
__device__ __forceinline__ void for_each_entry(Index rows, Index columns, const Body& body) {
  for (Index row = Index(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += Index(gridDim.y) * blockDim.y)
    for (Index column = Index(blockIdx.x) * blockDim.x + threadIdx.x; column < columns;
         column += Index(gridDim.x) * blockDim.x)
      body(row, column);
}

}  // namespace fisherfield::cuda
