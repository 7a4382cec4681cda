// SPDX-License-Identifier: Apache-2.0
#include "tests/pkcs11_fault/fault_script.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

namespace coffer::tests {
namespace {

unsigned long number(const std::string& text) {
  return std::strtoul(text.c_str(), nullptr, 0);
}

}  // namespace

FaultScript& FaultScript::instance() {
  static auto* script = new FaultScript;  // Never destroyed: calls may come as the process ends.
  return *script;
}

void FaultScript::reload() {
  if (path_.empty()) {
    const char* path = std::getenv("COFFER_TEST_PKCS11_FAULTS");
    path_ = path != nullptr ? path : "/nonexistent";
  }
  struct stat status{};
  std::ostringstream identity;
  if (::stat(path_.c_str(), &status) == 0)
    identity << status.st_ino << ' ' << status.st_mtim.tv_sec << ' ' << status.st_mtim.tv_nsec
             << ' ' << status.st_size;
  if (identity.str() == seen_) return;
  seen_ = identity.str();
  rules_.clear();
  calls_.clear();
  hidden_.clear();
  pin_tries_ = -1;
  const bool before = std::exchange(removed_, false);
  std::ifstream file(path_);
  for (std::string line; std::getline(file, line);) parse(line);
  if (before && !removed_) was_removed_ = true;
}

void FaultScript::parse(const std::string& line) {
  static const std::map<std::string, FaultKind> kKinds{{"return", FaultKind::kReturn},
                                                       {"delay", FaultKind::kDelay},
                                                       {"hang", FaultKind::kHang},
                                                       {"crash", FaultKind::kCrash},
                                                       {"crash-after", FaultKind::kCrashAfter},
                                                       {"drop", FaultKind::kDrop},
                                                       {"flip", FaultKind::kFlip},
                                                       {"zero", FaultKind::kZero},
                                                       {"size", FaultKind::kSize}};
  std::istringstream words(line);
  std::string subject;
  std::string action;
  std::string argument;
  words >> subject >> action >> argument;
  if (subject.empty() || subject.front() == '#') return;
  if (subject == "removed") {
    removed_ = true;
  } else if (subject == "hide") {
    hidden_.insert(number(action));
  } else if (subject == "pin-tries") {
    pin_tries_ = static_cast<int>(number(action));
  } else {
    Rule rule;
    const auto at = subject.find('@');
    rule.function = subject.substr(0, at);
    if (at != std::string::npos) {
      rule.first = static_cast<unsigned>(number(subject.substr(at + 1)));
      if (!subject.ends_with('+')) rule.last = rule.first;
    }
    const auto kind = kKinds.find(action);
    if (kind == kKinds.end()) std::abort();  // A mistake in a test must not pass as no fault.
    rule.fault = {kind->second, number(argument)};
    rules_.push_back(std::move(rule));
  }
}

std::vector<Fault> FaultScript::begin_call(std::string_view function) {
  const std::scoped_lock lock(mutex_);
  reload();
  auto found = calls_.find(function);
  if (found == calls_.end()) found = calls_.emplace(std::string(function), 0).first;
  const unsigned call = ++found->second;
  std::vector<Fault> faults;
  for (const auto& rule : rules_) {
    if (rule.function == function && call >= rule.first && call <= rule.last)
      faults.push_back(rule.fault);
  }
  return faults;
}

bool FaultScript::removed() {
  const std::scoped_lock lock(mutex_);
  reload();
  return removed_;
}

bool FaultScript::was_removed() {
  const std::scoped_lock lock(mutex_);
  reload();
  return std::exchange(was_removed_, false);
}

bool FaultScript::hides(CK_MECHANISM_TYPE mechanism) {
  const std::scoped_lock lock(mutex_);
  reload();
  return hidden_.contains(mechanism);
}

int FaultScript::pin_tries_max() {
  const std::scoped_lock lock(mutex_);
  reload();
  return pin_tries_;
}

int FaultScript::pin_tries_left() {
  const std::scoped_lock lock(mutex_);
  reload();
  int left = pin_tries_;
  std::ifstream file(path_ + ".pin");
  if (left >= 0) file >> left;
  return left;
}

void FaultScript::set_pin_tries_left(int tries) {
  const std::scoped_lock lock(mutex_);
  std::ofstream(path_ + ".pin") << tries << '\n';
}

void FaultScript::log(const std::string& line) {
  const std::scoped_lock lock(mutex_);
  reload();
  std::ofstream(path_ + ".log", std::ios::app) << line << '\n';
}

}  // namespace coffer::tests
