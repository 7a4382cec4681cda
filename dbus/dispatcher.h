// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/engine.h"
#include "dbus/authorizer.h"
#include "dbus/callers.h"
#include "dbus/message.h"
#include "dbus/options.h"

namespace coffer::dbus {

struct Context;

// Reply answers one call, now or later, from any callback on the loop. Copies share the call; the
// first answer counts, and a Reply that is dropped unanswered answers Internal: no caller waits
// for nothing.
class Reply {
 public:
  explicit Reply(sd_bus_message* call, Callers::Place place = {});

  void hold(Callers::Place place) const;  // Given back with the answer.

  void ok() const;
  void fill(const std::function<int(sd_bus_message*)>& append) const;
  void path(const std::string& object_path) const;
  void job(const Result<agent::JobId>& job) const;  // The path of the job, or its error.
  void result(const Result<void>& result) const;    // Nothing, or its error.
  void error(const Error& error) const;
  void needs_interaction(const std::string& why) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Plan is what a method makes of its arguments before anybody is asked: whom it concerns and what
// will be done. Nothing is done while it is made.
struct Plan {
  std::string operation;                       // "unlock": for polkit.
  std::string object;                          // The volume, key or device, for the audit trail.
  std::vector<std::string> objects;            // Where they are several: each has its record.
  std::string audited_as;                      // "": as the method's row says.
  const char* action = nullptr;                // Null: the one of the method's row.
  std::vector<AuthorizationDetails> subjects;  // One question to polkit each.
  bool interactive = true;                     // The caller's options did not forbid it.
  std::string reason;                          // The caller's own words.

  // Asked after the answer, which may have taken minutes: are the objects still those that were
  // shown? An error refuses the call.
  std::function<Result<void>()> recheck;
  std::function<void(const agent::Caller&, const Reply&)> run;
};
using Planner = Result<Plan> (*)(Context&, sd_bus_message*);

// Dispatcher takes every method call on its way: who calls (asked of the bus), is there room for
// it, what would it do (the planner), may the caller do that (polkit, unless root), are the
// objects unchanged, and then it runs. A caller that leaves before it was allowed gets nothing;
// what was refused is recorded by the engine.
//
// Bound to the event loop and to one connection.
class Dispatcher {
 public:
  Dispatcher(Context& context, Callers& callers, Authorizer& authorizer);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Takes over `call`: it is answered later.
  void start(sd_bus_message* call, Planner planner);

  // `name` left the bus: what it asked for and was not yet allowed ends here.
  void on_vanished(const std::string& name);

  std::size_t pending() const noexcept { return pending_.size(); }

 private:
  struct Pending;
  void on_identified(std::uint64_t serial, const Result<std::uint32_t>& uid);
  void plan_and_authorize(std::uint64_t serial, Pending& pending);
  void on_answer(std::uint64_t serial, const AuthorizationAnswer& answer);
  void run(std::uint64_t serial);
  void refuse(std::uint64_t serial, const Error& error);
  void record(const Pending& pending, const Error& error);

  Context& context_;
  Callers& callers_;
  Authorizer& authorizer_;
  std::map<std::uint64_t, std::unique_ptr<Pending>> pending_;
  std::uint64_t last_serial_ = 0;
};

// What the vtables of all objects see. sd-bus asks whether an object exists (find_… in the object
// files) right before it reads its properties, so the answer is kept here for the getters.
struct Context {
  agent::Engine& engine;
  Dispatcher* dispatcher = nullptr;

  std::optional<agent::VolumeInfo> volume;
  std::optional<agent::JobInfo> job;
  std::optional<agent::KeyInfo> key;
  std::optional<agent::ProviderInfo> provider;
};

// The vtable entry of a method: hands the call to the dispatcher.
template <Planner kPlanner>
int on_call(sd_bus_message* call, void* userdata, sd_bus_error*) noexcept try {
  static_cast<Context*>(userdata)->dispatcher->start(call, kPlanner);
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

}  // namespace coffer::dbus
