// The part of ONNX Runtime's C interface that is used here. The wheel of onnxruntime has the library and no headers, so
// where the system has none either, this declares it: OrtApi is a table of functions to which each version of the
// library only appends, and the order of these was fixed by version 1.5 (onnxruntime_c_api.h, struct OrtApi).

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

enum ONNXTensorElementDataType { ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11 };
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };

// The entries are numbered from 0; what lies between those used is left unnamed.
struct OrtApi {
  void* unused_0_to_1[2];
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
  void* unused_26_to_29[4];
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
  void* unused_50_to_54[5];
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo* info, const OrtTensorTypeAndShapeInfo** tensor);
  void* unused_56_to_59[4];
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType* type);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo* info, std::size_t* count);
  void* unused_62_to_68[7];
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType allocator, OrtMemType memory, OrtMemoryInfo** info);
  void* unused_70_to_75[6];
  OrtStatus* (*AllocatorFree)(OrtAllocator* allocator, void* pointer);
  void* unused_77;
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator** allocator);
  void* unused_79_to_91[13];
  void (*ReleaseEnv)(OrtEnv* env);
  void (*ReleaseStatus)(OrtStatus* status);
  void (*ReleaseMemoryInfo)(OrtMemoryInfo* info);
  void (*ReleaseSession)(OrtSession* session);
  void (*ReleaseValue)(OrtValue* value);
  void* unused_97;
  void (*ReleaseTypeInfo)(OrtTypeInfo* info);
  void* unused_99;
  void (*ReleaseSessionOptions)(OrtSessionOptions* options);
  void* unused_101_to_129[29];
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions* options, const char* key, const char* value);
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);  // null where the library is older
  const char* (*GetVersionString)();
};

const OrtApiBase* OrtGetApiBase();

}  // extern "C"

static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void*));
static_assert(offsetof(OrtApi, AddSessionConfigEntry) == 130 * sizeof(void*));

#endif
