// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "core/ipc/event_loop.h"
#include "dbus/service.h"
#include "tests/fakes/sim_engine.h"
#include "tests/integration/dbus/bus_client.h"
#include "tests/integration/dbus/fake_polkit.h"
#include "tests/support/private_bus.h"

namespace coffer::tests {

inline constexpr uid_t kNobody = 65534;

// A private bus, a polkit that the test decides for, the simulated engine and the service, all on
// one loop in one thread. `admin` is the user who runs the test: root, or one whom polkit allows.
class DbusTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!bus_.problem().empty()) GTEST_SKIP() << bus_.problem();
    loop = std::move(*ipc::EventLoop::make());
    polkit = std::make_unique<FakePolkit>(*loop, bus_.address());
    if (::geteuid() != 0) polkit->always(FakePolkit::Says::kYes);
    engine = std::make_unique<SimEngine>(*loop, engine_options);
    engine->add_key("default");
    start_service();
    admin = std::make_unique<BusClient>(*loop, bus_.address());
  }
  void TearDown() override {
    admin.reset();
    service.reset();
    engine.reset();
    polkit.reset();
  }

  void start_service() {
    service_options.address = bus_.address();
    service = std::move(*dbus::Service::start(*loop, *engine, service_options));
    ASSERT_TRUE(run_until(*loop, [&] { return service->owns_name(); }));
  }

  // A caller without rights, or null where we cannot be one: the test then skips.
  std::unique_ptr<BusClient> make_nobody() {
    if (::geteuid() != 0) return nullptr;
    return std::make_unique<BusClient>(*loop, bus_.address(), kNobody);
  }

  // Runs the loop until the job of `path` has completed, and tells its state.
  std::string wait_for_job(const std::string& path) {
    const auto number = path.substr(path.rfind('/') + 1);
    const auto id = static_cast<agent::JobId>(std::stoul(number));
    run_until(*loop, [&] {
      const auto job = engine->job(id);
      return !job || job->ended != WallTime{};
    });
    const auto job = engine->job(id);
    return job ? std::string(job_state_name(job->state)) : "gone";
  }

  PrivateBus bus_;
  SimEngine::Options engine_options;
  dbus::ServiceOptions service_options;
  std::unique_ptr<ipc::EventLoop> loop;
  std::unique_ptr<FakePolkit> polkit;
  std::unique_ptr<SimEngine> engine;
  std::unique_ptr<dbus::Service> service;
  std::unique_ptr<BusClient> admin;
};

}  // namespace coffer::tests
