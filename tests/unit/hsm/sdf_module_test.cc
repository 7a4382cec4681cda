// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_module.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"
#include "tests/support/sdf_folder.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::sdf_library_path;
using tests::Succeeds;

TEST(SdfModuleTest, ARelativePathIsRefused) {
  EXPECT_THAT(SdfModule::load("libsdf.so", nullptr), FailsWith(Reason::kConfigInvalid));
}

TEST(SdfModuleTest, AFileThatIsNotThereOrNoLibraryIsRefused) {
  EXPECT_THAT(SdfModule::load("/nonexistent/libsdf.so", nullptr),
              FailsWith(Reason::kConfigInvalid));
  EXPECT_THAT(SdfModule::load("/etc/passwd", nullptr), FailsWith(Reason::kConfigInvalid));
}

TEST(SdfModuleTest, ALibraryThatLacksAFunctionIsRefusedByItsName) {
  const auto module = SdfModule::load(sdf_library_path("sdf-bare"), nullptr);
  ASSERT_THAT(module, FailsWith(Reason::kConfigInvalid));
  EXPECT_NE(module.error().message().find("SDF_GenerateKeyWithKEK"), std::string::npos);
}

TEST(SdfModuleTest, ALibraryOf2012HasNoHmacAndSaysSo) {
  const auto newer = SdfModule::load(sdf_library_path(), nullptr);
  ASSERT_THAT(newer, Succeeds());
  EXPECT_TRUE((*newer)->has_hmac());
  const auto older = SdfModule::load(sdf_library_path("sdf-2012"), nullptr);
  ASSERT_THAT(older, Succeeds());
  EXPECT_FALSE((*older)->has_hmac());
  void* const nothing = nullptr;
  EXPECT_EQ((*older)->call(&SdfModule::Functions::hmac_init, nothing, nothing, sdf::kSm3),
            sdf::kNotSupport);
}

}  // namespace
}  // namespace coffer::hsm
