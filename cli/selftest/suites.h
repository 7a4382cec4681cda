// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "cli/selftest/report.h"

namespace coffer::cli {

// Answers that are known without any file: one report per library.
std::vector<FileReport> run_known_answers();

// One vector file and what runs it. A file that a suite does not know how to run is skipped by name
// with its reason, so that nothing is left out silently.
struct VectorSuite {
  std::string_view file;  // Path below the vector folder.
  Result<FileReport> (*run)(const std::filesystem::path& folder, const VectorSuite& suite);
  std::string_view skip_reason;  // Of suites that are not run.
};

// All of them, in the order of the README of the vectors.
std::span<const VectorSuite> vector_suites();

// The makers of the tables: each file of this folder runs one kind.
Result<FileReport> run_header_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& suite);
Result<FileReport> run_volume_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& suite);
Result<FileReport> run_inprogress_vectors(const std::filesystem::path& folder,
                                          const VectorSuite& suite);
Result<FileReport> run_sector_vectors(const std::filesystem::path& folder,
                                      const VectorSuite& suite);
Result<FileReport> run_json_vectors(const std::filesystem::path& folder, const VectorSuite& suite);
Result<FileReport> run_uri_vectors(const std::filesystem::path& folder, const VectorSuite& suite);
Result<FileReport> run_sm_vectors(const std::filesystem::path& folder, const VectorSuite& suite);
Result<FileReport> run_wycheproof(const std::filesystem::path& folder, const VectorSuite& suite);

}  // namespace coffer::cli
