// The part of ONNX Runtime's C interface that is used here. The wheel of onnxruntime has the library and no headers, so
// where the system has none either, this declares it: OrtApi is a table of functions to which each version of the
// library only appends, and the order of these was fixed by version 1.17 (onnxruntime_c_api.h, struct OrtApi).

#pragma once

#include <cstddef>
#include <cstdint>

#if __has_include(<onnxruntime_c_api.h>)

#include <onnxruntime_c_api.h>

#else

extern "C" {

struct OrtEnv;
struct OrtStatus;
struct OrtMemoryInfo;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtAllocator;
struct OrtApi;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtShapeInferContext;

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11
};
enum OrtErrorCode { ORT_INVALID_ARGUMENT = 2 };
enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0 };
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };

// An operator of ours, as version 17 of the interface describes them.
struct OrtCustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info);
  const char* (*GetName)(const OrtCustomOp* op);
  const char* (*GetExecutionProviderType)(const OrtCustomOp* op);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp* op, std::size_t index);
  std::size_t (*GetInputTypeCount)(const OrtCustomOp* op);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp* op, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const OrtCustomOp* op);
  void (*KernelCompute)(void* kernel, OrtKernelContext* context);
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp* op, std::size_t index);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp* op, std::size_t index);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp* op, std::size_t index);
  void* unused_variadic[4];
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext* context);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp* op, OrtShapeInferContext* context);
  int (*GetStartVersion)(const OrtCustomOp* op);
  int (*GetEndVersion)(const OrtCustomOp* op);
};

// The entries are numbered from 0; what lies between those used is left unnamed.
struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
  void* unused_1;
  const char* (*GetErrorMessage)(const OrtStatus* status);
  OrtStatus* (*CreateEnv)(OrtLoggingLevel level, const char* name, OrtEnv** env);
  void* unused_4_to_6[3];
  OrtStatus* (*CreateSession)(const OrtEnv* env, const char* path, const OrtSessionOptions* options,
                              OrtSession** session);
  void* unused_8;
  OrtStatus* (*Run)(OrtSession* session, const OrtRunOptions* options, const char* const* input_names,
                    const OrtValue* const* inputs, std::size_t num_inputs, const char* const* output_names,
                    std::size_t num_outputs, OrtValue** outputs);
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions** options);
  void* unused_11_to_16[6];
  OrtStatus* (*DisableMemPattern)(OrtSessionOptions* options);
  void* unused_18_to_23[6];
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions* options, int num_threads);
  OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions* options, int num_threads);
  OrtStatus* (*CreateCustomOpDomain)(const char* name, OrtCustomOpDomain** domain);
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain* domain, const OrtCustomOp* op);
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions* options, OrtCustomOpDomain* domain);
  void* unused_29;
  OrtStatus* (*SessionGetInputCount)(const OrtSession* session, std::size_t* count);
  OrtStatus* (*SessionGetOutputCount)(const OrtSession* session, std::size_t* count);
  void* unused_32;
  OrtStatus* (*SessionGetInputTypeInfo)(const OrtSession* session, std::size_t index, OrtTypeInfo** info);
  OrtStatus* (*SessionGetOutputTypeInfo)(const OrtSession* session, std::size_t index, OrtTypeInfo** info);
  void* unused_35;
  OrtStatus* (*SessionGetInputName)(const OrtSession* session, std::size_t index, OrtAllocator* allocator,
                                    char** name);
  OrtStatus* (*SessionGetOutputName)(const OrtSession* session, std::size_t index, OrtAllocator* allocator,
                                     char** name);
  void* unused_38_to_48[11];
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo* info, void* data, std::size_t num_bytes,
                                               const std::int64_t* shape, std::size_t rank,
                                               ONNXTensorElementDataType type, OrtValue** value);
  void* unused_50;
  OrtStatus* (*GetTensorMutableData)(OrtValue* value, void** data);
  void* unused_52_to_54[3];
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo* info, const OrtTensorTypeAndShapeInfo** tensor);
  void* unused_56_to_59[4];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType* type);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info, std::size_t* count);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo* info, std::int64_t* sizes, std::size_t count);
  void* unused_63_to_64[2];
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue* value, OrtTensorTypeAndShapeInfo** info);
  void* unused_66_to_68[3];
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType allocator, OrtMemType memory, OrtMemoryInfo** info);
  void* unused_70_to_75[6];
  OrtStatus* (*AllocatorFree)(OrtAllocator* allocator, void* pointer);
  void* unused_77;
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator** allocator);
  void* unused_79_to_89[11];
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext* context, std::size_t index, const OrtValue** value);
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext* context, std::size_t index, const std::int64_t* sizes,
                                        std::size_t rank, OrtValue** value);
  void (*ReleaseEnv)(OrtEnv* env);
  void (*ReleaseStatus)(OrtStatus* status);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo* info);
  void (*ReleaseSession)(OrtSession* session);
  void (*ReleaseValue)(OrtValue* value);
  void* unused_97;
  void (*ReleaseTypeInfo)(OrtTypeInfo* info);
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo* info);
  void (*ReleaseSessionOptions)(OrtSessionOptions* options);
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain* domain);
  void* unused_102_to_129[28];
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions* options, const char* key, const char* value);
  void* unused_131_to_273[143];
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext* context, void (*run)(void* data, std::size_t task),
                                          std::size_t tasks, std::size_t batches, void* data);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);  // null where the library is older
  const char* (*GetVersionString)();
};

const OrtApiBase* OrtGetApiBase();

}  // extern "C"

static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void*));
static_assert(offsetof(OrtApi, AddSessionConfigEntry) == 130 * sizeof(void*));
static_assert(offsetof(OrtApi, KernelContext_ParallelFor) == 274 * sizeof(void*));

#endif
