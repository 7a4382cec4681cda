// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_link.h"

#include <utility>

#include "core/base/bytes.h"
#include "hsm/sdf_errors.h"

namespace coffer::hsm {
namespace {

template <std::size_t N>
std::string unpadded(const std::array<char, N>& field) {
  const std::string_view text(field.data(), N);
  const auto last = text.find_last_not_of(std::string_view(" \0", 2));
  return printable(text.substr(0, last == std::string_view::npos ? 0 : last + 1), N);
}

unsigned long read_device(SdfSession& session, SdfLink::Device& out) {
  sdf::DeviceInfo info{};
  const auto rv = session.read_info(info);
  out = {unpadded(info.issuer), unpadded(info.name), unpadded(info.serial)};
  return rv;
}

}  // namespace

SdfLink::SdfLink(Options options, OnOpened on_opened)
    : options_(std::move(options)),
      on_opened_(std::move(on_opened)),
      pause_(options_.reconnect_pause, *options_.clock) {}

SdfLink::~SdfLink() {
  disconnect();
}

bool SdfLink::connected() {
  const std::shared_lock together(gate_);
  return facts_.has_value();
}

std::uint64_t SdfLink::failures() const {
  return pause_.failures();
}

Result<void> SdfLink::run(std::string_view step, const Work& work) {
  for (bool repeated = false;; repeated = true) {
    if (const auto ready = connect_if_needed(false); !ready) return pass(ready.error(), step);
    const auto made = attempt(work);
    if (made.rv == sdf::kOk) return {};
    pause_.count_failure();
    const auto reaction = sdf_return_info(made.rv).reaction;
    // Sessions and keys are opened and imported anew by the next attempt.
    if (reaction == Reaction::kReopenAndRepeat && !repeated) continue;
    if (reaction == Reaction::kReload) disconnect_from(made.generation);
    return fail_sdf_return(made.rv, step);
  }
}

SdfLink::Attempt SdfLink::attempt(const Work& work) {
  const std::shared_lock together(gate_);
  Attempt made;
  made.generation = generation_;
  if (!facts_) {
    made.rv = sdf::kCommFail;
    return made;
  }
  {
    SdfSessions::Lease lease;
    made.rv = sessions_->take(lease);
    if (made.rv == sdf::kOk) made.rv = work(lease.session());
    if (made.rv == sdf::kOk) return made;
    lease.spoil();
  }
  if (sdf_return_info(made.rv).kind == ReturnClass::kSessionLost) sessions_->drop_idle();
  return made;
}

Result<void> SdfLink::while_connected(const std::function<void(const Device&)>& look) {
  if (const auto ready = connect_if_needed(false); !ready) return ready;
  const std::shared_lock together(gate_);
  if (!facts_) return fail(Reason::kHsmAbsent, "the device went away");
  look(*facts_);
  return {};
}

Result<SdfLink::Device> SdfLink::probe(const Work& work) {
  if (const auto ready = connect_if_needed(true); !ready) return tl::unexpected(ready.error());
  Device before;
  if (const auto known = while_connected([&](const Device& device) { before = device; }); !known)
    return tl::unexpected(known.error());
  Device now;
  const auto well = run("probe the device", [&](SdfSession& session) {
    const auto rv = read_device(session, now);
    return rv == sdf::kOk ? work(session) : rv;
  });
  if (!well) return tl::unexpected(well.error());
  if (now.serial == before.serial) return now;
  // Another device behind the same library: what is known of the old one does not hold.
  const std::unique_lock alone(gate_);
  disconnect();
  return fail(Reason::kHsmAbsent, "the device is " + now.serial + " now, not " + before.serial);
}

Result<void> SdfLink::connect_if_needed(bool at_once) {
  if (connected()) return {};
  const std::unique_lock alone(gate_);
  if (facts_) return {};
  const auto now = options_.clock->steady();
  if (!at_once) {
    if (const auto may = pause_.may_try(); !may) return may;
  }
  const auto made = connect();
  if (!made) disconnect();
  pause_.tried(now, made);
  return made;
}

Result<void> SdfLink::connect() {
  if (!module_) {
    auto loaded = SdfModule::load(options_.library_path, options_.watch);
    if (!loaded) return tl::unexpected(loaded.error());
    module_ = std::move(*loaded);
  }
  const auto rv = module_->call(&SdfModule::Functions::open_device, &device_);
  if (rv != sdf::kOk) {
    device_ = nullptr;
    return fail_sdf_return(rv, "open the SDF device");
  }
  sessions_ = std::make_unique<SdfSessions>(*module_, device_, options_.kek, options_.sessions_max);
  return open();
}

Result<void> SdfLink::open() {
  SdfSessions::Lease lease;
  if (const auto rv = sessions_->take(lease); rv != sdf::kOk)
    return fail_sdf_return(rv, "open a session of the SDF device");
  const auto refused = [&](Error error) {
    lease.spoil();
    return tl::unexpected(std::move(error));
  };
  Device device;
  if (const auto rv = read_device(lease.session(), device); rv != sdf::kOk)
    return refused(fail_sdf_return(rv, "read which device it is").value());
  if (!options_.serial.empty() && device.serial != options_.serial)
    return refused(Error(Reason::kHsmAbsent, "the device's serial number is '" + device.serial +
                                                 "', not '" + options_.serial + "'"));
  if (auto known = on_opened_(lease.session(), *module_); !known)
    return refused(std::move(known.error()));
  facts_ = std::move(device);
  ++generation_;
  return {};
}

void SdfLink::disconnect() {
  facts_.reset();
  sessions_.reset();
  if (device_ != nullptr)
    module_->call(&SdfModule::Functions::close_device, std::exchange(device_, nullptr));
}

void SdfLink::disconnect_from(std::uint64_t generation) {
  const std::unique_lock alone(gate_);
  if (generation_ == generation) disconnect();
}

}  // namespace coffer::hsm
