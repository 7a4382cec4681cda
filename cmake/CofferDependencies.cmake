# SPDX-License-Identifier: Apache-2.0
# Every library Coffer uses, as an imported target. All of them are Debian 12 packages.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json)

foreach(module
    libcryptsetup libgcrypt liburing libsystemd p11-kit-1 fmt liblzma)
  string(MAKE_C_IDENTIFIER ${module} name)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${module})
endforeach()

if(BUILD_TESTING OR NOT DEFINED BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()
