// SPDX-License-Identifier: Apache-2.0
// coffer-boot-wait: waits until the volumes that open at boot are open or have failed, and says how
// they are, one line each. It succeeds whatever they did, so that an operator can log in.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "core/base/error_reasons.h"
#include "core/ipc/boot_protocol.h"
#include "core/ipc/client.h"
#include "core/ipc/sockets.h"

namespace coffer {
namespace {

constexpr std::string_view kUsage =
    "usage: coffer-boot-wait [--socket PATH] [--deadline SECONDS] [--limit SECONDS] [--strict]\n"
    "  --deadline  how long to wait for the volumes (default, and at most: as cofferd is "
    "configured)\n"
    "  --limit     how long to wait for a cofferd that does not answer (default 65)\n"
    "  --strict    fail unless every volume is open\n";
constexpr int kExitUsage = 64;
constexpr std::chrono::milliseconds kPauseMax{500};
constexpr std::chrono::milliseconds kFirstWait{1};  // For the answer that says: I am there.
constexpr std::chrono::milliseconds kAfterRefusal{200};
// After the deadline, for cofferd to say how far it came. With the longest boot.deadline_seconds
// (150) that is below TimeoutStartSec= of coffer-boot.service (180).
constexpr std::chrono::seconds kTellMax{5};

struct Arguments {
  std::string socket = "/run/coffer/boot.sock";
  std::chrono::milliseconds deadline{0};
  std::chrono::seconds limit{65};  // The default of boot.deadline_seconds, and kTellMax.
  bool strict = false;
};

std::optional<std::chrono::seconds> seconds_of(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > 86'400) {
    return std::nullopt;
  }
  return std::chrono::seconds(value);
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name(argv[i]);
    if (name == "--strict") {
      out.strict = true;
      continue;
    }
    if (++i == argc) return std::nullopt;
    const std::string_view value(argv[i]);
    const auto seconds = seconds_of(value);
    if (name == "--socket") {
      out.socket = value;
    } else if (name == "--deadline" && seconds) {
      out.deadline = *seconds;
    } else if (name == "--limit" && seconds) {
      out.limit = *seconds;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

// Whether cofferd may answer otherwise in a moment: it is away, still begins, or a disk is slow.
bool passes(Reason reason) {
  return reason == Reason::kAgentUnreachable || reason_info(reason).retryable == Retryable::kYes;
}

// Asks until cofferd answers: it may be killed and come back meanwhile, or be too busy with its
// start. Whether it is there at all shows in an answer that waits for nothing, and that tells its
// deadline. All counts from here: the longest wait is the limit, or that deadline and kTellMax.
Result<ipc::BootReport> wait_for_report(const Arguments& arguments) {
  ipc::Client::Options options;
  options.peer = "cofferd";
  options.lost = Reason::kAgentUnreachable;
  options.backoff_max = kPauseMax;
  options.connect = [&](Deadline deadline) { return ipc::connect_to(arguments.socket, deadline); };
  ipc::Client client(std::move(options));
  const SteadyTime start = system_clock().steady();
  Deadline end(start + arguments.limit);
  Deadline volumes(start);  // Until when they are waited for, once cofferd has told.
  bool is_there = false;
  std::optional<Error> refusal;  // What it said last, if it came to say anything.
  while (true) {
    const auto wait = is_there ? std::max(volumes.left(), kFirstWait) : kFirstWait;
    const auto reply = client.call(ipc::kTypeBootWait, ipc::encode_boot_request(wait), end);
    if (reply) {
      auto report = ipc::decode_boot_report(reply->body);
      if (is_there || !report || report->finished) return report;
      is_there = true;
      const bool own = arguments.deadline.count() == 0 || arguments.deadline > report->deadline;
      volumes = Deadline(start + (own ? report->deadline : arguments.deadline));
      end = Deadline(std::max(start + arguments.limit, volumes.at() + kTellMax));
      continue;
    }
    const Reason reason = reply.error().reason();
    if (!passes(reason)) return tl::unexpected(reply.error());
    if (end.passed()) return tl::unexpected(refusal.value_or(reply.error()));
    if (reason != Reason::kAgentUnreachable) {
      refusal = reply.error();
      std::this_thread::sleep_for(kAfterRefusal);
    }
    is_there = false;
  }
}

void print(const ipc::BootReport& report) {
  for (const auto& line : report.lines) {
    const char* level = line.state == "unlocked" ? "<6>" : "<4>";
    std::printf("%s%s: %s%s%s\n", level, line.name.c_str(), line.state.c_str(),
                line.text.empty() ? "" : ", ", line.text.c_str());
  }
  std::printf("<5>%u of %u volumes are open%s\n", report.open, report.total,
              report.finished ? "" : "; the others are still being opened: the boot goes on");
}

int boot_wait(int argc, char** argv) {
  const auto arguments = parse(argc, argv);
  if (!arguments) {
    std::fwrite(kUsage.data(), 1, kUsage.size(), stderr);
    return kExitUsage;
  }
  const auto report = wait_for_report(*arguments);
  if (!report) {
    const Reason reason = report.error().reason();
    const bool silent = reason == Reason::kAgentUnreachable || reason == Reason::kTimedOut;
    std::printf("<3>cofferd %s, the boot goes on: %s\n",
                silent ? "does not answer" : "cannot begin", report.error().str().c_str());
    return arguments->strict ? 1 : 0;
  }
  print(*report);
  return arguments->strict && report->open < report->total ? 1 : 0;
}

}  // namespace
}  // namespace coffer

int main(int argc, char** argv) try { return coffer::boot_wait(argc, argv); } catch (...) {
  return 70;
}
