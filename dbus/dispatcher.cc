// SPDX-License-Identifier: Apache-2.0
#include "dbus/dispatcher.h"

#include "dbus/actions.h"
#include "dbus/errors.h"
#include "dbus/paths.h"

namespace coffer::dbus {

// The call, answered at the latest when the last Reply goes.
struct Reply::State {
  MessagePtr call;
  std::vector<Callers::Place> places;
  bool answered = false;

  explicit State(MessagePtr the_call) : call(std::move(the_call)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (!answered) send_error(call.get(), Error(Reason::kInternal, "the call was dropped"));
  }

  bool take() {
    places.clear();
    return !std::exchange(answered, true);
  }
};

Reply::Reply(sd_bus_message* call, Callers::Place place)
    : state_(std::make_shared<State>(share(call))) {
  hold(std::move(place));
}

void Reply::hold(Callers::Place place) const {
  if (place) state_->places.push_back(std::move(place));
}

void Reply::ok() const {
  fill([](sd_bus_message*) { return 0; });
}

void Reply::fill(const std::function<int(sd_bus_message*)>& append) const {
  if (!state_->take()) return;
  sd_bus_message* answer = nullptr;
  int r = ::sd_bus_message_new_method_return(state_->call.get(), &answer);
  const MessagePtr owned(answer);
  if (r >= 0) r = append(answer);
  if (r >= 0) r = ::sd_bus_send(nullptr, answer, nullptr);
  if (r < 0)
    send_error(state_->call.get(), fail_errno(-r, "make the answer", Reason::kInternal).value());
}

void Reply::path(const std::string& object_path) const {
  fill([&](sd_bus_message* answer) {
    return ::sd_bus_message_append_basic(answer, SD_BUS_TYPE_OBJECT_PATH, object_path.c_str());
  });
}

void Reply::job(const Result<agent::JobId>& job) const {
  if (!job) return error(job.error());
  path(job_path(*job));
}

void Reply::result(const Result<void>& result) const {
  if (!result) return error(result.error());
  ok();
}

void Reply::error(const Error& error) const {
  if (state_->take()) send_error(state_->call.get(), error);
}

void Reply::needs_interaction(const std::string& why) const {
  if (!state_->take()) return;
  ::sd_bus_reply_method_errorf(state_->call.get(), kInteractiveAuthorizationRequired, "%s",
                               printable_utf8(why).c_str());
}

struct Dispatcher::Pending {
  Reply reply;
  MessagePtr call;
  Planner planner;
  agent::Caller caller;
  bool identified = false;
  Plan plan;
  std::shared_ptr<Authorization> authorization;
};

Dispatcher::Dispatcher(Context& context, Callers& callers, Authorizer& authorizer)
    : context_(context), callers_(callers), authorizer_(authorizer) {}

Dispatcher::~Dispatcher() = default;

void Dispatcher::start(sd_bus_message* call, Planner planner) {
  const char* sender = ::sd_bus_message_get_sender(call);
  const char* member = ::sd_bus_message_get_member(call);
  if (sender == nullptr || member == nullptr)
    return send_error(call, Error(Reason::kAccessDenied, "the call names no sender"));

  const std::string name = sender;
  auto place = callers_.admit(name);
  if (!place) return send_error(call, place.error());

  const auto serial = ++last_serial_;
  auto pending = std::make_unique<Pending>(
      Pending{Reply(call, std::move(*place)), share(call), planner, {}, false, {}, {}});
  pending->caller.bus_name = name;
  pending->caller.origin = "dbus";
  pending_.emplace(serial, std::move(pending));
  callers_.identify(
      name, [this, serial](const Result<std::uint32_t>& uid) { on_identified(serial, uid); });
}

void Dispatcher::on_identified(std::uint64_t serial, const Result<std::uint32_t>& uid) {
  const auto at = pending_.find(serial);
  if (at == pending_.end()) return;
  auto& pending = *at->second;
  if (!uid) return refuse(serial, uid.error());
  pending.caller.uid = *uid;
  pending.identified = true;

  auto place = callers_.admit_uid(*uid);
  if (!place) return refuse(serial, place.error());
  pending.reply.hold(std::move(*place));
  plan_and_authorize(serial, pending);
}

void Dispatcher::plan_and_authorize(std::uint64_t serial, Pending& pending) {
  auto* call = pending.call.get();
  const auto* row =
      find_method_action(::sd_bus_message_get_interface(call), ::sd_bus_message_get_member(call));
  if (row == nullptr)
    return refuse(serial, Error(Reason::kAccessDenied, "the method has no action"));

  auto plan = pending.planner(context_, call);
  if (!plan) return refuse(serial, plan.error());
  pending.plan = std::move(*plan);
  pending.caller.reason = pending.plan.reason;
  if (pending.caller.uid == 0) return run(serial);

  const char* action = pending.plan.action != nullptr ? pending.plan.action : row->action;
  pending.caller.polkit_action = action;
  const bool interactive =
      pending.plan.interactive && ::sd_bus_message_get_allow_interactive_authorization(call) > 0;
  pending.authorization = authorizer_.ask(
      {pending.caller.bus_name, action, pending.plan.subjects, interactive},
      [this, serial](const AuthorizationAnswer& answer) { on_answer(serial, answer); });
  if (!pending.authorization)
    refuse(serial, Error(Reason::kAccessDenied, "polkit cannot be asked"));
}

void Dispatcher::on_answer(std::uint64_t serial, const AuthorizationAnswer& answer) {
  const auto at = pending_.find(serial);
  if (at == pending_.end()) return;
  auto& pending = *at->second;
  if (answer.verdict == Verdict::kNeedsInteraction) {
    record(pending, Error(Reason::kAccessDenied, answer.why));
    pending.reply.needs_interaction(answer.why);
    pending_.erase(at);
    return;
  }
  if (answer.verdict != Verdict::kAllowed)
    return refuse(serial, Error(Reason::kAccessDenied, answer.why));

  // The answer was about the objects as they were shown to polkit.
  if (pending.plan.recheck) {
    if (const auto same = pending.plan.recheck(); !same) return refuse(serial, same.error());
  }
  run(serial);
}

void Dispatcher::run(std::uint64_t serial) {
  const auto node = pending_.extract(serial);
  const auto& pending = *node.mapped();
  pending.plan.run(pending.caller, pending.reply);
}

void Dispatcher::refuse(std::uint64_t serial, const Error& error) {
  const auto node = pending_.extract(serial);
  if (node.empty()) return;
  record(*node.mapped(), error);
  node.mapped()->reply.error(error);
}

void Dispatcher::record(const Pending& pending, const Error& error) {
  // Whose call it was is not known before the bus has said: nothing can be recorded of it.
  if (!pending.identified) return;
  const auto* row = find_method_action(::sd_bus_message_get_interface(pending.call.get()),
                                       ::sd_bus_message_get_member(pending.call.get()));
  const auto& plan = pending.plan;
  std::string operation = plan.audited_as;
  if (operation.empty()) operation = row != nullptr ? row->audited_as : "call.unknown";
  const auto objects = plan.objects.empty() ? std::vector{plan.object} : plan.objects;
  for (const auto& object : objects)
    context_.engine.record_refusal(operation, object, error, pending.caller);
}

void Dispatcher::on_vanished(const std::string& name) {
  std::vector<std::uint64_t> gone;
  for (const auto& [serial, pending] : pending_) {
    if (pending->caller.bus_name == name) gone.push_back(serial);
  }
  for (const auto serial : gone)
    refuse(serial, Error(Reason::kAccessDenied, "the caller left before it was allowed"));
}

}  // namespace coffer::dbus
