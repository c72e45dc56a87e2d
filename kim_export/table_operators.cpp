#include "table_operators.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

// The inner loops are compiled for several generations of processors; the loader picks. GCC knows these names since 12.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
#define KIMGNN_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define KIMGNN_CLONES
#endif

namespace kimgnn {
namespace {

using Index = std::int64_t;

constexpr std::size_t kRows = 6;    // of a table, that are not zero at a distance
constexpr Index kRowsOfTask = 16;   // of the output

// A tensor of two dimensions, or of one, which then has one column.
template <typename T>
struct Matrix {
  T* data;
  Index rows;
  Index columns;

  T* row(Index index) const { return data + index * columns; }
};

// y += (Σ_k w_k t_k) x, element by element, with t_k the k-th of six rows of a table that follow each other.
template <typename T>
KIMGNN_CLONES void add_filtered(T* __restrict y, const T* __restrict x, const T* __restrict t, const T* w, Index n) {
  const T w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5];
#pragma omp simd
  for (Index c = 0; c < n; ++c) {
    y[c] += x[c] * (w0 * t[c] + w1 * t[c + n] + w2 * t[c + 2 * n] + w3 * t[c + 3 * n] + w4 * t[c + 4 * n] +
                    w5 * t[c + 5 * n]);
  }
}

// y = Σ_k w_k t_k.
template <typename T>
KIMGNN_CLONES void weigh(T* __restrict y, const T* __restrict t, const T* w, Index n) {
  const T w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5];
#pragma omp simd
  for (Index c = 0; c < n; ++c) {
    y[c] = w0 * t[c] + w1 * t[c + n] + w2 * t[c + 2 * n] + w3 * t[c + 3 * n] + w4 * t[c + 4 * n] + w5 * t[c + 5 * n];
  }
}

// y_k += Σ_c a_c b_c t_kc.
template <typename T>
KIMGNN_CLONES void add_dots(T* y, const T* __restrict a, const T* __restrict b, const T* __restrict t, Index n) {
  T y0 = 0, y1 = 0, y2 = 0, y3 = 0, y4 = 0, y5 = 0;
#pragma omp simd reduction(+ : y0, y1, y2, y3, y4, y5)
  for (Index c = 0; c < n; ++c) {
    const T product = a[c] * b[c];
    y0 += product * t[c];
    y1 += product * t[c + n];
    y2 += product * t[c + 2 * n];
    y3 += product * t[c + 3 * n];
    y4 += product * t[c + 4 * n];
    y5 += product * t[c + 5 * n];
  }
  y[0] += y0, y[1] += y1, y[2] += y2, y[3] += y3, y[4] += y4, y[5] += y5;
}

// What one run of an operator is given. Errors are thrown as their text.
class Run {
 public:
  Run(const OrtApi& api, OrtKernelContext* context) : api_(api), context_(context) {}

  template <typename T>
  Matrix<const T> input(std::size_t index) const {
    const OrtValue* value = nullptr;
    check(api_.KernelContext_GetInput(context_, index, &value));
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api_.GetTensorTypeAndShape(value, &info));
    std::size_t rank = 0;
    std::array<Index, 2> sizes = {0, 1};
    OrtStatus* status = api_.GetDimensionsCount(info, &rank);
    if (status == nullptr && rank >= 1 && rank <= 2) status = api_.GetDimensions(info, sizes.data(), rank);
    api_.ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    if (rank < 1 || rank > 2) throw std::invalid_argument("an input has neither one dimension nor two");
    void* data = nullptr;
    check(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return {static_cast<const T*>(data), sizes[0], sizes[1]};
  }

  template <typename T>
  Matrix<T> output(Index rows, Index columns) const {
    const std::array sizes = {rows, columns};
    OrtValue* value = nullptr;
    check(api_.KernelContext_GetOutput(context_, 0, sizes.data(), sizes.size(), &value));
    void* data = nullptr;
    check(api_.GetTensorMutableData(value, &data));
    return {static_cast<T*>(data), rows, columns};
  }

  // Calls `of_row` for every row of the output, in any order, on the session's threads.
  template <typename OfRow>
  void for_rows(Index rows, const OfRow& of_row) const {
    struct Tasks {
      const OfRow& of_row;
      Index rows;
    } tasks{of_row, rows};
    const auto run = [](void* data, std::size_t task) noexcept {
      const auto& given = *static_cast<const Tasks*>(data);
      const Index begin = static_cast<Index>(task) * kRowsOfTask;
      for (Index row = begin; row < std::min(begin + kRowsOfTask, given.rows); ++row) given.of_row(row);
    };
    const auto count = static_cast<std::size_t>((rows + kRowsOfTask - 1) / kRowsOfTask);
    if (count > 0) check(api_.KernelContext_ParallelFor(context_, run, count, 0, &tasks));
  }

