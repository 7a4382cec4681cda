// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

namespace coffer::bench {

// What several runs of one thing gave: the median and the ends.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
  std::size_t runs = 0;
};

// `values` holds one value or more.
Spread spread_of(std::vector<double> values);

enum class GoalKind { kAtLeast, kAtMost };

// The value that a figure should reach or keep under.
struct Goal {
  GoalKind kind = GoalKind::kAtLeast;
  double value = 0;
};

struct Figure {
  std::string name;
  std::string unit;
  Spread spread;
  std::optional<Goal> goal;

  // By the median. True where there is no goal.
  bool met() const;
};

// A table for people: name, median, ends, unit, goal.
void print_table(std::ostream& out, std::span<const Figure> figures);

// A list of objects {name, value, unit, min, max, runs} and, where there is a goal, {goal, met};
// `goal` is a text such as ">= 5".
void print_json(std::ostream& out, std::span<const Figure> figures);

// What a benchmark's main() does at its end: prints in the form that `--json` asks for.
// 0, or 1 when a goal was missed.
int report(std::span<const Figure> figures, bool json);

}  // namespace coffer::bench
