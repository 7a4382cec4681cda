// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/mappings.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <filesystem>
#include <fstream>

#include "agent/worker/worker_service.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/agent/worker/fake_device_mapper.h"

namespace coffer::agent {
namespace {

using ::testing::IsEmpty;
using tests::FailsWith;
using tests::Succeeds;

const DmControl::CryptProbe kProbe{"aes-xts-plain64", 64, 4096, "254:16"};

class MappingsTest : public ::testing::Test {
 protected:
  Mappings::OpenControl control() {
    return [this] { return kernel_.open(); };
  }
  std::string mark_of(const std::string& name) const { return (folder_.path() / name).string(); }
  void put_mark(const std::string& name) const { std::ofstream(mark_of(name)).flush(); }

  const VolumeId volume_ = VolumeId(Uuid::random().value());
  FakeDeviceMapper kernel_;
  tests::TempDir folder_;
  Mappings mappings_{folder_.path().string(), control()};
};

TEST_F(MappingsTest, OnlyVolumesAreAskedForTheirTargetsAndNothingIsFlushed) {
  kernel_.put("data", {mapping_dm_uuid(volume_, "data"), true});
  kernel_.put("vg-root", {"LVM-AbCd", true, "linear"});
  kernel_.put("vg-pool", {"LVM-EfGh-tpool", true, "thin-pool"});
  kernel_.put("mpatha", {"mpath-3600", true, "multipath"});
  kernel_.put("swap", {"CRYPT-PLAIN-swap", true});
  kernel_.put("bare", {"", true, "linear"});
  // An older kernel's list is without UUIDs: there each has to be looked at.
  for (const auto& [minor, looks] : {std::pair(47U, 1U), std::pair(44U, 6U)}) {
    kernel_.set_minor_version(minor);
    const auto before = kernel_.looked();
    const auto found = mappings_.list();
    ASSERT_THAT(found, Succeeds());
    ASSERT_EQ(found->size(), 1U);
    EXPECT_EQ(found->front().name, "data");
    EXPECT_EQ(found->front().volume, volume_);
    EXPECT_EQ(found->front().state, MappingState::kActive);
    EXPECT_EQ(kernel_.looked() - before, looks);
  }
  EXPECT_THAT(mappings_.make_room("vg-pool", volume_), FailsWith(Reason::kMappingForeign));
  EXPECT_THAT(mappings_.deactivate("vg-pool", volume_, DeactivateMode::kForce,
                                   Deadline::after(std::chrono::seconds(1))),
              FailsWith(Reason::kMappingForeign));

  EXPECT_EQ(kernel_.asked().size(), 2U);
  for (const auto& [name, flags] : kernel_.asked()) {
    EXPECT_EQ(name, "data");
    EXPECT_NE(flags & DM_NOFLUSH_FLAG, 0U);
  }
}

TEST_F(MappingsTest, WhatIsPossibleIsAskedOfTheKernelThatWillBeUsed) {
  EXPECT_TRUE(mappings_.possible());
  const Mappings without(folder_.path().string(), []() -> Result<DmControl> {
    return fail(Reason::kUnsupported, "no device-mapper");
  });
  EXPECT_FALSE(without.possible());
}

TEST_F(MappingsTest, ProbeLeavesNothing) {
  EXPECT_THAT(mappings_.probe(kProbe), Succeeds());
  auto nonsense = kProbe;
  nonsense.cipher = "nonsense-xts-plain64";
  EXPECT_THAT(mappings_.probe(nonsense), FailsWith(Reason::kUnsupported));
  EXPECT_EQ(kernel_.size(), 0U);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(MappingsTest, ProbeUnderWayIsNotTakenForOneThatWasLeft) {
  std::vector<std::string> taken{"not looked"};
  kernel_.set_watch([&](unsigned long request, const std::string& /*unused*/) {
    if (request != DM_TABLE_LOAD) return;
    kernel_.set_watch({});
    taken = Mappings(folder_.path().string(), control()).clean_probes().value();
  });
  EXPECT_THAT(mappings_.probe(kProbe), Succeeds());
  EXPECT_THAT(taken, IsEmpty());
}

TEST_F(MappingsTest, FileOfAProbeStaysUntilTheKernelSaysThatItIsGone) {
  kernel_.set_refused(DM_DEV_STATUS, EIO);
  EXPECT_THAT(mappings_.probe(kProbe), Succeeds());
  EXPECT_FALSE(std::filesystem::is_empty(folder_.path()));
  EXPECT_THAT(mappings_.clean_probes(), Succeeds());
  EXPECT_FALSE(std::filesystem::is_empty(folder_.path()));

  kernel_.set_refused(0, 0);
  const auto held = mark_of("coffer-probe-held");
  put_mark("coffer-probe-held");
  const UniqueFd holder(::open(held.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(holder.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_THAT(mappings_.clean_probes(), Succeeds());
  EXPECT_TRUE(std::filesystem::remove(held)) << "its process lives and may be about to make it";
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(MappingsTest, WorkerTakesAwayTheProbesOfAKilledOneAtItsStart) {
  const auto name = [](const std::string& end) { return "coffer-probe-" + end; };
  for (const auto* end : {"left", "held", "unknown"}) kernel_.put(name(end), {});
  kernel_.put(name("used"), {"", true});
  for (const auto* end : {"left", "held", "used"}) put_mark(name(end));
  const UniqueFd holder(::open(mark_of(name("held")).c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(holder.get(), LOCK_EX | LOCK_NB), 0);

  WorkerService::Options options;
  options.mark_folder = folder_.path().string();
  options.device_mapper = control();
  WorkerService service(std::move(options));
  const auto cleaned = service.clean_up();
  ASSERT_THAT(cleaned, Succeeds());
  ASSERT_EQ(cleaned->size(), 1U);
  EXPECT_EQ(cleaned->front().name, name("left"));
  EXPECT_FALSE(kernel_.has(name("left")));
  EXPECT_FALSE(std::filesystem::exists(mark_of(name("left"))));
  EXPECT_TRUE(kernel_.has(name("held"))) << "its process lives";
  EXPECT_TRUE(kernel_.has(name("used"))) << "no probe has a live table";
  EXPECT_TRUE(kernel_.has(name("unknown"))) << "nobody knows whose it is";
}

}  // namespace
}  // namespace coffer::agent