 private:
  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    const std::string message = api_.GetErrorMessage(status);
    api_.ReleaseStatus(status);
    throw std::invalid_argument(message);
  }

  const OrtApi& api_;
  OrtKernelContext* context_;
};

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Whether every index is that of a row.
bool are_rows(const Matrix<const Index>& indices, Index rows) {
  return std::all_of(indices.data, indices.data + indices.rows * indices.columns,
                     [rows](Index index) { return index >= 0 && index < rows; });
}

template <typename T>
void require_table(const Matrix<const T>& table, const Matrix<const Index>& first) {
  require(table.rows >= static_cast<Index>(kRows) && are_rows(first, table.rows - static_cast<Index>(kRows) + 1),
          "rows that are not in the table");
}

// WeightedRows (table, first, weights): the six rows from `first`, weighed and added.
template <typename T>
struct WeightedRows {
  static constexpr std::array kFloats = {true, false, true};

  static void run(const Run& run) {
    const auto table = run.input<T>(0);
    const auto first = run.input<Index>(1);
    const auto weights = run.input<T>(2);
    require_table(table, first);
    require(weights.rows == first.rows && weights.columns == kRows, "weights that are not those of six rows");
    const auto result = run.output<T>(first.rows, table.columns);
    run.for_rows(first.rows, [&](Index p) {
      weigh(result.row(p), table.row(first.data[p]), weights.row(p), table.columns);
    });
  }
};

// DotRows (gradient, table, first): scalar products with the six rows.
template <typename T>
struct DotRows {
  static constexpr std::array kFloats = {true, true, false};

  static void run(const Run& run) {
    const auto gradient = run.input<T>(0);
    const auto table = run.input<T>(1);
    const auto first = run.input<Index>(2);
    require_table(table, first);
    require(gradient.rows == first.rows && gradient.columns == table.columns, "a gradient of another shape");
    const auto result = run.output<T>(first.rows, kRows);
    const std::vector<T> ones(static_cast<std::size_t>(table.columns), T(1));
    run.for_rows(first.rows, [&](Index p) {
      std::fill_n(result.row(p), kRows, T(0));
      add_dots(result.row(p), gradient.row(p), ones.data(), table.row(first.data[p]), table.columns);
    });
  }
};

// FilteredSum (values, table, first, weights, source, pair, edges): for each row of `edges`, over the edges e in it that
// there are, Σ_e (Σ_k weights[pair_e, k] table[first[pair_e] + k]) values[source_e].
template <typename T>
struct FilteredSum {
  static constexpr std::array kFloats = {true, true, false, true, false, false, false};

  static void run(const Run& run) {
    const auto values = run.input<T>(0);
    const auto table = run.input<T>(1);
    const auto first = run.input<Index>(2);
    const auto weights = run.input<T>(3);
    const auto source = run.input<Index>(4);
    const auto pair = run.input<Index>(5);
    const auto edges = run.input<Index>(6);
    require_table(table, first);
    require(weights.rows == first.rows && weights.columns == kRows, "weights that are not those of six rows");
    require(values.columns == table.columns, "values of another shape");
    require(are_rows(source, values.rows) && are_rows(pair, first.rows) && source.rows == pair.rows, "no such edge");
    const auto result = run.output<T>(edges.rows, table.columns);
    run.for_rows(edges.rows, [&](Index row) {
      T* const sum = result.row(row);
      std::fill_n(sum, table.columns, T(0));
      for (Index column = 0; column < edges.columns; ++column) {
        const Index edge = edges.row(row)[column];
        if (edge < 0 || edge >= source.rows) continue;
        const Index p = pair.data[edge];
        const T* const w = weights.row(p);
        if (std::all_of(w, w + kRows, [](T weight) { return weight == 0; })) continue;  // beyond the cutoff
        add_filtered(sum, values.row(source.data[edge]), table.row(first.data[p]), w, table.columns);
      }
    });
  }
};

// FilterProducts (gradient, values, table, first, receiver, sender, first_edge, second_edge): for each pair, the scalar
// products of the six rows with Σ_e gradient[receiver_e] values[sender_e] over those of its two edges that there are.
template <typename T>
struct FilterProducts {
  static constexpr std::array kFloats = {true, true, true, false, false, false, false, false};

