// The packed product on AMX tiles; gemm.h says what it does.
#pragma once

#include "slmi/kernels/cpu/gemm.h"

namespace slmi::kernels::cpu::detail {

void gemm_amx(const GemmRows& rows, const Bf16* packed, int64_t n, Bf16* y, int64_t y_stride, int64_t begin,
              int64_t end, int64_t panel_begin, int64_t panel_end);

}  // namespace slmi::kernels::cpu::detail
