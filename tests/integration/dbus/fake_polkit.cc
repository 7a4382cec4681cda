// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dbus/fake_polkit.h"

namespace coffer::tests {
namespace {

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", &FakePolkit::on_check,
                  SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("CancelCheckAuthorization", "s", "", &FakePolkit::on_cancel,
                  SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END};

int read_question(sd_bus_message* m, FakePolkit::Question& question) {
  const char* kind = nullptr;
  const char* name = nullptr;
  const char* action = nullptr;
  const char* cancel = nullptr;
  std::uint32_t flags = 0;
  int r = ::sd_bus_message_read(m, "(sa{sv})", &kind, 1, &name, "s", &name);
  // The one entry is {"name": <unique name>}; the value is read last into the same variable.
  if (r >= 0) r = ::sd_bus_message_read(m, "s", &action);
  if (r >= 0) r = ::sd_bus_message_enter_container(m, 'a', "{ss}");
  const char* key = nullptr;
  const char* value = nullptr;
  while (r >= 0 && (r = ::sd_bus_message_read(m, "{ss}", &key, &value)) > 0)
    question.details[key] = value;
  if (r >= 0) r = ::sd_bus_message_exit_container(m);
  if (r >= 0) r = ::sd_bus_message_read(m, "us", &flags, &cancel);
  if (r < 0) return r;
  question.subject_kind = kind;
  question.subject_name = name;
  question.action = action;
  question.interactive = (flags & 1U) != 0;
  question.cancel_id = cancel;
  return 0;
}

}  // namespace

FakePolkit::FakePolkit(ipc::EventLoop& loop, const std::string& address)
    : client_(loop, address), decide_([](const Question&) { return Says::kNo; }) {
  ::sd_bus_add_object_vtable(client_.bus(), nullptr, "/org/freedesktop/PolicyKit1/Authority",
                             "org.freedesktop.PolicyKit1.Authority", kVtable, this);
  ::sd_bus_request_name(client_.bus(), "org.freedesktop.PolicyKit1", 0);
}

int FakePolkit::on_check(sd_bus_message* call, void* userdata, sd_bus_error*) noexcept {
  auto* self = static_cast<FakePolkit*>(userdata);
  Question question;
  if (const int r = read_question(call, question); r < 0) return r;
  self->questions_.push_back(question);
  if (self->held_) {
    self->waiting_.emplace_back(
        std::shared_ptr<sd_bus_message>(::sd_bus_message_ref(call), ::sd_bus_message_unref),
        question);
    return 1;
  }
  self->answer(call, question);
  return 1;
}

int FakePolkit::on_cancel(sd_bus_message* call, void* userdata, sd_bus_error*) noexcept {
  const char* id = nullptr;
  if (const int r = ::sd_bus_message_read(call, "s", &id); r < 0) return r;
  static_cast<FakePolkit*>(userdata)->cancelled_.emplace_back(id);
  return ::sd_bus_reply_method_return(call, "");
}

void FakePolkit::answer(sd_bus_message* call, const Question& question) {
  switch (decide_(question)) {
    case Says::kYes:
      ::sd_bus_reply_method_return(call, "(bba{ss})", 1, 0, 0);
      return;
    case Says::kNo:
      ::sd_bus_reply_method_return(call, "(bba{ss})", 0, 0, 0);
      return;
    case Says::kChallenge:
      ::sd_bus_reply_method_return(call, "(bba{ss})", 0, 1, 0);
      return;
    case Says::kError:
      ::sd_bus_reply_method_errorf(call, "org.freedesktop.PolicyKit1.Error.Failed", "broken");
      return;
    case Says::kNothing:
      return;
  }
}

void FakePolkit::let_go() {
  held_ = false;
  for (const auto& [call, question] : std::exchange(waiting_, {})) answer(call.get(), question);
}

}  // namespace coffer::tests