  static void run(const Run& run) {
    const auto gradient = run.input<T>(0);
    const auto values = run.input<T>(1);
    const auto table = run.input<T>(2);
    const auto first = run.input<Index>(3);
    const auto receiver = run.input<Index>(4);
    const auto sender = run.input<Index>(5);
    const std::array of_pair = {run.input<Index>(6), run.input<Index>(7)};
    require_table(table, first);
    require(gradient.columns == table.columns && values.columns == table.columns, "values of another shape");
    require(are_rows(receiver, gradient.rows) && are_rows(sender, values.rows) && receiver.rows == sender.rows,
            "no such edge");
    require(of_pair[0].rows == first.rows && of_pair[1].rows == first.rows, "edges of other pairs");
    const auto result = run.output<T>(first.rows, kRows);
    run.for_rows(first.rows, [&](Index p) {
      std::fill_n(result.row(p), kRows, T(0));
      for (const auto& edges : of_pair) {
        const Index edge = edges.data[p];
        if (edge < 0 || edge >= receiver.rows) continue;
        add_dots(result.row(p), gradient.row(receiver.data[edge]), values.row(sender.data[edge]),
                 table.row(first.data[p]), table.columns);
      }
    });
  }
};

// An operator for tensors of T, as ONNX Runtime wants to be told of it.
template <template <typename> typename Operator, typename T>
const OrtCustomOp* described(const char* name) {
  struct Described : OrtCustomOp {
    const char* name;
  };
  static constexpr auto kType =
      std::is_same_v<T, double> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  static const Described op = [name] {
    Described op{};
    op.name = name;
    op.version = 17;
    op.GetName = [](const OrtCustomOp* self) noexcept { return static_cast<const Described*>(self)->name; };
    op.GetExecutionProviderType = [](const OrtCustomOp*) noexcept -> const char* { return nullptr; };  // the CPU's
    op.GetInputTypeCount = [](const OrtCustomOp*) noexcept { return Operator<T>::kFloats.size(); };
    op.GetInputType = [](const OrtCustomOp*, std::size_t index) noexcept {
      return Operator<T>::kFloats[index] ? kType : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    };
    op.GetOutputTypeCount = [](const OrtCustomOp*) noexcept { return std::size_t{1}; };
    op.GetOutputType = [](const OrtCustomOp*, std::size_t) noexcept { return kType; };
    op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) noexcept { return INPUT_OUTPUT_REQUIRED; };
    op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) noexcept { return INPUT_OUTPUT_REQUIRED; };
    op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) noexcept { return OrtMemTypeDefault; };
    op.GetStartVersion = [](const OrtCustomOp*) noexcept { return 1; };
    op.GetEndVersion = [](const OrtCustomOp*) noexcept { return 1; };
    op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo*, void** kernel) noexcept {
      *kernel = const_cast<OrtApi*>(api);  // all that a kernel has
      return static_cast<OrtStatus*>(nullptr);
    };
    op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) noexcept {
      const auto& api = *static_cast<const OrtApi*>(kernel);
      try {
        Operator<T>::run(Run(api, context));
        return static_cast<OrtStatus*>(nullptr);
      } catch (const std::exception& error) {
        return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
      }
    };
    op.KernelDestroy = [](void*) noexcept {};
    return op;
  }();
  return &op;
}

}  // namespace

std::span<const OrtCustomOp* const> table_operators() {
  // A name has one signature, so each precision has names of its own.
  static const std::array operators = {
      described<WeightedRows, double>("WeightedRows"),     described<WeightedRows, float>("WeightedRowsFloat"),
      described<DotRows, double>("DotRows"),               described<DotRows, float>("DotRowsFloat"),
      described<FilteredSum, double>("FilteredSum"),       described<FilteredSum, float>("FilteredSumFloat"),
      described<FilterProducts, double>("FilterProducts"), described<FilterProducts, float>("FilterProductsFloat"),
  };
  return operators;
}

}  // namespace kimgnn

// For ONNX Runtime in Python: SessionOptions.register_custom_ops_library.
extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(17);
  if (api == nullptr) return nullptr;  // too old for kernels of ours: it computes the functions in the file
  OrtCustomOpDomain* domain = nullptr;  // as long as the process
  OrtStatus* status = api->CreateCustomOpDomain(kimgnn::kTableDomain, &domain);
  for (const OrtCustomOp* op : kimgnn::table_operators()) {
    if (status == nullptr) status = api->CustomOpDomain_Add(domain, op);
  }
  return status == nullptr ? api->AddCustomOpDomain(options, domain) : status;
}
