// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/integration/dbus/bus_client.h"

namespace coffer::tests {

// FakePolkit is org.freedesktop.PolicyKit1 on the private bus: the test decides. It keeps every
// question, and can keep answers back.
class FakePolkit {
 public:
  enum class Says { kYes, kNo, kChallenge, kError, kNothing };
  struct Question {
    std::string subject_kind;
    std::string subject_name;
    std::string action;
    std::map<std::string, std::string> details;
    bool interactive = false;
    std::string cancel_id;
  };
  using Decide = std::function<Says(const Question&)>;

  FakePolkit(ipc::EventLoop& loop, const std::string& address);

  void decide(Decide decide) { decide_ = std::move(decide); }
  void always(Says says) {
    decide_ = [says](const Question&) { return says; };
  }
  // Answers wait from now on until let_go().
  void hold() { held_ = true; }
  void let_go();
  void leave() { client_.leave(); }

  const std::vector<Question>& questions() const noexcept { return questions_; }
  const std::vector<std::string>& cancelled() const noexcept { return cancelled_; }

  static int on_check(sd_bus_message* call, void* userdata, sd_bus_error*) noexcept;
  static int on_cancel(sd_bus_message* call, void* userdata, sd_bus_error*) noexcept;

 private:
  void answer(sd_bus_message* call, const Question& question);

  BusClient client_;
  Decide decide_;
  bool held_ = false;
  std::vector<Question> questions_;
  std::vector<std::string> cancelled_;
  std::vector<std::pair<std::shared_ptr<sd_bus_message>, Question>> waiting_;
};

}  // namespace coffer::tests
