# The driver of TorchScript and pt2 networks: libtorch stays where it is, in the torch package.

# Not find_package(Torch): for a CUDA wheel it asks for a CUDA toolkit, which nothing here needs.
set(KIMGNN_TORCH_DIR "$ENV{KIMGNN_TORCH_DIR}" CACHE PATH "Folder of the torch package, with include/ and lib/")
find_path(TORCH_INCLUDE_DIR torch/script.h HINTS "${KIMGNN_TORCH_DIR}/include")
foreach(name torch torch_cpu c10)
  find_library(${name}_LIBRARY ${name} HINTS "${KIMGNN_TORCH_DIR}/lib")
  list(APPEND TORCH_LIBRARIES "${${name}_LIBRARY}")
endforeach()
if(NOT TORCH_INCLUDE_DIR OR NOT torch_LIBRARY OR NOT torch_cpu_LIBRARY OR NOT c10_LIBRARY)
  message(FATAL_ERROR "libtorch not found. Set KIMGNN_TORCH_DIR to what "
    "`python -c 'import torch; print(torch.__path__[0])'` prints, or run `kimgnn driver install`.")
endif()

target_sources(${PROJECT_NAME} PRIVATE pt2_backend.cpp torchscript_backend.cpp)
target_compile_definitions(${PROJECT_NAME} PRIVATE KIMGNN_WITH_TORCH)
target_include_directories(${PROJECT_NAME} SYSTEM PRIVATE
  "${TORCH_INCLUDE_DIR}" "${TORCH_INCLUDE_DIR}/torch/csrc/api/include"
)
# libtorch must outlive the model: KIM closes the driver with it, and torch's threads do not survive being unloaded.
# libtorch.so itself is linked although no symbol is taken from it: in a CUDA wheel it brings the CUDA kernels.
target_link_options(${PROJECT_NAME} PRIVATE -Wl,--no-as-needed -Wl,-z,nodelete)
target_link_libraries(${PROJECT_NAME} PRIVATE ${TORCH_LIBRARIES})
set_target_properties(${PROJECT_NAME} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON BUILD_WITH_INSTALL_RPATH ON)
