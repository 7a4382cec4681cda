// SPDX-License-Identifier: Apache-2.0
// `coffer selftest`: known answers, and every vector file there is something to run for.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <iomanip>
#include <iterator>
#include <memory>
#include <ostream>
#include <span>
#include <vector>

#include "cli/commands.h"
#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"

namespace coffer::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string vectors;
  bool json = false;
};

FileReport skipped(std::string_view why, std::size_t cases) {
  FileReport report;
  report.skip(why, cases);
  return report;
}

FileReport broken(const Error& error) {
  FileReport report;
  report.count(false, error.str());
  return report;
}

// A file that cannot be read fails: it is there, and proves nothing.
FileReport run_suite(const fs::path& folder, const VectorSuite& suite) {
  if (!fs::exists(folder / suite.file)) return skipped("no such file", 1);
  if (suite.run == nullptr) {
    const auto cases = count_cases(folder / suite.file);
    return cases ? skipped(suite.skip_reason, *cases) : broken(cases.error());
  }
  auto report = suite.run(folder, suite);
  return report ? std::move(*report) : broken(report.error());
}

// Whether a suite says what it does with the file.
bool is_known(const fs::path& file) {
  return std::ranges::any_of(vector_suites(), [&](const VectorSuite& suite) {
    return fs::path(suite.file).lexically_normal() == file;
  });
}

// Files of vectors that nothing here runs: said, so that a folder's result is about all of it.
std::vector<FileReport> report_unknown(const fs::path& folder) {
  std::vector<FileReport> reports;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    const auto file = at->path().lexically_relative(folder);
    if (file.extension() != ".json" || !at->is_regular_file(error) || is_known(file)) continue;
    const auto cases = count_cases(at->path());
    reports.push_back(
        skipped("no suite reads this file", cases ? std::max<std::size_t>(*cases, 1) : 1));
    reports.back().file = file.string();
  }
  if (error)
    reports.push_back(broken(fail_errno(error.value(), "look through the folder").value()));
  std::ranges::sort(reports, {}, &FileReport::file);
  return reports;
}

boost::json::object as_json(const FileReport& report) {
  boost::json::object skipped;
  for (const auto& [reason, cases] : report.skipped) skipped[reason] = cases;
  boost::json::array failures;
  for (const auto& name : report.failures) failures.emplace_back(name);
  return {{"file", report.file},
          {"passed", report.passed},
          {"failed", report.failed},
          {"skipped", report.skipped_count()},
          {"skip_reasons", std::move(skipped)},
          {"failures", std::move(failures)}};
}

void print_text(std::ostream& out, const std::vector<FileReport>& reports) {
  out << std::setw(7) << "passed" << std::setw(7) << "failed" << std::setw(8) << "skipped"
      << "  file\n";
  for (const auto& report : reports) {
    out << std::setw(7) << report.passed << std::setw(7) << report.failed << std::setw(8)
        << report.skipped_count() << "  " << report.file;
    for (const auto& [reason, cases] : report.skipped)
      out << "  (" << cases << ": " << reason << ")";
    out << "\n";
    for (const auto& name : report.failures) out << "          FAILED " << name << "\n";
  }
}

void print_json(std::ostream& out, const std::vector<FileReport>& reports, std::size_t failed) {
  boost::json::array files;
  for (const auto& report : reports) files.push_back(as_json(report));
  const boost::json::object root = {{"passed", failed == 0}, {"files", std::move(files)}};
  out << boost::json::serialize(root) << "\n";
}

int selftest(const Options& options, Invocation& invocation) {
  const fs::path folder = options.vectors;
  if (!options.vectors.empty() && !fs::is_directory(folder)) {
    invocation.err << "coffer: " << options.vectors << ": not a folder\n";
    return kExitUsage;
  }
  std::vector<FileReport> reports = run_known_answers();
  const std::size_t known_answers = reports.size();
  if (!options.vectors.empty()) {
    for (const auto& suite : vector_suites()) {
      reports.push_back(run_suite(folder, suite));
      reports.back().file = suite.file;
    }
    std::ranges::move(report_unknown(folder), std::back_inserter(reports));
    // A folder of something else proves nothing.
    const auto vectors = std::span(reports).subspan(known_answers);
    if (std::ranges::all_of(vectors, [](const auto& r) { return r.passed + r.failed == 0; })) {
      reports.emplace_back().file = options.vectors;
      reports.back().count(false, "no case was run");
    }
  }
  std::size_t failed = 0;
  for (const auto& report : reports) failed += report.failed;
  if (options.json) {
    print_json(invocation.out, reports, failed);
  } else {
    print_text(invocation.out, reports);
    invocation.out << (failed == 0 ? "all passed\n" : "FAILED\n");
  }
  return failed == 0 ? kExitOk : kExitNo;
}

}  // namespace

void declare_selftest(CLI::App& parent, Invocation& invocation) {
  CLI::App* const command =
      parent.add_subcommand("selftest", "Check the algorithms and formats against known answers");
  const auto options = std::make_shared<Options>();
  command->add_option("--vectors", options->vectors, "A folder of vector files to run as well");
  command->add_flag("--json", options->json, "One JSON object");
  command->callback([options, &invocation] {
    invocation.action = [options, &invocation] { return selftest(*options, invocation); };
  });
}

}  // namespace coffer::cli
