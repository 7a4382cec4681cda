// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <iostream>

namespace coffer::bench {
namespace {

std::string text_of(const std::optional<Goal>& goal) {
  if (!goal) return "";
  return fmt::format("{} {:g}", goal->kind == GoalKind::kAtLeast ? ">=" : "<=", goal->value);
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back(), values.size()};
}

bool Figure::met() const {
  if (!goal) return true;
  return goal->kind == GoalKind::kAtLeast ? spread.median >= goal->value
                                          : spread.median <= goal->value;
}

void print_table(std::ostream& out, std::span<const Figure> figures) {
  std::size_t width = 0;
  for (const auto& figure : figures) width = std::max(width, figure.name.size());
  out << fmt::format("{:<{}} {:>12} {:>12} {:>12}  {:<8} {}\n", "", width, "median", "min", "max",
                     "unit", "goal");
  for (const auto& figure : figures) {
    const auto& spread = figure.spread;
    out << fmt::format("{:<{}} {:>12.2f} {:>12.2f} {:>12.2f}  {:<8} {}{}\n", figure.name, width,
                       spread.median, spread.min, spread.max, figure.unit, text_of(figure.goal),
                       figure.met() ? "" : "  MISSED");
  }
}

void print_json(std::ostream& out, std::span<const Figure> figures) {
  boost::json::array list;
  for (const auto& figure : figures) {
    boost::json::object entry{{"name", figure.name},      {"value", figure.spread.median},
                              {"unit", figure.unit},      {"min", figure.spread.min},
                              {"max", figure.spread.max}, {"runs", figure.spread.runs}};
    if (figure.goal) {
      entry["goal"] = text_of(figure.goal);
      entry["met"] = figure.met();
    }
    list.push_back(std::move(entry));
  }
  out << boost::json::serialize(list) << "\n";
}

int report(std::span<const Figure> figures, bool json) {
  if (json) {
    print_json(std::cout, figures);
  } else {
    print_table(std::cout, figures);
  }
  return std::ranges::all_of(figures, &Figure::met) ? 0 : 1;
}

}  // namespace coffer::bench
