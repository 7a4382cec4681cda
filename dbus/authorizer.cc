// SPDX-License-Identifier: Apache-2.0
#include "dbus/authorizer.h"

#include <map>

namespace coffer::dbus {
namespace {

constexpr const char* kPolkitName = "org.freedesktop.PolicyKit1";
constexpr const char* kPolkitPath = "/org/freedesktop/PolicyKit1/Authority";
constexpr const char* kPolkitInterface = "org.freedesktop.PolicyKit1.Authority";
constexpr std::uint32_t kAllowUserInteraction = 1;

// Questions in flight for one call. Interactive ones go one by one, so that the first password
// serves the others where the action says "keep".
constexpr std::size_t kInFlightMax = 16;

Result<MessagePtr> make_check(sd_bus* bus, const AuthorizationQuestion& question,
                              const AuthorizationDetails& details, const std::string& cancel_id) {
  sd_bus_message* message = nullptr;
  int r = ::sd_bus_message_new_method_call(bus, &message, kPolkitName, kPolkitPath,
                                           kPolkitInterface, "CheckAuthorization");
  MessagePtr call(message);
  if (r >= 0)
    r = ::sd_bus_message_append(message, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                question.bus_name.c_str(), question.action.c_str());
  if (r >= 0) r = ::sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "{ss}");
  for (const auto& [name, value] : details) {
    if (r >= 0)
      r = ::sd_bus_message_append(message, "{ss}", name.c_str(), printable_utf8(value).c_str());
  }
  if (r >= 0) r = ::sd_bus_message_close_container(message);
  if (r >= 0)
    r = ::sd_bus_message_append(message, "us", question.interactive ? kAllowUserInteraction : 0,
                                cancel_id.c_str());
  if (r < 0) return fail_errno(-r, "make the question to polkit", Reason::kInternal);
  return call;
}

AuthorizationAnswer read_answer(sd_bus_message* answer, bool interactive) {
  if (const auto* error = ::sd_bus_message_get_error(answer); error != nullptr)
    return {Verdict::kDenied, std::string("polkit did not answer: ") + error->name};
  int authorized = 0;
  int challenge = 0;
  if (::sd_bus_message_enter_container(answer, SD_BUS_TYPE_STRUCT, "bba{ss}") <= 0 ||
      ::sd_bus_message_read(answer, "bb", &authorized, &challenge) < 0)
    return {Verdict::kDenied, "polkit's answer cannot be read"};
  if (authorized != 0) return {Verdict::kAllowed, ""};
  if (challenge != 0 && !interactive)
    return {Verdict::kNeedsInteraction,
            "interactive authorization required: polkit wants a password"};
  return {Verdict::kDenied, "not authorized: polkit does not allow it"};
}

}  // namespace

class Authorization : public std::enable_shared_from_this<Authorization> {
 public:
  Authorization(sd_bus* bus, AuthorizationQuestion question, std::chrono::microseconds timeout,
                std::uint64_t serial, Authorizer::Done done)
      : bus_(::sd_bus_ref(bus)),
        question_(std::move(question)),
        timeout_(timeout),
        serial_(serial),
        done_(std::move(done)) {}

  ~Authorization() {
    for (const auto& [index, check] : checks_) withdraw(index);
  }
  Authorization(const Authorization&) = delete;
  Authorization& operator=(const Authorization&) = delete;

  // False: a question could not be sent.
  bool fill_window() {
    const std::size_t window = question_.interactive ? 1 : kInFlightMax;
    while (next_ < question_.objects.size() && checks_.size() < window) {
      if (!ask_one(next_++)) return false;
    }
    return true;
  }

 private:
  struct Check {
    Authorization* owner = nullptr;
    std::size_t index = 0;
    SlotPtr slot;
  };

  std::string cancel_id(std::size_t index) const {
    return "coffer-" + std::to_string(serial_) + "-" + std::to_string(index);
  }

  bool ask_one(std::size_t index) {
    auto& check = checks_[index];
    check = std::make_unique<Check>(Check{this, index, nullptr});
    const auto call = make_check(bus_.get(), question_, question_.objects[index], cancel_id(index));
    sd_bus_slot* slot = nullptr;
    if (!call || ::sd_bus_call_async(bus_.get(), &slot, call->get(), &Authorization::on_answer,
                                     check.get(), static_cast<std::uint64_t>(timeout_.count())) < 0)
      return false;
    check->slot.reset(slot);
    return true;
  }

  void withdraw(std::size_t index) {
    ::sd_bus_call_method_async(bus_.get(), nullptr, kPolkitName, kPolkitPath, kPolkitInterface,
                               "CancelCheckAuthorization", nullptr, nullptr, "s",
                               cancel_id(index).c_str());
  }

  static int on_answer(sd_bus_message* answer, void* userdata, sd_bus_error*) noexcept try {
    const auto* check = static_cast<Check*>(userdata);
    // done_ may drop the last reference to us.
    const auto self = check->owner->shared_from_this();
    const auto index = check->index;
    self->on_verdict(index, read_answer(answer, self->question_.interactive));
    return 1;
  } catch (const std::exception&) {
    return -ENOMEM;
  }

  void on_verdict(std::size_t index, const AuthorizationAnswer& answer) {
    checks_.erase(index);
    const bool allowed = answer.verdict == Verdict::kAllowed;
    if (allowed && ++allowed_ < question_.objects.size()) {
      if (!fill_window()) finish({Verdict::kDenied, "polkit cannot be asked"});
      return;
    }
    finish(answer);
  }

  void finish(const AuthorizationAnswer& answer) {
    if (const auto done = std::exchange(done_, nullptr); done) done(answer);
  }

  BusPtr bus_;
  const AuthorizationQuestion question_;
  const std::chrono::microseconds timeout_;
  const std::uint64_t serial_;
  Authorizer::Done done_;
  std::map<std::size_t, std::unique_ptr<Check>> checks_;
  std::size_t next_ = 0;
  std::size_t allowed_ = 0;
};

std::shared_ptr<Authorization> Authorizer::ask(AuthorizationQuestion question, Done done) {
  const auto timeout = question.interactive ? timeouts_.interactive : timeouts_.silent;
  // A question without an object would be allowed by nobody's decision.
  if (question.objects.empty()) question.objects.emplace_back();
  auto authorization = std::make_shared<Authorization>(bus_, std::move(question), timeout,
                                                       ++last_serial_, std::move(done));
  if (!authorization->fill_window()) return nullptr;
  return authorization;
}

}  // namespace coffer::dbus
