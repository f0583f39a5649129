# Run at each build: cmake -DSOURCE=dir -DOUT=file [-DGIT=program] -P WriteCommit.cmake
# Writes the commit as a C macro, and touches the file only if it changed. "unknown" where git or its history is missing, or
# where the sources lie inside some other project's repository.
set(commit "")
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  get_filename_component(source_real ${SOURCE} REALPATH)
  if(top STREQUAL source_real)
    execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --tags --dirty --abbrev=12
      OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
if(NOT commit MATCHES "^[-+./A-Za-z0-9_]+$")
  set(commit unknown)
endif()
set(text "#define SLMI_COMMIT \"${commit}\"\n")
set(before "")
if(EXISTS ${OUT})
  file(READ ${OUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
