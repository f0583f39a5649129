# cmake --install: bin/slmi, the libraries it needs beside it (libtorch and those of the distribution, glibc and the compiler's
# apart), configs and data. The tree can be moved, and starts without the .venv.
set_target_properties(slmi PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
# RPATH, not RUNPATH: it holds for the libraries of libraries too, which have none of their own (libspdlog needs libfmt).
target_link_options(slmi PRIVATE -Wl,--disable-new-dtags)
install(TARGETS slmi RUNTIME DESTINATION bin)

# What libtorch opens by name at run time, so that no link list holds it.
set(SLMI_OPENED_LIBRARIES "")
if(SLMI_WITH_CUDA)
  file(GLOB SLMI_OPENED_LIBRARIES ${SLMI_TORCH_PREFIX}/lib/libcaffe2_nvrtc.so ${SLMI_TORCH_PREFIX}/lib/libtorch_cuda_linalg.so
    ${SLMI_TORCH_PREFIX}/../nvidia/cudnn/lib/libcudnn*.so.* ${SLMI_TORCH_PREFIX}/../nvidia/*/lib/libnvrtc*.so.*)
endif()
install(CODE "set(slmi_program \"$<TARGET_FILE:slmi>\")\nset(slmi_opened \"${SLMI_OPENED_LIBRARIES}\")")
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/InstallLibraries.cmake)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs ${PROJECT_SOURCE_DIR}/data DESTINATION share/slmi)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/slmi)
