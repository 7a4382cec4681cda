// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "cli/agent/agent_bus.h"
#include "cli/agent/report.h"

namespace coffer::cli {

// Exit status when the wait was interrupted (SIGINT, as a shell shows it): the job goes on.
inline constexpr int kExitInterrupted = 130;

// JobFollower waits for a job and shows how far it is: a bar on a terminal, a line per volume
// otherwise, nothing with --json; then a table of results. Make it before the job is started, so
// that no signal is missed. Ctrl-C ends the waiting, not the job.
class JobFollower {
 public:
  JobFollower(AgentBus& bus, const AgentOptions& options, Invocation& invocation);

  // `answer` is that of a call that gave a job: its error, or its path. With --no-wait the job is
  // named and left alone. The exit status: 0 when every item was done; else that of the failures:
  // 75 when the same command may work later for all of them, the status of the first that is final
  // otherwise.
  int follow_answer(const Result<boost::json::array>& answer);
  int follow(const std::string& path);

 private:
  struct Progress {
    std::uint64_t total = 0;
    std::uint64_t done = 0;
    bool completed = false;
  };

  void on_signal(const std::string& path, const std::string& member,
                 const boost::json::array& arguments);
  Result<void> wait_for_end();
  Result<void> take_the_rest();
  Result<bool> look();  // True once the job has ended.
  void learn_names();
  void draw();
  void clear_bar();
  int interrupted();
  int finish();

  AgentBus& bus_;
  const AgentOptions& options_;
  Invocation& invocation_;
  bool terminal_ = false;
  bool listening_ = false;
  std::string path_;
  boost::json::object job_;
  Progress progress_;
  std::map<std::string, std::string> names_;  // By UUID.
};

// All items of a job, page by page.
Result<boost::json::array> job_details(AgentBus& bus, const std::string& path);

// As follow() describes it, from the job's state and its items.
int status_of_job(const std::string& state, const boost::json::array& details);

void print_job_results(const boost::json::object& job, const boost::json::array& details,
                       Invocation& invocation);

}  // namespace coffer::cli
