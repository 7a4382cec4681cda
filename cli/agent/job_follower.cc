// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/job_follower.h"

#include <unistd.h>

#include <csignal>
#include <iostream>
#include <set>

#include "cli/agent/table.h"
#include "core/base/clock.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr auto kLookInterval = std::chrono::seconds(2);  // Should a signal be lost.
constexpr auto kDrawInterval = std::chrono::milliseconds(200);
constexpr std::uint32_t kPage = 500;
constexpr std::size_t kBarWidth = 30;

volatile std::sig_atomic_t caught = 0;

// Turns Ctrl-C into a flag while it lives.
class InterruptFlag {
 public:
  InterruptFlag() {
    caught = 0;
    struct sigaction action{};
    action.sa_handler = [](int) { caught = 1; };
    ::sigaction(SIGINT, &action, &before_);  // Without SA_RESTART: the wait returns.
  }
  ~InterruptFlag() { ::sigaction(SIGINT, &before_, nullptr); }
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;

 private:
  struct sigaction before_{};
};

bool has_ended(const json::object& job) {
  const auto state = text_of(job, "State");
  return state != "queued" && state != "running";
}

std::string job_number(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

std::string error_text(const json::object& item) {
  const auto error = short_error_name(text_of(item, "error"));
  const auto text = text_of(item, "text");
  const auto note = text_of(item, "note");
  if (error.empty()) return note;
  return error + ": " + text + (note.empty() ? "" : " (" + note + ")");
}

std::string shown_name(const json::object& item) {
  const auto name = text_of(item, "name");
  return name.empty() ? text_of(item, "uuid") : name;
}

}  // namespace

JobFollower::JobFollower(AgentBus& bus, const AgentOptions& options, Invocation& invocation)
    : bus_(bus),
      options_(options),
      invocation_(invocation),
      terminal_(&invocation.err == &std::cerr && ::isatty(STDERR_FILENO) != 0 && !options.json) {
  if (options_.no_wait) return;
  listening_ =
      bus_.listen("org.coffer.Agent1.Job",
                  [this](const std::string& path, const std::string& member,
                         const json::array& arguments) { on_signal(path, member, arguments); })
          .has_value();
}

int JobFollower::follow_answer(const Result<json::array>& answer) {
  if (!answer) return report_error(answer.error(), options_, invocation_);
  const std::string path(answer->at(0).as_string());
  if (!options_.no_wait) return follow(path);
  if (options_.json) return print_json(json::object{{"Path", path}}, invocation_);
  invocation_.out << "job " << job_number(path) << " runs; `coffer job wait " << job_number(path)
                  << "` follows it\n";
  return kExitOk;
}

int JobFollower::follow(const std::string& path) {
  path_ = path;
  learn_names();
  const InterruptFlag flag;
  const auto ended = wait_for_end();
  clear_bar();
  if (!ended) return report_error(ended.error(), options_, invocation_);
  return has_ended(job_) ? finish() : interrupted();
}

void JobFollower::learn_names() {
  const auto details = job_details(bus_, path_);
  if (!details) return;
  for (const auto& item : *details)
    names_[text_of(item.as_object(), "uuid")] = shown_name(item.as_object());
}

void JobFollower::on_signal(const std::string& path, const std::string& member,
                            const json::array& arguments) {
  if (path != path_) return;
  if (member == "Completed") progress_.completed = true;
  if (member != "ItemDone" || arguments.size() != 3) return;
  ++progress_.done;
  if (terminal_ || options_.json) return;
  const std::string uuid(arguments[0].as_string());
  const auto known = names_.find(uuid);  // Not there: a volume that this job makes.
  const auto error = short_error_name(arguments[2].as_string());
  invocation_.err << (known == names_.end() ? uuid : known->second) << ": "
                  << std::string_view(arguments[1].as_string())
                  << (error.empty() ? "" : ", " + error) << "\n";
}

Result<bool> JobFollower::look() {
  auto job = bus_.properties(path_, "Job");
  if (!job) return tl::unexpected(job.error());
  job_ = std::move(*job);
  progress_.total = number_of(job_, "Total");
  progress_.done = std::max(progress_.done, number_of(job_, "Done"));
  return has_ended(job_);
}

