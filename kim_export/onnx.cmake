# The driver of ONNX networks: ONNX Runtime's library is copied beside it, where it opens it when a model is created.

set(KIMGNN_ONNXRUNTIME_DIR "$ENV{KIMGNN_ONNXRUNTIME_DIR}" CACHE PATH "Folder with libonnxruntime.so.*")
file(GLOB ONNXRUNTIME_LIBRARY "${KIMGNN_ONNXRUNTIME_DIR}/libonnxruntime.so.*")
if(NOT ONNXRUNTIME_LIBRARY)
  find_library(ONNXRUNTIME_LIBRARY onnxruntime)
endif()
if(NOT ONNXRUNTIME_LIBRARY)
  message(FATAL_ERROR "ONNX Runtime not found. Set KIMGNN_ONNXRUNTIME_DIR to the folder `capi` in what "
    "`python -c 'import onnxruntime; print(onnxruntime.__path__[0])'` prints, or run `kimgnn driver install onnx`.")
endif()
list(GET ONNXRUNTIME_LIBRARY 0 ONNXRUNTIME_LIBRARY)
get_filename_component(ONNXRUNTIME_LIBRARY "${ONNXRUNTIME_LIBRARY}" REALPATH)

target_sources(${PROJECT_NAME} PRIVATE onnx_backend.cpp table_operators.cpp)
# All the work of the operators is in their inner loops; the pragmas let sums be taken in any order there.
set_source_files_properties(table_operators.cpp PROPERTIES COMPILE_OPTIONS "-O3;-fopenmp-simd")
target_link_libraries(${PROJECT_NAME} PRIVATE ${CMAKE_DL_LIBS})
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session)
if(ONNXRUNTIME_INCLUDE_DIR)
  target_include_directories(${PROJECT_NAME} SYSTEM PRIVATE "${ONNXRUNTIME_INCLUDE_DIR}")
endif()

# KIM tells no other way where it installs the driver.
_determine_collection_install_prefix_and_output_name("modelDriver")
install(FILES "${ONNXRUNTIME_LIBRARY}" DESTINATION "${ITEM_INSTALL_PREFIX}/${PROJECT_NAME}" RENAME libonnxruntime.so.1)