Result<void> JobFollower::wait_for_end() {
  auto look_at = system_clock().steady();
  for (;;) {
    if (progress_.completed || system_clock().steady() >= look_at) {
      const auto ended = look();
      if (!ended) return pass(ended.error(), "follow job " + job_number(path_));
      if (*ended) return take_the_rest();
      look_at = system_clock().steady() + kLookInterval;
      progress_.completed = false;
    }
    draw();
    if (caught != 0) return {};
    if (const auto waited = bus_.wait(kDrawInterval); !waited)
      return tl::unexpected(waited.error());
  }
}

// Of a job that was faster than we looked: its signals came before what we saw of it.
Result<void> JobFollower::take_the_rest() {
  for (;;) {
    const auto more = bus_.wait(std::chrono::milliseconds(0));
    if (!more) return tl::unexpected(more.error());
    if (!*more) break;
  }
  draw();
  return {};
}

void JobFollower::draw() {
  if (!terminal_ || progress_.total == 0) return;
  const auto done = std::min(progress_.done, progress_.total);
  const auto filled = static_cast<std::size_t>(kBarWidth * done / progress_.total);
  invocation_.err << "\r" << text_of(job_, "Operation") << " [" << std::string(filled, '#')
                  << std::string(kBarWidth - filled, '.') << "] " << done << "/" << progress_.total
                  << "\033[K" << std::flush;
}

void JobFollower::clear_bar() {
  if (terminal_ && progress_.total > 0) invocation_.err << "\r\033[K" << std::flush;
}

int JobFollower::interrupted() {
  const auto number = job_number(path_);
  invocation_.err << "coffer: not waiting any longer; job " << number
                  << " goes on. `coffer job wait " << number << "` follows it, `coffer job cancel "
                  << number << "` stops it.\n";
  return kExitInterrupted;
}

int JobFollower::finish() {
  const auto details = job_details(bus_, path_);
  if (!details) return report_error(details.error(), options_, invocation_);
  const int status = status_of_job(text_of(job_, "State"), *details);
  if (options_.json) {
    auto document = with_path(job_, path_);
    document["Results"] = *details;
    print_json(document, invocation_);
    return status;
  }
  print_job_results(job_, *details, invocation_);
  return status;
}

Result<json::array> job_details(AgentBus& bus, const std::string& path) {
  json::array all;
  for (;;) {
    auto page = bus.call(path, "Job", "GetDetails", [&](sd_bus_message* m) {
      return ::sd_bus_message_append(m, "uu", static_cast<std::uint32_t>(all.size()), kPage);
    });
    if (!page) return page;
    auto& items = page->at(0).as_array();
    for (auto& item : items) all.push_back(std::move(item));
    if (items.size() < kPage) return all;
  }
}

int status_of_job(const std::string& state, const json::array& details) {
  int status = kExitOk;
  for (const auto& item : details) {
    const auto error = text_of(item.as_object(), "error");
    if (error.empty()) continue;
    const int own = reason_info(reason_of_error_name(error)).exit_status;
    if (status == kExitOk || status == 75) status = own;
  }
  if (status != kExitOk || state == "done") return status;
  // It failed without an item that says why.
  return state == "failed" ? reason_info(Reason::kInternal).exit_status
                           : reason_info(Reason::kCancelled).exit_status;
}

void print_job_results(const json::object& job, const json::array& details,
                       Invocation& invocation) {
  Table table({"VOLUME", "RESULT", "USABLE", "SETTLED", ""});
  std::set<std::string_view> advice;
  for (const auto& entry : details) {
    const auto& item = entry.as_object();
    table.add({shown_name(item), text_of(item, "result"),
               duration_text(number_of(item, "usable-usec")),
               duration_text(number_of(item, "settled-usec")), error_text(item)});
    const auto error = text_of(item, "error");
    if (!error.empty()) advice.insert(what_to_do(reason_of_error_name(error)));
  }
  if (!table.empty()) table.print(invocation.out);
  invocation.out << text_of(job, "Operation") << ": " << text_of(job, "State");
  if (const auto message = text_of(job, "Message"); !message.empty())
    invocation.out << ", " << message;
  // A job that runs has no end yet; a clock that was set back makes no duration.
  const auto start = number_of(job, "StartTime");
  const auto end = number_of(job, "EndTime");
  if (end > start) invocation.out << " (" << duration_text(end - start) << ")";
  invocation.out << "\n";
  for (const auto sentence : advice) {
    if (!sentence.empty()) invocation.err << "  " << sentence << "\n";
  }
}

}  // namespace coffer::cli
